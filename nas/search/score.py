"""What a replayed search came to, against the truth of its table; and several of them, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

from nas.pareto import behind
from nas.search.replay import Moment
from nas.search.table import Table

LEVELS = (0.9, 0.95, 0.98, 0.99, 0.995, 1.0)
"""Parts of the hypervolume of the whole table that a search may reach."""


@dataclass(frozen=True, slots=True)
class Point:
    """The search as it stood when a trial had ended."""

    trials: int
    epochs: int
    seconds: float
    hypervolume: float


@dataclass(frozen=True, slots=True)
class Score:
    """One replayed search.

    Accuracies are the means over the table's seeds, though the search saw one seed's.

    Args:
        trials: complete or pruned.
        complete: of them.
        epochs: trained, audits and paused trials included.
        epochs_part: of those that all its trials would have taken.
        seconds: of the simulated clock.
        recall: part of the true front of what it began that it completed.
        found: part of the whole table's true front that it completed.
        hypervolume: of what it completed.
        ratio: of that to what it would have been without pruning, with the same trials.
        near: trials that end near the front of this search, by the seed that it saw: at most `eps` behind.
        lost: of them, pruned: the false prunes.
        history: after each end of a trial.
        points: (cost, true accuracy) of what it completed.
    """

    trials: int
    complete: int
    epochs: int
    epochs_part: float
    seconds: float
    recall: float
    found: float
    hypervolume: float
    ratio: float
    near: int
    lost: int
    history: tuple[Point, ...]
    points: tuple[tuple[int, float], ...]


def score(table: Table, moments: Sequence[Moment], seed: int, eps: float) -> Score:
    """Measure a search.

    Args:
        moments: of the search, as `replay` gave them; at least one.
        seed: the one that the search saw; see `Table.networks`.
        eps: final deficit up to which a network counts as near the front, in accuracy.
    """
    last = {moment.row.trial: moment.row for moment in moments}
    keys = [row.key for row in last.values()]
    complete = [row.key for row in last.values() if row.state == "complete"]
    history = list[Point]()
    done = list[str]()
    ended = 0
    hypervolume = 0.0
    for moment in moments:
        if moment.row.state == "paused":
            continue
        ended += 1
        if moment.row.state == "complete":
            done.append(moment.row.key)
            hypervolume = table.hypervolume(done)
        history.append(Point(ended, moment.epochs, moment.seconds, hypervolume))
    finals = table.networks(seed).curves
    near = behind([table.costs[key] for key in keys], [finals[key][-1][0] for key in keys]) <= eps + 1e-12
    kept = set(complete)
    true_front, whole = table.front(keys), table.front(list(table.keys))
    reachable = table.hypervolume(keys)
    return Score(
        trials=len(keys),
        complete=len(complete),
        epochs=moments[-1].epochs,
        epochs_part=moments[-1].epochs / (len(keys) * table.epochs),
        seconds=moments[-1].seconds,
        recall=float(np.mean([key in kept for key in true_front])),
        found=float(np.mean([key in kept for key in whole])),
        hypervolume=hypervolume,
        ratio=hypervolume / reachable if reachable else 1.0,
        near=int(near.sum()),
        lost=sum(bool(close) and key not in kept for key, close in zip(keys, near, strict=True)),
        history=tuple(history),
        points=tuple((table.costs[key], table.truth[key]) for key in complete),
    )


def reached(history: Sequence[Point], hypervolume: float) -> Point | None:
    """The first moment with at least this hypervolume; None where it never came to it."""
    return next((point for point in history if point.hypervolume >= hypervolume - 1e-12), None)


def mean_interval(values: Sequence[float], draws: int = 2000) -> tuple[float, float, float]:
    """(mean, low, high): 95 % by bootstrap over the values; NaN of nothing, the mean itself of one."""
    return _bootstrap(values, np.mean, draws)


def median_interval(values: Sequence[float], draws: int = 2000) -> tuple[float, float, float]:
    """(median, low, high): as `mean_interval`."""
    return _bootstrap(values, np.median, draws)


def _bootstrap(values: Sequence[float], statistic: Callable[..., Any], draws: int) -> tuple[float, float, float]:
    array = np.asarray(values, dtype=np.float64)
    if len(array) == 0:
        return float("nan"), float("nan"), float("nan")
    drawn = np.random.default_rng(0).integers(len(array), size=(draws, len(array)))
    low, high = np.quantile(statistic(array[drawn], axis=1), [0.025, 0.975])
    return float(statistic(array)), float(low), float(high)


def paired(a: Sequence[float], b: Sequence[float]) -> float:
    """p of Wilcoxon's signed-rank test, two-sided, that paired values differ; 1 where all are equal.

    Raises:
        ValueError: of different lengths.
    """
    if len(a) != len(b):
        raise ValueError(f"pairs need two lists of one length, got {len(a)} and {len(b)}")
    differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    if not differences.any():
        return 1.0
    return float(wilcoxon(differences).pvalue)
