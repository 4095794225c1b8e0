"""Memory that runs out under a search: the trial fails with the reason, the same worker lives on."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nas.errors import StudyError, TrialFailed
from nas.records import Row
from nas.search import launch as launching
from nas.search.loop import INTERRUPTED
from nas.search.options import SearchOptions
from nas.search.processes import Processes
from nas.training import memory_failures
from tests.rough import ENDLESS, Said, conclude
from tests.searches import check, running, wait_for, workers_of

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


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Row]]:
    """A search whose workers' device another process fills; its rows."""

    def searched(when: str, workers: int = 1) -> list[Row]:
        monkeypatch.setenv("FULL", when)
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
        monkeypatch.setattr(launching, "Processes", lambda module, threads: Processes("tests.full_device", threads))
        options = SearchOptions(
            space="tiny", studies_dir=str(tmp_path), trials=3, epochs=1, pruner="none", workers=workers, device="cpu"
        )
        assert launching.launch(options) == 0
        return check(tmp_path, 3)

    return searched


def test_a_full_device_fails_the_trial_and_the_search_goes_on(full: Callable[..., list[Row]]) -> None:
    states = [(row.state, row.reason) for row in full("training 2 2")]
    assert states == [
        ("complete", None),
        ("failed", "out of memory: CUDA out of memory. Tried to allocate 20.00 MiB"),
        ("complete", None),
        ("complete", None),
    ]


def test_a_device_full_for_a_moment_halves_the_batch_alone(full: Callable[..., list[Row]]) -> None:
    assert [row.state for row in full("training 2 1")] == ["complete"] * 3


def test_a_worker_that_finds_no_room_for_the_images_leaves_the_rest_to_the_others(
    full: Callable[..., list[Row]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert [row.state for row in full("images 1", workers=2)] == ["complete"] * 3
    said = capsys.readouterr().err
    assert (
        "worker 2 takes no part: no room for the images on device cpu (out of memory: CUDA out of memory. Tried to "
        "allocate 20.00 MiB): end what else uses it, take fewer workers, or another --device\n"
    ) in said
    assert "another takes its place" not in said


def test_a_search_without_room_for_the_images_says_so_and_makes_no_study(
    full: Callable[..., list[Row]], tmp_path: Path
) -> None:
    with pytest.raises(StudyError, match=r"^no room for the images on device cpu \(out of memory: CUDA out of memory"):
        full("images 0", workers=2)
    assert not list(tmp_path.rglob("study.db"))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
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
