"""Memory that runs out under a search: the trial fails with the reason, the same worker lives on."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest

from nas.errors import TrialFailed
from nas.search.loop import INTERRUPTED
from nas.training import memory_failures
from tests.rough import ENDLESS, Said, conclude
from tests.searches import running, wait_for, workers_of

ROOM = 24 * 2**20


def virtual(process: int) -> int:
    """Bytes of address space that a process has."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmSize"))


@pytest.mark.slow
def test_a_trial_without_memory_fails_and_its_worker_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What a training lets go is given back at once, so that the next one has to ask for it.
    monkeypatch.setenv("MALLOC_MMAP_MAX_", "65536")
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "131072")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    large = ("--space", "digits", "--study", "tiny", "--min-params", "100k", "--batch", "1200", "--epochs", "1")
    with running(tmp_path, *ENDLESS, *large) as process:
        said = Said(process)
        wait_for(lambda: said.count("images to train") > 0)
        (worker,) = workers_of(process)
        sizes: list[int] = []

        def seen_between_two_trainings() -> bool:
            sizes.append(virtual(worker))
            return said.count("complete") >= 3 and min(sizes) + 4 * ROOM < max(sizes)

        wait_for(seen_between_two_trainings)
        resource.prlimit(worker, resource.RLIMIT_AS, (min(sizes) + ROOM, resource.RLIM_INFINITY))
        wait_for(lambda: said.count("out of memory") > 0)
        resource.prlimit(worker, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        ended = said.count("complete")
        wait_for(lambda: said.count("complete") > ended)  # by the same worker
        os.kill(process.pid, signal.SIGINT)
        assert said.end() == 130, said.lines
    assert said.count("another takes its place") == 0
    failed = [row for row in conclude(tmp_path, *large, "--workers", "1") if row.state == "failed"]
    reasons = {str(row.reason) for row in failed if not row.killed} - {INTERRUPTED}
    assert reasons
    assert all("out of memory" in reason for reason in reasons)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("could not create a memory object"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
    ids=lambda error: str(error)[-30:] or "MemoryError",
)
def test_every_library_says_it_in_its_own_words(error: Exception) -> None:
    with pytest.raises(TrialFailed, match="out of memory: "), memory_failures():
        raise error


def test_another_fault_stays_one() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory_failures():
        raise RuntimeError("shapes differ")
