"""How long a search should take and how much memory, in words, from what three sizes of network took here.

Arithmetic only: `nas.search.measure` takes the times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

LONG_S = 2 * 3600
"""A search that should take longer is told what would bring it under."""

TRIAL_S = 0.1
EPOCH_S = 0.02
"""Seconds that a trial and an epoch take beside the training: proposing, the pruner, writing to the database.

Measured on `tiny` and `digits` with SQLite; they only count where networks are small.
"""

LEAST_OF_CLASS = 10
"""A limit of training images that leaves fewer of a class is not proposed."""


@dataclass(frozen=True, slots=True)
class Sized:
    """What a network of one size took.

    Args:
        params, macs: of the network.
        train_s: seconds of training for one image.
        read_s: seconds of a reading for one image.
        start_s: seconds until the first step.
    """

    params: int
    macs: int
    train_s: float
    read_s: float
    start_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Smaller:
    """A smaller input of the same space: `parts` are the MACs that are left of each of the sizes, 0..1."""

    input_shape: tuple[int, int, int]
    parts: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be searched.

    Args:
        trials: still to run.
        done: complete or pruned before.
        epochs: of a whole training.
        train_images, classes: of the training part.
        refresh_images: training images that a reading takes batch-norm statistics from, at most.
        validation_images: of a reading.
        params: fewest and most parameters that are searched.
        workers: processes on this machine.
        at_once: how many of them really run at the same time.
        pruned: trials may be stopped early.
        timeout: seconds after which no trial is begun; None never.
        load_s: seconds to decode one image, each time it is used; 0 where images are in memory.
        smaller: inputs below the space's, the largest first.
    """

    trials: int
    done: int
    epochs: int
    train_images: int
    classes: int
    refresh_images: int
    validation_images: int
    params: tuple[int, int]
    workers: int
    at_once: int
    pruned: bool
    timeout: float | None = None
    load_s: float = 0.0
    smaller: tuple[Smaller, ...] = ()


@dataclass(frozen=True, slots=True)
class Memory:
    """What a worker took at its peak, how many workers share what there is, and where; MiB."""

    worker_mb: float
    workers: int
    there_mb: float
    place: str = "this machine"

    @property
    def fitting(self) -> int:
        """Workers that fit at the same time."""
        return int(self.there_mb // self.worker_mb)


def trial_seconds(size: Sized, plan: Plan) -> float:
    """Of one trial of a network of this size that is not pruned."""
    reading = min(plan.refresh_images, plan.train_images) + plan.validation_images
    epoch = plan.train_images * (size.train_s + plan.load_s) + reading * (size.read_s + plan.load_s) + EPOCH_S
    return TRIAL_S + size.start_s + plan.epochs * epoch


def search_seconds(sizes: Sequence[Sized], plan: Plan) -> float:
    """Of all trials that are left, none of them pruned.

    Args:
        sizes: the smallest, the middle and the largest network of the searched range. Sizes are drawn evenly between
            the ends, so the mean trial is the mean of a curve through the three (Simpson's rule).
    """
    smallest, middle, largest = (trial_seconds(size, plan) for size in sizes)
    return plan.trials * (smallest + 4 * middle + largest) / 6 / plan.at_once


def words(sizes: Sequence[Sized], plan: Plan, memory: Memory) -> list[str]:
    """Lines for whoever starts the search: time, parameters and memory, then warnings and advice."""
    low, high = plan.params
    seconds = search_seconds(sizes, plan)
    each = ", ".join(f"{_span(trial_seconds(size, plan))} at {size.params:,}" for size in sizes)
    left = f"{plan.trials:,} trials" if not plan.done else f"{plan.trials:,} more trials ({plan.done:,} are done)"
    span = f"up to {_span(seconds)}, less what pruning saves" if plan.pruned else f"about {_span(seconds)}"
    ended = plan.timeout is not None and plan.timeout < seconds
    if plan.timeout is not None and ended:
        span = f"{_span(plan.timeout)} by --timeout, without it {span}"
    lines = [
        f"{left} of {low:,} to {high:,} parameters on {_workers(plan.workers)}: {span}. A whole one takes {each}.",
        f"Memory: {_mb(memory.worker_mb)} a worker at its largest network, {_mb(memory.worker_mb * memory.workers)} of "
        f"the {_mb(memory.there_mb)} of {memory.place}.",
    ]
    if memory.fitting < memory.workers:
        fewer = f"--workers {memory.fitting}, or " if memory.fitting else ""
        lines.append(
            f"Warning: {_workers(memory.workers)} may not fit into the memory of {memory.place}: take {fewer}"
            "a smaller --batch or --max-params."
        )
    if seconds > LONG_S and not ended:
        lines += _advice(sizes, plan)
    return lines


def _advice(sizes: Sequence[Sized], plan: Plan) -> list[str]:
    """What would bring the search under two hours, each alone."""
    ways = []
    limit = _most(
        lambda images: replace(plan, train_images=images), sizes, LEAST_OF_CLASS * plan.classes, plan.train_images
    )
    if limit is not None:
        ways.append(f"--train-limit {max(_two_digits(limit), LEAST_OF_CLASS * plan.classes)}")
    epochs = _most(lambda epochs: replace(plan, epochs=epochs), sizes, 1, plan.epochs)
    if epochs is not None:
        ways.append(f"--epochs {epochs}")
    for smaller in plan.smaller:
        shrunk = [
            replace(size, train_s=size.train_s * part, read_s=size.read_s * part)
            for size, part in zip(sizes, smaller.parts, strict=True)
        ]
        if search_seconds(shrunk, plan) <= LONG_S:
            ways.append(f"input = {list(smaller.input_shape)} in a copy of the space (`nas spaces show`)")
            break
    if not ways:
        return [f"Over {_span(LONG_S)}, and no one setting brings it under: take fewer --trials or smaller networks."]
    other = " and another --study, since these make it another one" if plan.done else ""
    return [f"Over {_span(LONG_S)}. Each of these alone brings it under: {'; '.join(ways)}{other}."]


def _most(changed: Callable[[int], Plan], sizes: Sequence[Sized], low: int, high: int) -> int | None:
    """The largest number from `low` to under `high` with which the search is short enough; None where none is."""
    if low >= high or search_seconds(sizes, changed(low)) > LONG_S:
        return None
    while high - low > 1:  # low is short enough, high is not
        middle = (low + high) // 2
        low, high = (middle, high) if search_seconds(sizes, changed(middle)) <= LONG_S else (low, middle)
    return low


def _two_digits(number: int) -> int:
    """Rounded down to two digits and zeros."""
    unit = int(10 ** max(0, len(str(number)) - 2))
    return number // unit * unit


def _workers(number: int) -> str:
    return "1 worker" if number == 1 else f"{number} workers"


def _span(seconds: float) -> str:
    """A time as a person says it, to two or three digits."""
    if seconds < 9.95:
        return f"{max(seconds, 0.1):.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    if minutes < 90:
        return f"{minutes:.0f} min"
    hours, rest = divmod(round(minutes), 60)
    if hours < 10:
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    return f"{minutes / 60:.0f} h" if hours < 72 else f"{minutes / 1440:.0f} days"


def _mb(megabytes: float) -> str:
    return f"{megabytes:,.0f} MB" if megabytes < 1000 else f"{megabytes / 1024:,.1f} GB"
