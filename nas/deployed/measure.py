"""One measurement in a process of its own: ``python -m nas.deployed.measure ORDER`` prints one line of JSON.

A process that held something before would have its memory, its threads and its warm caches.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from nas.deployed.runtimes import RUNTIMES
from nas.errors import NasError

LEAST_RUNS = 30
"""Passes that are waited for beyond the seconds asked for, up to `PATIENCE` times these."""
PATIENCE = 10
MOST_RUNS = 100_000


@dataclass(frozen=True, slots=True)
class Measured:
    """What one model took for one size of batch.

    Args:
        runs: passes that were timed, after the warm-up.
        median_ms, p95_ms: of a pass over the whole batch.
        images_per_s: images of all passes by the time of all passes.
        peak_mb: the most memory that the process held once the runtime was imported, MiB: runtime, model, one batch,
            and what a pass needs.
        model_mb: that without what it held just before the model was loaded; with what loading imports, which for
            torch's exported program is most of it.
        threads: as the runtime says.
    """

    runs: int
    median_ms: float
    p95_ms: float
    images_per_s: float
    peak_mb: float
    model_mb: float
    threads: int


def measure(runtime: str, file: str, batch: int, threads: int, seconds: float, like: str | None = None) -> Measured:
    """Time one model on made-up images of its input size.

    Args:
        runtime: a name of `RUNTIMES`.
        file: what it opens: a file, or the name of a reference network.
        batch: images in a pass, at least 1.
        threads: of a pass, at least 1.
        seconds: of timed passes, above 0; a fifth of them more to warm up.
        like: the model.json whose classes a reference network is built for.

    Raises:
        NasError: it cannot be opened.
    """
    load = RUNTIMES[runtime](file, threads, like)
    before = _held_mb()
    run, threads_used = load(batch)
    _passes(run, seconds / 5, least=3)
    times = _passes(run, seconds, LEAST_RUNS)
    peak = _peak_mb()
    return Measured(
        runs=len(times),
        median_ms=1e3 * float(np.median(times)),
        p95_ms=1e3 * float(np.percentile(times, 95)),
        images_per_s=batch * len(times) / sum(times),
        peak_mb=peak,
        model_mb=max(0.0, peak - before),
        threads=threads_used,
    )


def _passes(run: Callable[[], object], seconds: float, least: int) -> list[float]:
    """Seconds of each pass: passes for so long, and `least` of them unless that takes `PATIENCE` times as long."""
    times: list[float] = []
    begun = time.perf_counter()
    while (spent := time.perf_counter() - begun) < seconds or (len(times) < least and spent < PATIENCE * seconds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
        if len(times) == MOST_RUNS:
            break
    return times


def _held_mb() -> float:
    """What the process holds now; its peak is counted from here on, where Linux lets it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return _peak_mb()
    return _status_mb("VmRSS")


def _peak_mb() -> float:
    # not getrusage's on Linux: a process begins there with the peak of the one that started it
    if Path("/proc/self/status").exists():
        return _status_mb("VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # macOS counts bytes, others KiB


def _status_mb(name: str) -> float:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) / 2**10


if __name__ == "__main__":
    try:
        print(json.dumps(asdict(measure(**json.loads(sys.argv[1])))))
    except NasError as error:
        print(json.dumps({"error": " ".join(str(error).split())}))
