"""What this machine gives to the workers of a search: how many there are, their threads, how they keep memory."""

from __future__ import annotations

import os
from itertools import takewhile
from pathlib import Path

MOST_WORKERS = 8
"""Workers on the CPU, at most, where the user names no number."""
LARGE = 96 * 96
"""Pixels of images above which one worker trains at a time where the user names no number."""
MOST_THREADS = 8
"""Threads of one worker, at most."""
ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
"""Environment under which glibc's malloc keeps memory for the next step of a training, in huge pages where there are.

Otherwise it gives allocations above 32 MiB back at once and asks for them again, page by page: a quarter of the
processor time of a network with such maps (inception-cifar, batch 128: user 2.0 + system 0.8 s a step; 2.1 + 0.0 with
this; best of 3 steps). Smaller maps gain too: a step of a network of 50,770 parameters took 155 ms instead of 175, of
small-googlenet 304 instead of 329, of the middle `digits` network 7.3 instead of 8.1 (medians of 25 steps, mean of two
runs in turns, one thread of a quiet machine). Other systems' malloc does not know these names.
"""
SMALL = 12 * 12
"""Pixels of images whose networks train on one thread: as fast as on two, and not slowed by others on the cores.

Three epochs of `tiny` took 0.5 s on one thread; on two 0.5 to 15 s while other processes ran, since torch's threads
spin while they wait (two cores, n = 3).
"""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> tuple[str, ...]:
    """The GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them: a number, or a UUID.

    Where that is not set: numbers, one for each device file; torch would take seconds to tell.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return tuple(map(str, range(len(list(Path("/dev").glob("nvidia[0-9]*"))))))
    # CUDA itself stops at the first name that is no device
    return tuple(takewhile(lambda name: name and not name.startswith("-"), map(str.strip, named.split(","))))


def usual_workers(input_shape: tuple[int, int, int], device: str) -> int:
    """Workers on this machine where the user names no number.

    One a GPU where trials go to GPUs. On the CPU one a core, at most eight, since workers of one thread get more done
    than one worker of several (`scripts/bench_workers`); a single one where images are so large that several may not
    fit into memory.

    Args:
        input_shape: (channels, height, width).
        device: as in `SearchOptions`.
    """
    if device != "cpu":
        there = 1 if ":" in device else len(gpus())
        hidden = "CUDA_VISIBLE_DEVICES" in os.environ
        # the last is a GPU under Windows' Linux
        if there or device != "auto" or (not hidden and Path("/dev/dxg").exists()):
            return max(1, there)
    _, height, width = input_shape
    return min(cores(), MOST_WORKERS) if height * width <= LARGE else 1


def threads(input_shape: tuple[int, int, int], workers: int) -> int:
    """Threads of each worker: the cores divided among them, one where images are small.

    Args:
        input_shape: (channels, height, width).
        workers: on this machine, at least 1.
    """
    _, height, width = input_shape
    most = 1 if height * width <= SMALL else MOST_THREADS
    return max(1, min(most, cores() // workers))
