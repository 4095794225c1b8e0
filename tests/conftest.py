"""What every test shares: one thread, so that numbers do not depend on the machine, and a PostgreSQL server."""

import torch

from tests.servers import server as server

torch.set_num_threads(1)
