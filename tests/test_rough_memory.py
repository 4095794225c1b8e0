"""Memory that runs out under a search: the trial fails with the reason, the same worker lives on."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest

from nas.errors import TrialFailed
from nas.training import memory_failures
from tests.searches import check, running, workers_of

ROOM = 24 * 2**20


def virtual(process: int) -> int:
    """Bytes of address space that a process has."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmSize"))


def test_a_trial_without_memory_fails_and_its_worker_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What a training lets go is given back at once, so that the next one has to ask for it.
    monkeypatch.setenv("MALLOC_MMAP_MAX_", "65536")
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "131072")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    large = ("--space", "digits", "--study", "tiny", "--min-params", "100k", "--batch", "1200", "--epochs", "1")
    with running(tmp_path, "--trials", "2", *large) as process:
        assert process.stderr is not None
        said = [next(line for line in iter(process.stderr.readline, "") if "images to train" in line)]
        (worker,) = workers_of(process)
        os.kill(worker, signal.SIGSTOP)
        before = virtual(worker) + ROOM
        resource.prlimit(worker, resource.RLIMIT_AS, (before, resource.RLIM_INFINITY))
        os.kill(worker, signal.SIGCONT)
        said += [next(line for line in iter(process.stderr.readline, "") if "out of memory" in line)]
        resource.prlimit(worker, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        said += process.communicate(timeout=120)[1].splitlines()
    assert process.returncode == 0, said
    assert "another takes its place" not in "".join(said)
    found = check(tmp_path, 2)
    failed = [row for row in found if row.state == "failed"]
    assert failed
    assert all("out of memory" in (row.reason or "") and not row.killed for row in failed)
    assert len({row.worker for row in found}) == 1


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
