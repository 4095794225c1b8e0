"""How many workers share a GPU: the choice on made-up rates, and real processes, here on the CPU."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from nas.errors import TrialFailed
from nas.recipe import Recipe
from nas.search import packing, processes
from nas.search.machine import ALLOCATOR
from nas.search.measure import WARM_STEPS, network_of, speed
from nas.search.options import SearchOptions
from nas.search.packing import GAIN, Packing, PackingError, choose, together
from nas.search.processes import Processes
from nas.space import load_space
from nas.training import Training

TINY = SearchOptions(space="tiny", device="cpu")
BRIEF = {"threads": 1, "seconds": 0.05, "deadline_s": 3600.0}
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[str]]]:
    """All processes that a test starts; none may be left at its end."""
    all_of_them: list[subprocess.Popen[str]] = []
    real = subprocess.Popen

    def start(*words: Any, **options: Any) -> subprocess.Popen[str]:
        all_of_them.append(real(*words, **options))
        return all_of_them[-1]

    monkeypatch.setattr(processes.subprocess, "Popen", start)
    yield all_of_them
    left = [process for process in all_of_them if process.returncode is None]  # ended and waited for
    for process in left:
        process.kill()
        process.wait()
    assert not left


# --- the choice -------------------------------------------------------------------------------------------------------


def rates_of(rates: dict[int, float], tried: list[int] | None = None) -> Callable[[int], float]:
    """What is measured of each number; one that is not there fails."""

    def rate(number: int) -> float:
        if tried is not None:
            tried.append(number)
        if number not in rates:
            raise PackingError("out of memory: of the device")
        return rates[number]

    return rate


@pytest.mark.parametrize(
    ("most", "rates", "number", "tried"),
    [
        (8, {1: 21_000, 2: 34_000, 4: 47_000, 8: 48_000}, 4, [1, 2, 4, 8]),
        (8, {1: 10, 2: 20, 4: 40, 8: 80}, 8, [1, 2, 4, 8]),
        (8, {1: 10, 2: 10.9, 4: 40, 8: 80}, 1, [1, 2]),  # what more would bring is not looked for
        (8, {1: 10, 2: 11, 4: 12}, 2, [1, 2, 4]),  # a tenth more is enough
        (8, {1: 10, 2: 9}, 1, [1, 2]),
        (7, {1: 10, 2: 20, 4: 40, 8: 80}, 4, [1, 2, 4]),
        (3, {1: 10, 2: 20, 4: 40}, 2, [1, 2]),
        (1, {1: 10, 2: 20}, 1, [1]),
        (8, {1: 10, 2: 20}, 2, [1, 2, 4]),  # four fail
        (8, {1: 10}, 1, [1, 2]),
        (8, {}, 1, [1]),
    ],
)
def test_it_is_the_last_number_that_paid(most: int, rates: dict[int, float], number: int, tried: list[int]) -> None:
    asked: list[int] = []
    found = choose(most, rates_of(rates, asked))
    assert found.number == number
    assert asked == tried
    failed = tried[-1] not in rates
    assert dict(found.rates) == {one: rates[one] for one in tried if one in rates}
    assert found.failure == ((tried[-1], "out of memory: of the device") if failed else None)


@given(
    most=some.integers(1, 40),
    rates=some.dictionaries(some.sampled_from([1, 2, 4, 8, 16, 32]), some.floats(1e-3, 1e6)),
)
@settings(deadline=None)
def test_it_never_exceeds_what_memory_holds_and_stops_at_the_first_small_gain(
    most: int, rates: dict[int, float]
) -> None:
    asked: list[int] = []
    found = choose(most, rates_of(rates, asked))
    assert 1 <= found.number <= most
    assert max(asked) <= most
    assert asked == [2**power for power in range(len(asked))]
    paid = [two for one, two in pairwise(asked) if rates.get(two, 0) >= (1 + GAIN) * rates[one]]
    assert found.number == max([1, *paid])
    assert len(paid) >= len(asked) - 2  # only the last one tried may not have paid


def test_the_rates_are_said() -> None:
    assert Packing(4, {1: 21_000.4, 2: 34_000, 4: 47_000, 8: 48_000}).words == (
        "1: 21,000 images/s, 2: 34,000, 4: 47,000, 8: 48,000"
    )
    assert Packing(1, {1: 9.6}, (2, "out of memory")).words == "1: 10 images/s, 2: out of memory"
    assert Packing(1, {}, (1, "not done in time")).words == "1: not done in time"


# --- one training -----------------------------------------------------------------------------------------------------


def recipe() -> Recipe:
    return load_space("tiny").recipe


def test_a_training_is_timed_from_when_it_is_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    network = network_of(load_space("tiny"), 0.5)
    passes: list[int] = []
    real = Training._backward_part

    def part(self: Training, images: torch.Tensor, labels: torch.Tensor, whole: int) -> torch.Tensor:
        passes.append(len(labels))
        return real(self, images, labels, whole)

    monkeypatch.setattr(Training, "_backward_part", part)
    begun: list[int] = []
    clock = iter([100.0, 100.5, 101.9, 102.0, 103.0])  # begun; asked at each step until 2 s are over; ended
    monkeypatch.setattr("nas.search.measure.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    rate = speed(network, recipe(), device=CPU, seconds=2.0, begin=lambda: begun.append(len(passes)))
    assert begun == [WARM_STEPS]
    assert passes == [recipe().batch] * (WARM_STEPS + 3)
    assert rate == recipe().batch * 3 / 3.0


def test_halves_of_a_batch_are_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Training._backward_part

    def part(self: Training, images: torch.Tensor, labels: torch.Tensor, whole: int) -> torch.Tensor:
        if len(labels) == recipe().batch:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, images, labels, whole)

    monkeypatch.setattr(Training, "_backward_part", part)
    with pytest.raises(TrialFailed, match="out of memory: its batches had to be halved"):
        speed(network_of(load_space("tiny"), 0.5), recipe(), device=CPU, seconds=0.0, begin=lambda: None)


# --- real processes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2])
def test_so_many_train_together(
    number: int, started: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    given_to: list[dict[str, str]] = []

    class Seen(Processes):
        def say(self, each: int, line: str) -> None:
            if line == "begin":  # then all are warm, and none has ended
                assert all(process.poll() is None for process in started)
                assert len(started) == number
                words = Path(f"/proc/{started[each].pid}/environ").read_text()
                given_to.append(dict(word.split("=", 1) for word in words.split("\0") if word))
            super().say(each, line)

    monkeypatch.setattr(packing, "Processes", Seen)
    environment = {"CUDA_VISIBLE_DEVICES": "GPU-a"}
    threads = 3 - number
    assert together(TINY, number, environment=environment, **(BRIEF | {"threads": threads})) > 0
    worker = ALLOCATOR | environment | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    assert len(given_to) == number
    assert all(one.items() >= worker.items() for one in given_to)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores are given out on Linux")
def test_those_of_one_gpu_keep_to_its_share_of_the_cores(
    started: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cores: list[set[int]] = []

    class Seen(Processes):
        def say(self, each: int, line: str) -> None:
            if line == "begin":
                cores.append(os.sched_getaffinity(started[-1].pid))
            super().say(each, line)

    monkeypatch.setattr(packing, "Processes", Seen)
    here = sorted(os.sched_getaffinity(0))
    for gpus in (1, 2, 1000):
        together(TINY, 1, gpus=gpus, **BRIEF)
    assert cores == [set(here), set(here[: max(1, len(here) // 2)]), {here[0]}]


def test_where_four_fail_two_are_taken() -> None:
    absent = SearchOptions(space="tiny", device="cuda:99")
    found = choose(8, lambda number: together(absent, 4, **BRIEF) if number == 4 else 10.0 * number)
    assert found.number == 2
    assert found.failure is not None
    assert found.failure[0] == 4
    assert "device 'cuda:99' is not there" in found.failure[1]


@pytest.mark.parametrize(
    ("module", "why"),
    [
        ("tests.broken_packing", r"^RuntimeError: CUDA error: unspecified launch failure$"),
        ("tests.no_such_module", r"No module named tests\.no_such_module$"),
    ],
)
def test_one_that_breaks_down_fails_all(module: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    monkeypatch.setattr(packing, "Processes", lambda _, threads: Processes(module, threads))
    with pytest.raises(PackingError, match=why):
        together(TINY, 2, **BRIEF)


def test_one_that_is_killed_fails_all(started: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(Processes):
        def say(self, each: int, line: str) -> None:
            super().say(each, line)
            if line == "begin" and each == 1:
                started[each].kill()

    monkeypatch.setattr(packing, "Processes", Killed)
    with pytest.raises(PackingError, match="a process ended with exit code -9"):
        together(TINY, 2, **(BRIEF | {"seconds": 1e6}))


def test_one_that_cannot_start_fails_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(processes.subprocess, "Popen", refused)
    with pytest.raises(PackingError, match="Resource temporarily unavailable"):
        together(TINY, 1, **BRIEF)


def test_the_time_for_a_number_has_an_end(started: list[subprocess.Popen[str]]) -> None:
    with pytest.raises(PackingError, match="not done in time"):
        together(TINY, 2, **(BRIEF | {"deadline_s": 0.0}))
    assert len(started) == 2


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_none(
    started: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch, by: signal.Signals
) -> None:
    class Interrupted(Processes):
        def say(self, each: int, line: str) -> None:
            super().say(each, line)
            if line == "begin" and each == 1:
                os.kill(os.getpid(), by)

    monkeypatch.setattr(packing, "Processes", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        together(TINY, 2, **(BRIEF | {"seconds": 1e6}))
    assert len(started) == 2


def test_one_outlives_nobody_who_started_it() -> None:
    """However that ends: its standard input closes, while it waits and while it trains."""
    for told in (False, True):
        crew = Processes("nas.search.packing", 1)
        try:
            crew.start(0, {"options": {"space": "tiny", "device": "cpu"}, "gpus": 1, "seconds": 1e6})
            assert crew.next(timeout=3600) == (0, {"event": "warm"})
            if told:
                crew.say(0, "begin")
            crew.ask_to_end()
            assert crew.next(timeout=3600) == (0, None)
            assert crew.ended(0) == "exit code 0"
        finally:
            crew.kill()
