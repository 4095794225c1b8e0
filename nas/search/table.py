"""A table of recorded trainings as what a replayed search may find, and the truth that it is measured against."""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from nas import pareto
from nas.architecture import RULES, Architecture, Rule, first_fall
from nas.errors import NasError, StudyError, choices
from nas.record_file import RecordFile, read
from nas.records import Row
from nas.search.replay import Networks
from nas.space import Space, load_space

ROW = "row"
"""The one coordinate of a table that is no grid: a uniform draw is a uniform row."""
LARGEST_GRID = 20_000
"""Points of a grid, at most: decoding so many takes seconds in every process."""


@dataclass(frozen=True)
class Table:
    """Whole learning curves of networks, each under one or more seeds.

    Args:
        name: for words and plots.
        space: that the networks came from.
        rows: by key, then by study seed; at least one network, at least one seed each, all of the same length.
        epoch_seconds: (a, b): an epoch of a network takes a + b x MACs seconds.
        validation_images: how many images each reading was taken on.
        rule: networks that break it are left out.
    """

    name: str
    space: Space
    rows: Mapping[str, Mapping[int, Row]]
    epoch_seconds: tuple[float, float]
    validation_images: int
    rule: Rule = "off"

    @classmethod
    def read(cls, path: Path) -> Table:
        """A file that `nas records export` or `scripts/record_benchmark` wrote.

        Raises:
            StudyError: the file is damaged, has no whole curves, or lacks what a search needs to know.
        """
        file = read(path)
        space = _space(path, file)
        rows: dict[str, dict[int, Row]] = {}
        for seed, row in file.rows:
            if row.state == "complete" and space.allows(row.architecture):
                rows.setdefault(row.key, {})[seed] = row
        stopped = sum(row.state == "pruned" for _, row in file.rows)
        if not rows or stopped:
            raise StudyError(
                f"{path} has {len(rows)} networks with whole curves and {stopped} pruned trials: a replay needs the "
                "whole curve of every network; record a search with --pruner none"
            )
        lengths = {len(row.curve) for by_seed in rows.values() for row in by_seed.values()}
        if len(lengths) > 1:
            raise StudyError(f"{path} has curves of {sorted(lengths)} epochs; a replay needs one length")
        known = file.settings.get("epoch_seconds")
        return cls(
            name=path.name.split(".")[0],
            space=space,
            rows=rows,
            epoch_seconds=(float(known[0]), float(known[1])) if known else _fitted(rows),
            validation_images=int(file.settings["validation_images"]),
        )

    def under(self, rule: str) -> Table:
        """The networks that keep a rule.

        Raises:
            StudyError: an unknown rule, or no network keeps it.
        """
        chosen = next((known for known in RULES if known == rule), None)
        if chosen is None:
            raise StudyError(choices("--rule", rule, RULES))
        kept = {
            key: by_seed
            for key, by_seed in self.rows.items()
            if first_fall(next(iter(by_seed.values())).architecture, chosen) is None
        }
        if not kept:
            raise StudyError(f"no network of {self.name} keeps the rule {rule!r}; take another")
        return replace(self, rows=kept, rule=chosen)

    @property
    def is_grid(self) -> bool:
        """Whether it has the network of every point of its space's grid, so that every sampler can be replayed."""
        return self.no_grid is None

    @cached_property
    def no_grid(self) -> str | None:
        """Why it is no whole grid, in words; None where it is."""
        free = [name for name, levels in zip(self.space.coordinates, self.space.levels, strict=True) if levels is None]
        if self.space.rule != "off":  # shares are drawn by the rule first, and then put on their levels
            return f"under the rule {self.space.rule} of its space, coordinates have no levels"
        if free:
            return f"its space has no levels for {', '.join(free[:3])}{', ...' if len(free) > 3 else ''}"
        if math.prod(levels or 1 for levels in self.space.levels) > LARGEST_GRID:
            return f"the grid of its space has more than {LARGEST_GRID:,} points"
        networks = {network.key for network in self._points.values()}
        missing = len(networks - set(self.rows))
        return f"it lacks {missing:,} of the {len(networks):,} networks of its space's grid" if missing else None

    @property
    def coordinates(self) -> tuple[str, ...]:
        """What a sampler proposes."""
        return self.space.coordinates if self.is_grid else (ROW,)

    @property
    def reference(self) -> tuple[float, float]:
        """(accuracy, cost) that bounds the hypervolume: chance, and the space's upper cost."""
        return 1 / self.space.classes, float(self.space.cost_range[1])

    @property
    def epochs(self) -> int:
        """Of every training."""
        return len(next(iter(next(iter(self.rows.values())).values())).curve)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Of the networks, in the table's order."""
        return tuple(self.rows)

    @cached_property
    def architectures(self) -> Mapping[str, Architecture]:
        """By key."""
        return {key: next(iter(by_seed.values())).architecture for key, by_seed in self.rows.items()}

    @cached_property
    def costs(self) -> Mapping[str, int]:
        """By key."""
        return {key: self.space.cost_of(architecture) for key, architecture in self.architectures.items()}

    @cached_property
    def truth(self) -> Mapping[str, float]:
        """Final accuracy by key, mean over seeds."""
        return {
            key: float(np.mean([row.curve[-1][1] for row in by_seed.values()])) for key, by_seed in self.rows.items()
        }

    def front(self, keys: list[str]) -> list[str]:
        """Those of the networks that are on the true front among them."""
        found = pareto.front([self.costs[key] for key in keys], [self.truth[key] for key in keys])
        return [keys[index] for index in found]

    def hypervolume(self, keys: list[str]) -> float:
        """Of the networks, by their true accuracies; see `pareto.hypervolume`."""
        return pareto.hypervolume(
            [self.costs[key] for key in keys],
            [self.truth[key] for key in keys],
            cost_range=self.space.cost_range,
            classes=self.space.classes,
        )

    @cached_property
    def lines(self) -> tuple[tuple[str, ...], ...]:
        """By its keys, smallest first: each shape that the grid has at every size, as a width multiplier finds it.

        None where the table is no grid, or where its grid has one size.
        """
        sizes = self.space.levels[0]  # the first coordinate is the size
        if not self.is_grid or sizes is None or sizes < 2:
            return ()
        shapes: dict[tuple[int, ...], list[str]] = {}
        for (_, *shape), network in self._points.items():  # in the order of their sizes
            shapes.setdefault(tuple(shape), []).append(network.key)
        return tuple(dict.fromkeys(tuple(dict.fromkeys(keys)) for keys in shapes.values() if len(keys) == sizes))

    def networks(self, seed: int) -> Networks:
        """What one search sees: of each network the curve of one seed, the `seed`-th of those it has, cyclically."""
        seen = {key: by_seed[sorted(by_seed)[seed % len(by_seed)]] for key, by_seed in self.rows.items()}
        slope = self.epoch_seconds

        def epoch_seconds(architecture: Architecture) -> float:
            return slope[0] + slope[1] * architecture.macs

        return Networks(
            coordinates=self.coordinates,
            decode=self._decode,
            curves={key: tuple((accuracy, loss) for _, accuracy, loss in row.curve) for key, row in seen.items()},
            seeds={key: row.seed for key, row in seen.items()},
            cost_of=self.space.cost_of,
            shape_of=self.space.realised,
            epoch_seconds=epoch_seconds,
            validation_images=self.validation_images,
        )

    def _decode(self, params: Mapping[str, float]) -> Architecture | None:
        if not self.is_grid:
            return self.architectures[self.keys[min(int(params[ROW] * len(self.keys)), len(self.keys) - 1)]]
        return self._points.get(
            tuple(
                min(int(params[name] * (levels or 1)), (levels or 1) - 1)
                for name, levels in zip(self.space.coordinates, self.space.levels, strict=True)
            )
        )

    @cached_property
    def _points(self) -> dict[tuple[int, ...], Architecture]:
        """What a search may take, by the levels of the grid's coordinates: inside the space and the rule."""
        levels = [count or 1 for count in self.space.levels]
        found = {}
        for point in itertools.product(*(range(count) for count in levels)):
            network = self.space.decode([(index + 0.5) / count for index, count in zip(point, levels, strict=True)])
            if self.space.allows(network) and first_fall(network, self.rule) is None:
                found[point] = network
        return found


def _space(path: Path, file: RecordFile) -> Space:
    """The space as the study searched it: its rule, cost, classes and budget."""
    for name, kind in (("space", str), ("space_toml", str), ("validation_images", int)):
        if not isinstance(file.settings.get(name), kind):
            raise StudyError(f"{path}, header: settings.{name} is missing or out of range; export the study again")
    classes, toml = len(file.settings["classes"]), "space.toml"
    try:
        with tempfile.TemporaryDirectory() as folder:
            toml = str(Path(folder) / "space.toml")
            Path(toml).write_text(file.settings["space_toml"], encoding="utf-8")
            space = replace(load_space(toml), name=file.settings["space"])
        space = space.narrowed(rule=file.settings["rule"], cost=file.settings["cost"]).with_classes(classes)
        budget = file.identity["space"].get("budget", {})
        return space if budget == asdict(space.budget) else space.narrowed(**budget)
    except (NasError, TypeError) as error:
        words = str(error).replace(toml, "space_toml")
        raise StudyError(f"{path}, header: its space does not serve ({words}); export the study again") from error


def _fitted(rows: Mapping[str, Mapping[int, Row]]) -> tuple[float, float]:
    """(a, b) by least squares, neither below 0: from recorded seconds, which other load may have stretched."""
    every = [row for by_seed in rows.values() for row in by_seed.values()]
    # What another study answered took no time here.
    every = [row for row in every if row.source is None] or every
    macs = np.array([row.macs for row in every], dtype=np.float64)
    seconds = np.array([row.seconds / len(row.curve) for row in every])
    if np.ptp(macs) == 0:
        return float(np.median(seconds)), 0.0
    slope = max(0.0, float(np.polyfit(macs, seconds, 1)[0]))
    return max(0.0, float(np.median(seconds - slope * macs))), slope
