"""Which networks are trained fully, by how many trainings, and how long that should take. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from nas import pareto
from nas.architecture import Architecture
from nas.baseline_rows import Baseline
from nas.errors import StudyError
from nas.outcome import Outcome
from nas.records import Row
from nas.refine.options import RefineOptions
from nas.refined import Refinement, networks, recipe_hash, seed_std

NEAR = 2
"""Seed standard deviations behind the front up to which a network is near it."""


OUTSIDE = -1
"""Stands for a trial's number in the records of a network that no trial proposed."""


@dataclass(frozen=True, slots=True)
class Outside:
    """A network that no trial of the study proposed.

    Args:
        name: for a person.
    """

    name: str
    architecture: Architecture
    trial: int = OUTSIDE

    @property
    def key(self) -> str:
        """The architecture's."""
        return self.architecture.key

    @property
    def params(self) -> int:
        """The architecture's."""
        return self.architecture.params

    @property
    def macs(self) -> int:
        """The architecture's."""
        return self.architecture.macs


@dataclass(frozen=True, slots=True)
class Task:
    """One training: of the network of `row`, with its seed number `replicate`, from 1; 0 is the search's own seed."""

    row: Row | Outside
    replicate: int

    @property
    def name(self) -> str:
        """The network's, for a person."""
        return self.row.name if isinstance(self.row, Outside) else f"trial {self.row.trial:>4}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a refinement does.

    Args:
        chosen: complete networks, smallest cost first.
        why: how they were chosen, as a sentence.
        recipe: of each training, as JSON.
        seeds: of each network.
        tasks: trainings still to do: every network's first seed before any second, the longest ones first.
        lost: how many of these were done before, but their weights are not in the study's folder.
        beside: networks from outside the study; with `chosen` at least one.
        brief: each network once, by the seed that a trial would have; recorded as a baseline.
    """

    chosen: tuple[Row, ...]
    why: str
    recipe: Mapping[str, Any]
    seeds: int
    tasks: tuple[Task, ...]
    lost: int = 0
    beside: tuple[Outside, ...] = ()
    brief: bool = False

    @property
    def replicates(self) -> range:
        """Numbers of each network's seeds."""
        return range(1) if self.brief else range(1, self.seeds + 1)

    @property
    def networks(self) -> tuple[Row | Outside, ...]:
        """All that are trained."""
        return (*self.chosen, *self.beside)

    @property
    def epochs(self) -> int:
        """Of one training."""
        return int(self.recipe["epochs"])

    @property
    def recipe_hash(self) -> str:
        """What the trainings are found by."""
        return recipe_hash(self.recipe)

    def seconds(self, rows: Sequence[Row], at_once: int) -> float | None:
        """Of all tasks together, from what the search's trials took; None where none of these was trained.

        Args:
            rows: all of the study.
            at_once: trainings that run at the same time, at least 1.
        """
        own = {row.trial: _epoch_s(row) for row in rows if row.curve and row.source is None}
        if not own:
            return None
        # Of a network whose curve came from another study's records: by its MACs.
        pace = median(own[row.trial] / row.macs for row in rows if row.trial in own)
        each = [own.get(task.row.trial, pace * task.row.macs) * self.epochs for task in self.tasks]
        return max(sum(each) / at_once, max(each, default=0.0))


def make_plan(
    outcome: Outcome,
    trainings: Sequence[Refinement],
    options: RefineOptions,
    kept: Callable[[Refinement], bool],
    line: Sequence[Baseline] = (),
) -> Plan:
    """Choose the networks, and leave out the trainings that are done.

    Args:
        outcome: the study's records.
        trainings: full trainings so far.
        kept: whether the weights of one are there.
        line: what is trained of the reference line by the study's recipe; asked for by `options.with_line`.

    Raises:
        StudyError: a pick that names no complete network, or a study that has none, or no line that is asked for.
    """
    recipe = options.recipe(outcome)
    mine = recipe_hash(recipe)
    complete = [row for row in outcome.rows if row.state == "complete"]
    if not complete:
        raise StudyError(f"study {outcome.study!r} has no complete trial to refine yet; run `nas search` longer")
    # Not this recipe's own: the same command has to name the same networks, half done or whole.
    earlier = networks(outcome.rows, [one for one in trainings if one.recipe_hash != mine])
    chosen, why = _choose(outcome, complete, options, seed_std(earlier))
    beside: list[Outside] = []
    if options.with_line:
        if not line:
            raise StudyError(
                f"--with-line: the line is not trained yet; run `nas baselines line {outcome.study}` first"
            )
        mine_too = {row.key: row for row in complete}
        # The headline compares whole fronts: a member that is missing would leave its place to a lesser one.
        needed = [*outcome.front, *(mine_too[point.key] for point in line if point.key in mine_too)]
        there = {row.key for row in chosen}
        if any(row.key not in there for row in needed):
            why += ", with all of the front"
        chosen = list({row.key: row for row in [*chosen, *needed]}.values())
        points = {p.key: p for p in line if p.key not in mine_too}
        beside = [Outside(p.name, p.architecture) for p in points.values() if p.architecture is not None]
    chosen.sort(key=lambda row: (row.cost, row.trial))
    recorded = {(one.key, one.replicate): one for one in trainings if one.recipe_hash == mine}
    done = {name for name, one in recorded.items() if kept(one)}
    every: list[Row | Outside] = [*chosen, *beside]
    tasks = [
        Task(row, replicate)
        for replicate in range(1, options.seeds + 1)
        for row in sorted(every, key=lambda row: (-row.macs, row.trial))
        if (row.key, replicate) not in done
    ]
    lost = sum((task.row.key, task.replicate) in recorded for task in tasks)
    return Plan(tuple(chosen), why, recipe, options.seeds, tuple(tasks), lost, tuple(beside))


def standard_error(accuracy: float, images: int) -> float:
    """Of an accuracy read on so many images, binomial, with one right and one wrong image added: never 0."""
    part = (accuracy * images + 1) / (images + 2)
    return math.sqrt(part * (1 - part) / images)


def near_front(costs: Sequence[int], accuracies: Sequence[float], *, std: float | None, images: int) -> list[int]:
    """Indices of the networks at most `NEAR` seed standard deviations behind the best one of at most their cost.

    Args:
        costs, accuracies: of complete networks; accuracies in 0..1.
        std: between seeds; None takes the `standard_error` at the accuracy that the network is behind of.
        images: that each accuracy was read on, at least 1.
    """
    behind = pareto.behind(costs, accuracies)
    return [
        index
        for index, deficit in enumerate(behind)
        # a hair of room, since differences of floats round
        if deficit <= NEAR * (standard_error(accuracies[index] + deficit, images) if std is None else std) + 1e-9
    ]


def _choose(outcome: Outcome, complete: list[Row], options: RefineOptions, std: float | None) -> tuple[list[Row], str]:
    if options.picks:
        picked = {row.trial: row for row in (outcome.pick(text) for text in options.picks)}
        return list(picked.values()), f"picked by {', '.join(options.picks)}"
    costs, accuracies = [row.cost for row in complete], [float(row.val_accuracy or 0.0) for row in complete]
    if options.top is not None:
        return [complete[index] for index in _top(outcome, costs, accuracies)[: options.top]], "nearest to the front"
    images = int(outcome.settings["validation_images"])
    near = [complete[index] for index in near_front(costs, accuracies, std=std, images=images)]
    if std is not None:
        return near, f"at most {NEAR} seed standard deviations ({100 * std:.2f} points, measured) behind the front"
    errors = [standard_error(float(row.val_accuracy or 0.0), images) for row in outcome.front]
    low, high = (f"{100 * end(errors):.2f}" for end in (min, max))
    span = f"{low} points" if low == high else f"{low} to {high} points"
    return near, (
        f"at most {NEAR} standard errors of a reading on {images:,} images ({span}) behind the front, since the "
        "deviation between seeds is not measured yet"
    )


def _top(outcome: Outcome, costs: Sequence[int], accuracies: Sequence[float]) -> list[int]:
    """All networks in the order in which a few should be taken: first the front, then by the distance from it.

    Of the front each next one adds the most hypervolume to those before it; where none adds any, the most accurate.
    """
    low, high = outcome.settings["cost_range"]
    classes = len(outcome.settings["classes"])

    def worth(indices: list[int]) -> float:
        at, values = [costs[i] for i in indices], [accuracies[i] for i in indices]
        return pareto.hypervolume(at, values, cost_range=(low, high), classes=classes) if low < high else 0.0

    left, taken = pareto.front(costs, accuracies), list[int]()
    while left:
        best = max(left, key=lambda i: (worth([*taken, i]), accuracies[i], -costs[i], -i))
        left.remove(best)
        taken.append(best)
    behind = pareto.behind(costs, accuracies)
    others = set(range(len(costs))) - set(taken)
    return taken + sorted(others, key=lambda i: (round(float(behind[i]), 12), costs[i], i))


def _epoch_s(row: Row) -> float:
    return row.seconds / row.curve[-1][0]


def words(plan: Plan, outcome: Outcome, *, workers: int, at_once: int, clock: Callable[[float], str]) -> list[str]:
    """Lines for a person, before it begins.

    Args:
        workers: processes.
        at_once: of these, how many truly run at the same time.
        clock: writes a duration.
    """
    total = len(plan.networks) * plan.seeds
    beside = f", and {_count(len(plan.beside), 'network')} of the line" if plan.beside else ""
    seeds = "once each, as a trial is" if plan.brief else f"{_count(plan.seeds, 'fresh seed')} each"
    chosen = _count(len(plan.networks if plan.brief else plan.chosen), "network")
    beside = "" if plan.brief else beside
    said = [f"{chosen}, {plan.why}{beside}; {seeds}, {_count(plan.epochs, 'epoch')}."]
    if plan.lost:
        said.append(
            f"The weights of {_count(plan.lost, 'recorded training')} are not in the study's folder: trained again."
        )
    if not plan.tasks:
        return [*said, f"Nothing is left to do of {_count(total, 'training')}."]
    done = f" ({total - len(plan.tasks)} of {total} are done)" if total > len(plan.tasks) else ""
    seconds = plan.seconds(outcome.rows, at_once)
    time = "in an unknown time" if seconds is None else f"in about {clock(seconds)}, by what the search's trials took"
    said.append(f"{_count(len(plan.tasks), 'training')} to do{done} by {_count(workers, 'worker')}, {time}.")
    return said


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
