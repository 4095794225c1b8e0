"""What a study is held against: known networks with all their seeds, and which network of the front beats each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean, stdev

from nas.baseline_rows import Baseline
from nas.outcome import Outcome
from nas.records import Row
from nas.refined import Refinement, half_interval

OPTIMISTIC = "selected on the same reading, optimistic"
"""Of a network of the front that beats another by the reading for which it is on the front; see `Held.beaten_by`."""


@dataclass(frozen=True)
class Held:
    """One network by one recipe, at one size of the images.

    Args:
        trainings: at least one, by replicate.
    """

    trainings: tuple[Baseline, ...]

    @property
    def first(self) -> Baseline:
        """For what is the same in all trainings."""
        return self.trainings[0]

    @cached_property
    def mean(self) -> float:
        """Of the trainings' last accuracies, 0..1."""
        return fmean(one.val_accuracy for one in self.trainings)

    @cached_property
    def std(self) -> float:
        """Between seeds, with n - 1; NaN of one training."""
        return stdev([one.val_accuracy for one in self.trainings]) if len(self.trainings) > 1 else math.nan

    @cached_property
    def interval(self) -> tuple[float, float]:
        """95 % of the mean by Student's t, cut at 0 and 1; (NaN, NaN) of one training."""
        half = half_interval([one.val_accuracy for one in self.trainings])
        return (math.nan, math.nan) if math.isnan(half) else (max(0.0, self.mean - half), min(1.0, self.mean + half))

    @cached_property
    def confusion(self) -> tuple[tuple[int, ...], ...] | None:
        """Validation answers of all seeds together, true classes as rows; None where one of them lacks its own."""
        each = [one.confusion for one in self.trainings]
        if not each or any(one is None for one in each):
            return None
        return tuple(
            tuple(map(sum, zip(*lines, strict=True))) for lines in zip(*(one or () for one in each), strict=True)
        )

    def beaten_by(self, outcome: Outcome) -> Row | None:
        """The best network of the front with at most its cost, where that has at least its mean, one strictly.

        The front was chosen by the same brief reading that is held against the mean here: say `OPTIMISTIC` beside it.
        """
        cost = self.first.cost(outcome.cost)
        row = next((one for one in reversed(outcome.front) if one.cost <= cost), None)
        if row is None or row.val_accuracy is None or row.val_accuracy < self.mean:
            return None
        return row if row.val_accuracy > self.mean or row.cost < cost else None

    def words(self, outcome: Outcome) -> str:
        """How it was trained, for a table: recipe, seeds, and the size of the images where it is not the study's."""
        at = self.first.at(outcome.input_shape)
        return f"{self.first.recipe_name} recipe{f', {at}' if at else ''}"


def held(found: Sequence[Baseline]) -> list[Held]:
    """Trainings that differ by their seed alone, together; in the order in which each first comes."""
    groups: dict[tuple[object, ...], list[Baseline]] = {}
    for one in found:
        alike = (one.kind, one.name, one.key, one.input_shape, one.recipe_name, one.recipe_hash)
        groups.setdefault(alike, []).append(one)
    return [Held(tuple(sorted(each, key=lambda one: one.replicate))) for each in groups.values()]


def held_in_full(found: Sequence[Baseline], trainings: Sequence[Refinement]) -> list[Held]:
    """The networks of the line that were trained in full beside the front, by the recipes of these trainings.

    Args:
        found: what was trained beside the study.
        trainings: full ones, of trials too, which are left out.
    """
    line = {one.key: one for one in found if one.kind == "line"}
    full = [
        replace(
            line[one.key],
            recipe=one.recipe,
            replicate=one.replicate,
            seed=one.seed,
            val_accuracy=one.val_accuracy,
            curve=one.curve,
            confusion=None,
            seconds=one.seconds,
            started_at=one.started_at,
            finished_at=one.finished_at,
            versions=one.versions,
        )
        for one in trainings
        if one.key in line
    ]
    return held(full)
