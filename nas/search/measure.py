"""What networks of a space take on this machine: a few steps of the real training, timed.

Nothing that a trial depends on is touched: a training has random states of its own, and gives torch's back.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import median

import torch
from torch import Tensor

from nas.architecture import Architecture
from nas.costs import peak_memory_mb
from nas.data import Dataset, Part, streaming
from nas.errors import ArchitectureError, TrialFailed
from nas.reading import REFRESH_IMAGES
from nas.recipe import Recipe
from nas.search.estimate import Memory, Plan, Sized, Smaller, words
from nas.search.machine import cores
from nas.search.options import SearchOptions
from nas.space import Space
from nas.training import Training

SIZES = (0.0, 0.5, 1.0)
STEPS = 6
"""Timed steps of a network, its first one, which warms up, included; a slow network gets one."""

SLOW_S = 0.3
"""A network whose step should take longer gets one step only."""

READ_IMAGES = 128
"""Validation images that a reading is timed on, at most."""

FLOPS = 2e10
"""Floating-point operations a second that the first network is expected to train at."""

WARM_STEPS = 10
"""Steps of a training before its speed counts: kernels are set up, and memory is taken."""

MADE_UP = 2**26
"""Numbers in the made-up images, about: so many batches, 8 to 256, that an epoch's end, which waits, is rare."""


def estimate(
    options: SearchOptions,
    space: Space,
    dataset: Dataset,
    device: torch.device,
    *,
    done: int,
    interrupt: Callable[[], None] = lambda: None,
) -> list[str]:
    """Lines that say how long the search should take on this machine, its memory and its parameters.

    Args:
        options: of the search.
        space: as narrowed and fitted to the images.
        dataset: on the device.
        done: trials that the study has already.
        interrupt: called once a step; what it raises passes through.
    """
    networks = [network_of(space, size) for size in SIZES]
    least, most = space.reach("params")
    plan = Plan(
        trials=max(0, options.trials - done),
        done=done,
        epochs=space.recipe.epochs,
        train_images=len(dataset.train),
        classes=len(dataset.classes),
        refresh_images=REFRESH_IMAGES,
        validation_images=len(dataset.validation),
        params=(max(least, space.budget.min_params), min(most, space.budget.max_params)),
        workers=options.workers,
        # workers beyond the cores wait for each other
        at_once=min(options.workers, cores()) if device.type == "cpu" else options.workers,
        pruned=options.pruner != "none",
        timeout=options.timeout,
        smaller=_smaller(networks),
    )
    if not plan.trials:
        return [f"All {options.trials:,} trials are done already."]
    sizes: list[Sized] = []
    try:
        steps = _steps(None, networks[0], space.recipe, device)
        small, load_s = _few(dataset, steps * space.recipe.batch)
        for network in networks:
            steps = min(steps, _steps(sizes[-1] if sizes else None, network, space.recipe, device))
            sizes.append(measure(network, small, space.recipe, device=device, steps=steps, interrupt=interrupt))
    except TrialFailed as failure:
        size = networks[len(sizes)].params
        return [f"Warning: a network of {size:,} parameters cannot be trained here, so no time is known: {failure}."]
    return words(sizes, replace(plan, load_s=load_s), _memory(options, device))


def measure(
    network: Architecture,
    dataset: Dataset,
    recipe: Recipe,
    *,
    device: torch.device,
    steps: int,
    interrupt: Callable[[], None] = lambda: None,
) -> Sized:
    """Train a network for a few steps, read it once, and say what an image took.

    Args:
        dataset: in memory.
        steps: at least 1; from three on the first one, which sets the kernels up, is not counted.
        interrupt: called once a step; what it raises passes through.

    Raises:
        TrialFailed: not enough memory.
    """
    images = dataset.train.images
    assert isinstance(images, Tensor)
    rows = min(steps * recipe.batch, len(images))
    batch = min(recipe.batch, rows)
    some = replace(dataset, train=Part(images[:rows], dataset.train.labels[:rows]))
    tame = _tame(recipe, math.ceil(steps * batch / rows))
    begun: list[float] = []

    def step() -> None:
        interrupt()
        _wait_for(device)
        begun.append(time.perf_counter())

    start = time.perf_counter()
    for _ in Training(network, some, tame, seed=0, device=device, interrupt=step).fit(read="last"):
        pass
    end = time.perf_counter()
    read = min(rows, REFRESH_IMAGES) + len(dataset.validation)
    took = [after - before for before, after in pairwise(begun)]
    if took:
        a_step = median(took[1:] or took)
        reading = max(0.0, end - begun[-1] - a_step)
    else:  # one step and the reading together: training an image takes about three times its forward pass
        a_step = (end - begun[0]) * 3 * batch / (3 * batch + read)
        reading = end - begun[0] - a_step
    return Sized(network.params, network.macs, a_step / batch, reading / read, begun[0] - start)


def speed(
    network: Architecture, recipe: Recipe, *, device: torch.device, seconds: float, begin: Callable[[], None]
) -> float:
    """Images a second that a training gets through, on images made up in the device's memory.

    Readings are left out, and so is decoding where images are streamed. No step waits for the device, as none does in
    a trial.

    Args:
        seconds: to train for, after `WARM_STEPS`; at least one step is made.
        begin: called once it is warm; it may wait, so that several begin at the same time.

    Raises:
        TrialFailed: not enough memory, also where halves of a batch would have done.
    """
    steps, began, ended = 0, 0.0, 0.0

    def step() -> None:
        nonlocal steps, began, ended
        if steps == WARM_STEPS:
            _wait_for(device)
            begin()
            began = time.perf_counter()
        elif steps > WARM_STEPS and time.perf_counter() - began >= seconds:
            _wait_for(device)
            ended = time.perf_counter()
            raise _EnoughError
        steps += 1

    training = Training(
        network, _made_up(network, recipe.batch), _tame(recipe, 10**9), seed=0, device=device, interrupt=step
    )
    with contextlib.suppress(_EnoughError):
        next(training.fit(read="last"))
    if training.halved:
        raise TrialFailed("out of memory: its batches had to be halved")
    return recipe.batch * (steps - WARM_STEPS) / (ended - began)


class _EnoughError(Exception):
    """A training has been timed."""


def network_of(space: Space, size: float) -> Architecture:
    """Of this size, and in all else in the middle."""
    return space.decode([size, *(0.5 for _ in space.coordinates[1:])])


def _tame(recipe: Recipe, epochs: int) -> Recipe:
    """With steps that take as long as any other, and a loss that is always finite."""
    return recipe.model_copy(update={"epochs": epochs, "learning_rate": 1e-9})


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _made_up(network: Architecture, batch: int) -> Dataset:
    """Noise in the shape of the network's images, in whole batches; see `MADE_UP`."""
    channels, height, width = network.input_shape
    rows = batch * min(256, max(8, MADE_UP // (batch * channels * height * width)))
    draws = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (rows, height, width, channels), dtype=torch.uint8, generator=draws)
    images, labels = pixels.permute(0, 3, 1, 2), torch.arange(rows) % network.classes
    return Dataset(
        name="noise",
        classes=tuple(map(str, range(network.classes))),
        train=Part(images, labels),
        validation=Part(images[:1], labels[:1]),
        test_size=0,
        mean=(0.5,) * channels,
        std=(0.3,) * channels,
        digest="",
        split_digest="",
    )


def _steps(before: Sized | None, network: Architecture, recipe: Recipe, device: torch.device) -> int:
    """How many steps to time: one of a network that should be slow, judged by the one `before` it."""
    if device.type == "cuda":
        return STEPS
    # of the MACs of a forward pass a training does three times as many, at two operations each
    image = before.train_s * network.macs / before.macs if before else 6 * network.macs / FLOPS
    return 1 if recipe.batch * image > SLOW_S else STEPS


def _few(dataset: Dataset, rows: int) -> tuple[Dataset, float]:
    """A few images of each side in memory, and the seconds it took to decode one; 0 where they are there already."""
    sides = {}
    start, decoded = time.perf_counter(), 0
    for name, part, most in (("train", dataset.train, rows), ("validation", dataset.validation, READ_IMAGES)):
        some = torch.arange(min(most, len(part)))
        if isinstance(part.images, streaming.Streamed):
            pixels = part.images.loader.files.decode(part.images.rows[: len(some)])
            images = torch.from_numpy(pixels).to(part.images.device).permute(0, 3, 1, 2)
            decoded += len(some)
        else:
            images = part.images[: len(some)]
        sides[name] = Part(images, part.labels[: len(some)])
    load_s = (time.perf_counter() - start) / decoded / torch.get_num_threads() if decoded else 0.0
    return replace(dataset, train=sides["train"], validation=sides["validation"]), load_s


def _smaller(networks: Sequence[Architecture]) -> tuple[Smaller, ...]:
    """Inputs of 7/8 to 2/8 of the space's sides, and what is left there of the networks' MACs."""
    channels, height, width = networks[0].input_shape
    found = []
    for eighths in range(7, 1, -1):
        shape = (channels, max(1, height * eighths // 8), max(1, width * eighths // 8))
        try:
            parts = tuple(replace(network, input_shape=shape).macs / network.macs for network in networks)
        except ArchitectureError:  # a map vanishes
            break
        found.append(Smaller(shape, parts))
    return tuple(found)


def _memory(options: SearchOptions, device: torch.device) -> Memory:
    if device.type == "cuda":
        # a worker sees its own GPU alone: how many share one is what the launcher says
        sharing = options.workers_per_gpu or math.ceil(options.workers / torch.cuda.device_count())
        there = torch.cuda.get_device_properties(device).total_memory / 2**20
        return Memory(peak_memory_mb(device), sharing, there, "each GPU")
    return Memory(peak_memory_mb(), options.workers, streaming.memory() / 2**20)
