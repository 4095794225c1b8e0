"""Tables of recorded curves, small enough to know what a replay must do with them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from nas.architecture import Architecture
from nas.record_file import RecordFile, write
from nas.records import Row
from nas.seeds import training_seed
from nas.space import Space, load_space

EPOCHS = 4
STARTED = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
GRID = 18
"""Networks of the grid: 2 sizes, 3 shares of the first module and 3 of the second; 6 of 9 pairs grow."""


def grid_toml(*, levels: bool = True, epochs: int = EPOCHS) -> str:
    """A space of two modules; without levels it is no grid."""
    text = load_space("bench").toml
    for old, new in (
        ("levels = 4", "levels = 2"),
        ("stages = [1, 2]", "stages = [2]"),
        ("five = { low = 0.2, high = 0.6, levels = 2 }", "five = { low = 0.4, high = 0.4 }"),
        ("epochs = 15", f"epochs = {epochs}"),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text if levels else text.replace("levels = 2\n", "").replace(", levels = 3", "")


def space(folder: Path, *, levels: bool = True, epochs: int = EPOCHS) -> Space:
    """The space of `grid_toml`, which lies in the folder as small.toml."""
    path = folder / "small.toml"
    path.write_text(grid_toml(levels=levels, epochs=epochs), encoding="utf-8")
    return load_space(str(path))


def networks(of: Space, count: int = 0) -> list[tuple[dict[str, float], Architecture]]:
    """Every network of a grid with its coordinates, or `count` random ones."""
    if count:
        points: Any = np.random.default_rng(0).random((count, len(of.coordinates)))
    else:
        points = itertools.product(*((np.arange(levels or 1) + 0.5) / (levels or 1) for levels in of.levels))
    found = [(dict(zip(of.coordinates, map(float, point), strict=True)), of.decode(point)) for point in points]
    return list({network.key: (point, network) for point, network in found}.values())


def curve(network: Architecture, seed: int, epochs: int = EPOCHS) -> tuple[tuple[int, float, float], ...]:
    """Rising, the higher the larger the network, and with noise that is the network's and the seed's own."""
    own, drawn = random.Random(network.key), random.Random(f"{seed} {network.key}")
    final = 0.6 + 0.3 * (network.params / 12_000) ** 0.3 + own.gauss(0, 0.02) + drawn.gauss(0, 0.005)
    heights = [final * (1 - 0.6 ** (2 * epoch)) + drawn.gauss(0, 0.01) for epoch in range(1, epochs + 1)]
    return tuple((epoch, min(1.0, max(0.0, height)), 2.0 / epoch) for epoch, height in enumerate(heights, start=1))


def row(of: Space, trial: int, point: dict[str, float], network: Architecture, seed: int, **changes: Any) -> Row:
    """A recorded training."""
    values = curve(network, seed)
    made: dict[str, Any] = {
        "trial": trial,
        "key": network.key,
        "architecture": network,
        "state": "complete",
        "reason": None,
        "val_accuracy": values[-1][1],
        "curve": values,
        "params": network.params,
        "macs": network.macs,
        "cost": of.cost_of(network),
        "seconds": EPOCHS * (0.5 + 2e-6 * network.macs),
        "seed": training_seed(seed, network.key),
        "device": "cpu",
        "threads": 1,
        "worker": "test",
        "started_at": STARTED,
        "finished_at": STARTED,
        "coordinates": point,
    }
    return Row(**(made | changes))


def rows(of: Space, seeds: Sequence[int] = (0, 1), *, count: int = 0) -> list[tuple[int, Row]]:
    """Every network under every seed."""
    return [
        (seed, row(of, trial, point, network, seed))
        for seed in seeds
        for trial, (point, network) in enumerate(networks(of, count))
    ]


def record_file(of: Space, evaluations: Sequence[tuple[int, Row]], **settings: Any) -> RecordFile:
    """What `nas records export` would have made of them."""
    known = {
        "classes": [str(label) for label in range(of.classes)],
        "created_at": STARTED.isoformat(),
        "dataset": "digits",
        "mean": [0.3],
        "std": [0.35],
        "skip_broken": False,
        "split_seed": 0,
        "validation_images": 200,
        "epochs": of.recipe.epochs,
        "metric": "accuracy",
        "cost": of.cost,
        "cost_range": list(of.cost_range),
        "rule": of.rule,
        "space": "small",
        "space_toml": of.toml,
    }
    identity = {"space": of.identity(), "data": {"images": "i", "split": "s"}, "seed": 0, "training_version": 1}
    return RecordFile("small", identity, known | settings, tuple(evaluations))


def table_file(folder: Path, *, seeds: Sequence[int] = (0, 1), count: int = 0, **settings: Any) -> Path:
    """A table: the grid, or `count` networks of a space without levels."""
    of = space(folder, levels=not count)
    write(folder / "small.csv.gz", record_file(of, rows(of, seeds, count=count), **settings))
    return folder / "small.csv.gz"
