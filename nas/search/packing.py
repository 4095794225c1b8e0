"""How many workers that share a GPU get the most done: so many train at the same time for a moment, and are timed.

Run as ``python -m nas.search.packing`` it is one of those that train; whoever starts them imports no torch.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nas.errors import NasError
from nas.search.options import SearchOptions
from nas.search.processes import Processes

GAIN = 0.1
"""Part of the images a second that twice as many workers have to add.

Less is not worth its price: each worker takes memory of the GPU and of the machine, and the more networks train at the
same time, the fewer results each proposal knows. Two measurements of a few seconds differ by a few percent, too.
"""
SECONDS = 4.0
"""For which so many train together, once all are warm."""
DEADLINE_S = 120.0
"""Seconds for one number of workers, their start included: torch's import, CUDA's, and the first steps."""


class PackingError(Exception):
    """So many workers could not be measured; the message says why, in one line."""


@dataclass(frozen=True, slots=True)
class Packing:
    """What was found.

    Args:
        number: of workers, at least 1.
        rates: images a second of all workers together, by their number.
        failure: the number that could not be measured, and why.
    """

    number: int
    rates: Mapping[int, float]
    failure: tuple[int, str] | None = None

    @property
    def words(self) -> str:
        """The rates, and what failed."""
        said = [f"{number}: {rate:,.0f}" for number, rate in self.rates.items()]
        said[:1] = [f"{one} images/s" for one in said[:1]]
        return ", ".join(said + ([] if self.failure is None else [f"{self.failure[0]}: {self.failure[1]}"]))


def choose(most: int, rate: Callable[[int], float]) -> Packing:
    """The number of workers, of 1, 2, 4, ..., after which twice as many add less than `GAIN`, or fail.

    Args:
        most: so many at most, at least 1.
        rate: images a second that a number of workers get through together; it raises `PackingError` where it cannot
            tell. Where not even one is measured, 1 is taken all the same: a search says better what is wrong.
    """
    rates: dict[int, float] = {}
    number, tried = 1, 1
    while tried <= most:
        try:
            rates[tried] = rate(tried)
        except PackingError as error:
            return Packing(number, rates, (tried, str(error)))
        if rates[tried] < (1 + GAIN) * rates.get(tried // 2, 0.0):
            break
        number, tried = tried, 2 * tried
    return Packing(number, rates)


def together(
    options: SearchOptions,
    number: int,
    *,
    threads: int,
    environment: Mapping[str, str] | None = None,
    gpus: int = 1,
    seconds: float = SECONDS,
    deadline_s: float = DEADLINE_S,
) -> float:
    """Images a second that `number` processes train together, each as a worker: the middle network of the space.

    They begin when all are warm. None is left, however this ends.

    Args:
        options: of the search; `device` is what a worker is told.
        threads: of each worker.
        environment: what a worker's has besides.
        gpus: that the workers go round: these here keep to one's share of the cores.
        seconds: to train for.
        deadline_s: seconds in which all has to be done.

    Raises:
        PackingError: one failed, or the time is over.
        KeyboardInterrupt: Ctrl-C, or what else ends a search.
    """
    processes = Processes("nas.search.packing", threads)
    end = time.monotonic() + deadline_s
    order = {"options": asdict(options), "gpus": gpus, "seconds": seconds}
    try:
        with processes.heard():
            for each in range(number):
                processes.start(each, order, environment)
            _all_said(processes, number, end)
            for each in range(number):
                processes.say(each, "begin")
            return sum(float(event["images_per_s"]) for event in _all_said(processes, number, end))
    except OSError as error:  # no process could be started
        raise PackingError(str(error)) from error
    finally:
        processes.kill()
        for each in processes.numbers:
            processes.ended(each)


def _all_said(processes: Processes, number: int, end: float) -> list[dict[str, Any]]:
    """One event of each."""
    said: dict[int, dict[str, Any]] = {}
    while len(said) < number:
        heard = processes.next(timeout=max(0.0, end - time.monotonic()))
        if heard is None:
            raise PackingError("not done in time")
        each, event = heard
        if each < 0:
            raise KeyboardInterrupt
        if event is None:
            raise PackingError(f"a process ended with {processes.ended(each)}")
        if event["event"] == "words":  # it has not come to its order
            raise PackingError(event["lines"][-1].strip())
        if event["event"] == "error":
            raise PackingError(event["message"])
        said[each] = event
    return list(said.values())


def serve() -> None:
    """The process: its order from standard input, then the word to begin; its end when standard input closes."""
    lines = sys.stdin
    # as a worker: whatever else a library prints goes to the words
    events = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    order = json.loads(lines.readline())
    told = threading.Event()

    def listen() -> None:
        if lines.readline():
            told.set()
            lines.read()
        os._exit(0)

    def emit(event: dict[str, Any]) -> None:
        print(json.dumps(event), file=events, flush=True)

    def begin() -> None:
        emit({"event": "warm"})
        told.wait()

    if order["gpus"] > 1 and hasattr(os, "sched_setaffinity"):
        here = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, here[: max(1, len(here) // order["gpus"])])
    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        rate = _rate(SearchOptions(**order["options"]), order["seconds"], begin)
    except Exception as error:  # whatever it is, so many do not train together here
        said = str(error) if isinstance(error, NasError) else f"{type(error).__name__}: {error}"
        emit({"event": "error", "message": said.partition("\n")[0]})  # CUDA's errors go on with advice for programmers
    else:
        emit({"event": "rate", "images_per_s": rate})
    listener.join()  # one that ends before the others would be taken for dead


def _rate(options: SearchOptions, seconds: float, begin: Callable[[], None]) -> float:
    from nas.search.hardware import worker_device
    from nas.search.measure import network_of, speed

    space = options.check()
    return speed(
        network_of(space, 0.5), space.recipe, device=worker_device(options.device, 0), seconds=seconds, begin=begin
    )


if __name__ == "__main__":
    serve()
