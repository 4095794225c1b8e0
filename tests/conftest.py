"""What every test shares: one thread, so that no number depends on the machine, signals, and a PostgreSQL server."""

import signal

import torch

from tests.servers import server as server

torch.set_num_threads(1)
# A shell that starts a command in the background has it ignore Ctrl-C, and nohup a closed terminal. What the tests
# start would ignore them too, and be waited for.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
