"""A worker that says what it was given, and stays until its standard input closes: ``python -m tests.environment``."""

import json
import os
import sys

sys.stdin.readline()  # its order
said = {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")}
print(json.dumps({"event": "seen", "pid": os.getpid(), **said}), flush=True)
sys.stdin.read()
