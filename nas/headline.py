"""The headline of a study: by how many points its front is above a known network's line, at equal cost. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.baseline_rows import Baseline, baselines
from nas.outcome import Outcome
from nas.records import Records, Row
from nas.refined import Refinement, half_interval, refinements

COSTS = 32
"""Log-spaced costs at which front and line are compared."""
SEEDS = 5
"""Fresh seeds from which on a headline counts."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Advantage:
    """How far a front is above a line, in percentage points of accuracy, mean over the costs that both cover.

    Args:
        points: the mean of `each`; positive where the front is better.
        each: by seed.
        interval: 95 % of `points` by Student's t over the seeds; (NaN, NaN) of one seed.
        costs: (lowest, highest) of the common range.
    """

    points: float
    each: tuple[float, ...]
    interval: tuple[float, float]
    costs: tuple[float, float]


def advantage(
    front_costs: ArrayLike, front_accuracies: ArrayLike, line_costs: ArrayLike, line_accuracies: ArrayLike
) -> Advantage | None:
    """Mean over `COSTS` log-spaced costs of the common range of (the front's best at most as dear) - (the line there).

    At a cost p the front gives its member of the highest mean among those of at most p (of equal means the cheaper),
    and the line its mean, linear in log p between its points; points of one cost count by their mean. The interval is
    paired: each seed gives a difference of its own at every cost, of the members that the means chose. That choice
    is made on the same seeds, so where members are level it is a little high.

    Args:
        front_costs: (members,), above 0.
        front_accuracies: (members, seeds), 0..1.
        line_costs: (points,), above 0.
        line_accuracies: (points, seeds), by the same seeds.

    Returns:
        None where one of them is empty, or the ranges from lowest to highest cost do not meet.

    Raises:
        ValueError: shapes that do not fit, no seed, a cost that is not above 0, or a number that is not finite.
    """
    ours, mine = _checked("front", front_costs, front_accuracies)
    theirs, known = _checked("line", line_costs, line_accuracies)
    if not len(ours) or not len(theirs):
        return None
    if mine.shape[1] != known.shape[1] or not mine.shape[1]:
        raise ValueError(f"front and line need the same seeds, got {mine.shape[1]} and {known.shape[1]}")
    low, high = max(ours.min(), theirs.min()), min(ours.max(), theirs.max())
    if low > high:
        return None
    at = np.geomspace(low, high, COSTS).clip(low, high)  # not a hair beside the networks that stand at the ends
    each = 100 * (_step(ours, mine, at) - _linear(theirs, known, at)).mean(axis=0)
    points, half = float(each.mean()), half_interval(each.tolist())
    return Advantage(points, tuple(each.tolist()), (points - half, points + half), (float(low), float(high)))


def _checked(what: str, costs: ArrayLike, accuracies: ArrayLike) -> tuple[Numbers, Numbers]:
    cost, accuracy = np.asarray(costs, dtype=np.float64), np.asarray(accuracies, dtype=np.float64)
    if cost.size == 0 and accuracy.size == 0:
        return np.empty(0), np.empty((0, 0))
    if cost.ndim != 1 or accuracy.ndim != 2 or len(cost) != len(accuracy):
        raise ValueError(f"{what}: (n,) costs and (n, seeds) accuracies, got shapes {cost.shape} and {accuracy.shape}")
    if not (np.isfinite(cost).all() and (cost > 0).all() and np.isfinite(accuracy).all()):
        raise ValueError(f"{what}: costs must be above 0, and all numbers finite")
    return cost, accuracy


def _step(costs: Numbers, accuracies: Numbers, at: Numbers) -> Numbers:
    """(costs, seeds): of the member of the highest mean with at most each cost of `at`."""
    means = np.round(accuracies.mean(axis=1), 12)  # sums of the same numbers in another order are equal
    order = np.lexsort((costs, -means))  # the best first, of equals the cheapest
    return np.stack([accuracies[next(member for member in order if costs[member] <= cost)] for cost in at])


def _linear(costs: Numbers, accuracies: Numbers, at: Numbers) -> Numbers:
    """(costs, seeds): the line at each cost of `at`, which lies within its range."""
    distinct = np.unique(costs)
    means = np.stack([accuracies[costs == cost].mean(axis=0) for cost in distinct])
    return np.stack([np.interp(np.log(at), np.log(distinct), column) for column in means.T], axis=1)


@dataclass(frozen=True, slots=True)
class Headline:
    """What a study can say of itself.

    Args:
        params, macs: at equal parameters and at equal MACs; None where front and line have no cost in common.
        brief: from the search's own readings, by which the front was chosen.
        seeds: behind each mean.
        epochs: of each training.
        members: of the front, that took part.
        front: members of the front.
        line: points of the line that took part.
        points: of the line.
    """

    params: Advantage | None
    macs: Advantage | None
    brief: bool
    seeds: int
    epochs: int
    members: int
    front: int
    line: int
    points: int


def headline(front: Sequence[Row], line: Sequence[Baseline], trainings: Sequence[Refinement]) -> Headline | None:
    """From full trainings where front and line share some; else from brief ones.

    Args:
        front: the study's, by brief training.
        line: what was trained of the line by the study's recipe.
        trainings: full ones, of both.

    Returns:
        None without a front or a line.
    """
    points = {one.key: one for one in line}
    if not front or not points:
        return None
    fresh = _fresh(front, points, trainings)
    if fresh is not None:
        return fresh
    brief = {row.key: [float(row.val_accuracy or 0.0)] for row in front}
    drawn = {key: [one.val_accuracy] for key, one in points.items()}
    params, macs = _both(front, brief, list(points.values()), drawn)
    epochs = max(one.epochs for one in points.values())
    return Headline(params, macs, True, 1, epochs, len(front), len(front), len(points), len(points))


def study_headline(records: Records, outcome: Outcome) -> Headline | None:
    """The headline of a study that is there; None without a front, or a line trained by its recipe.

    Raises:
        StudyError: the database is out of reach, or damaged.
    """
    line = study_line(records, outcome)
    return headline(outcome.front, line, refinements(records, records.study(outcome.study).id)) if line else None


def study_line(records: Records, outcome: Outcome) -> list[Baseline]:
    """The networks of the line that were trained by the study's recipe; empty of none.

    Raises:
        StudyError: the database is out of reach, or damaged.
    """
    recipe = outcome.identity.get("space", {}).get("recipe")
    found = baselines(records, records.study(outcome.study).id)
    return [one for one in found if one.kind == "line" and dict(one.recipe) == recipe]


def _fresh(front: Sequence[Row], points: Mapping[str, Baseline], trainings: Sequence[Refinement]) -> Headline | None:
    """By the recipe of most common seeds, up to `SEEDS`; of equals that of most epochs, then the last one trained.

    So trainings by another recipe that are not done yet take no other's place.
    """
    best: Headline | None = None
    for recipe in {one.recipe_hash: None for one in sorted(trainings, key=lambda one: one.finished_at)}:
        mine = [one for one in trainings if one.recipe_hash == recipe]
        known: dict[str, dict[int, float]] = {}
        for one in mine:
            known.setdefault(one.key, {})[one.replicate] = one.val_accuracy
        members = [row for row in front if row.key in known]
        line = [point for key, point in points.items() if key in known]
        taking_part = [*(row.key for row in members), *(point.key for point in line)]
        seeds = sorted(set.intersection(*(set(known[key]) for key in taking_part))) if members and line else []
        if not seeds:
            continue
        read = {key: [known[key][seed] for seed in seeds] for key in taking_part}
        params, macs = _both(members, read, line, read)
        sizes = len(members), len(front), len(line), len(points)
        found = Headline(params, macs, False, len(seeds), mine[0].epochs, *sizes)
        if best is None or _weight(found) >= _weight(best):
            best = found
    return best


def _weight(found: Headline) -> tuple[int, int]:
    return min(found.seeds, SEEDS), found.epochs


def _both(
    front: Sequence[Row], ours: Mapping[str, list[float]], line: Sequence[Baseline], theirs: Mapping[str, list[float]]
) -> tuple[Advantage | None, Advantage | None]:
    """At equal parameters and at equal MACs; accuracies by key, one for each seed."""
    mine, known = [ours[row.key] for row in front], [theirs[point.key] for point in line]
    return (
        advantage([row.params for row in front], mine, [point.params for point in line], known),
        advantage([row.macs for row in front], mine, [point.macs for point in line], known),
    )


def said(found: Headline, study: str) -> list[str]:
    """Lines for a person."""
    parts = [words for words in (_words(found.params, "parameters"), _words(found.macs, "MACs")) if words is not None]
    if not parts:
        return ["Against GoogLeNet's proportions at other widths: the front and the line have no cost in common."]
    lines = [f"Against GoogLeNet's proportions at other widths: {'; '.join(parts)}."]
    if found.brief:
        lines.append(
            f"That is one seed and {_count(found.epochs, 'epoch')}, and the front was selected on the same reading: "
            f"optimistic. `nas refine {study} --with-line` trains both with fresh seeds."
        )
        return lines
    few = f", and a headline asks for {SEEDS}" if found.seeds < SEEDS else ""
    left = ""
    if found.members < found.front or found.line < found.points:
        left = (
            f" {found.members} of {found.front} on the front and {found.line} of {found.points} of the line took part."
        )
    lines.append(
        f"From {_count(found.seeds, 'fresh seed')} of {_count(found.epochs, 'epoch')} each, none of them used for "
        f"selection{few}.{left}"
    )
    return lines


def plain(found: Headline) -> dict[str, object]:
    """As JSON data; intervals of one seed are None."""

    def one(given: Advantage | None) -> dict[str, object] | None:
        if given is None:
            return None
        whole = math.isfinite(given.interval[0])
        return {
            "points": given.points,
            "interval": list(given.interval) if whole else None,
            "each": list(given.each),
            "costs": list(given.costs),
        }

    return {
        "at_equal_params": one(found.params),
        "at_equal_macs": one(found.macs),
        "selected_on_the_same_reading": found.brief,
        "seeds": found.seeds,
        "epochs": found.epochs,
        "members": {"took_part": found.members, "of": found.front},
        "line": {"took_part": found.line, "of": found.points},
    }


def _words(given: Advantage | None, unit: str) -> str | None:
    if given is None:
        return None
    low, high = (f"{cost:,.0f}" for cost in given.costs)
    span = ""
    if len(given.each) > 1:
        span = f" (95 % interval {given.interval[0]:+.2f} to {given.interval[1]:+.2f})"
    return f"{given.points:+.2f} points{span} at equal {unit}, {low} to {high}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
