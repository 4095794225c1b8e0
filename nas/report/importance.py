"""Which coordinates set the networks near the front apart from the others: PED-ANOVA, with its noise and intervals.

Optuna's `get_param_importances` without a target answers the same question and is the oracle in the tests; with a
target it takes low accuracy for good. It is done here again on arrays because noise and intervals ask it 220 times, and
a study of 10,000 trials alone would take seconds to rebuild for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from nas import pareto
from nas.records import Row

TOP = 0.1
"""Part of the complete trials that counts as near the front, as in Optuna."""
LEAST = 30
"""Complete trials under which nothing is said: a tenth of them would be fewer than three networks."""
CELLS = 50
NARROWEST = 0.5 / 1.64  # a kernel has nine tenths of its mass within its own cell, or is wider
DRAWS, GROUPS = 200, 20

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Importance:
    """Of each coordinate for being near the front, among the complete trials of a study.

    Args:
        names: of the coordinates, the most important first.
        parts: 0..1 each, together 1.
        low, high: 95 % each, by the jackknife over groups of trials; 0..1.
        noise: what the greatest of all parts stays under in 95 of 100 draws where nothing matters.
        near: trial numbers of those near the front: the first fronts that together hold a tenth of the trials.
        trials: complete ones with coordinates.
    """

    names: tuple[str, ...]
    parts: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    noise: float
    near: tuple[int, ...]
    trials: int


def importance(rows: Sequence[Row]) -> Importance | None:
    """Importance by PED-ANOVA (Watanabe et al. 2023, arXiv 2304.10255): Pearson's divergence between where the trials
    near the front lie along a coordinate and where all of them do, both smoothed by a Parzen estimator.

    Near the front are whole ranks of non-dominated sorting by cost and accuracy, the best first, until they hold a
    tenth of the trials (Optuna breaks the last rank up to hit the tenth). Interval: jackknife that leaves out each of
    20 groups of trials in turn; a bootstrap would double trials and with them the divergence. Noise: the same for as
    many trials drawn at random, 200 times.

    Args:
        rows: of one study; complete ones with coordinates count.

    Returns:
        None of fewer than 30 such trials, or where more than half of them are near the front.
    """
    given = [row for row in rows if row.state == "complete" and row.coordinates and row.val_accuracy is not None]
    if len(given) < LEAST:
        return None
    names = tuple(dict.fromkeys(name for row in given for name in row.coordinates or {}))
    values = np.array([[(row.coordinates or {}).get(name, math.nan) for name in names] for row in given])
    whole = ~np.isnan(values).any(axis=1)
    values, given = values[whole], [row for row, there in zip(given, whole, strict=True) if there]
    costs = np.array([row.cost for row in given], dtype=np.float64)
    accuracies = np.array([row.val_accuracy for row in given], dtype=np.float64)
    if len(given) < LEAST:
        return None
    close = near(costs, accuracies)
    if close.sum() * 2 > len(given):
        return None
    cells = cell(values)
    parts = shares(cells, close)
    low, high = _jackknife(cells, costs, accuracies, parts)
    order = np.argsort(-parts, kind="stable")
    return Importance(
        names=tuple(names[i] for i in order),
        parts=tuple(parts[order].tolist()),
        low=tuple(low[order].tolist()),
        high=tuple(high[order].tolist()),
        noise=_noise(cells, close),
        near=tuple(row.trial for row, is_near in zip(given, close, strict=True) if is_near),
        trials=len(given),
    )


def near(costs: Floats, accuracies: Floats) -> NDArray[np.bool_]:
    """(n,): whether a trial is of the first fronts that together hold a tenth of all."""
    ranks = np.array(pareto.ranks(costs, accuracies))
    wanted = math.ceil(TOP * len(ranks))
    last = int(np.argmax(np.cumsum(np.bincount(ranks)) >= wanted))
    return np.asarray(ranks <= last)


def cell(values: Floats) -> Ints:
    """The cell of 50 over 0..1 that a value is nearest to; of two equally near ones the lower."""
    return np.clip(np.ceil(values * (CELLS - 1) - 0.5).astype(np.int64), 0, CELLS - 1)


def shares(cells: Ints, close: NDArray[np.bool_]) -> Floats:
    """(coordinates,): parts of the summed divergences, which are equal where there is no divergence at all.

    Args:
        cells: (trials, coordinates).
        close: (trials,), which of them are near the front.
    """
    found = divergence(cells[close], density(_counts(cells)))
    return np.asarray(found / found.sum()) if found.sum() > 0 else np.full(len(found), 1 / len(found))


def divergence(cells: Ints, everywhere: Floats) -> Floats:
    """(coordinates,): Pearson's, of these trials against `everywhere`, (coordinates, 50)."""
    ratio = (density(_counts(cells)) + 1e-12) / (everywhere + 1e-12)
    return np.asarray(((everywhere + 1e-12) * (ratio - 1) ** 2).sum(axis=1))


def density(counts: Ints) -> Floats:
    """(coordinates, 50): how likely each cell is, by truncated normal kernels on the cells of a Parzen estimator.

    The width is Scott's rule by the lesser of standard deviation and interquartile range; a flat kernel of weight 1 is
    added.

    Args:
        counts: (coordinates, 50) of trials.
    """
    at = np.arange(CELLS)
    total = counts.sum(axis=1, keepdims=True)
    mean = (counts * at).sum(axis=1, keepdims=True) / total
    spread = np.sqrt((counts * (at - mean) ** 2).sum(axis=1) / np.maximum(1, total[:, 0] - 1))
    below = counts.cumsum(axis=1)
    first = np.argmax(below >= np.maximum(total // 4, 1), axis=1)
    third = np.argmax(below > total * 3 // 4, axis=1)
    width = 1.059 * np.minimum((third - first) / 1.34, spread) * total[:, 0] ** -0.2
    width = np.maximum(width, NARROWEST)[:, None]
    apart = np.arange(1 - CELLS, CELLS)
    mass = ndtr((apart + 0.5) / width) - ndtr((apart - 0.5) / width)  # of a kernel, in the cell so far from its own
    inside = ndtr((CELLS - 0.5 - at) / width) - ndtr((-0.5 - at) / width)
    kernels = mass[:, at[:, None] - at[None, :] + CELLS - 1]  # (coordinates, cell, kernel)
    flat = _normal((at + 0.5 - CELLS / 2) / CELLS, 1 / CELLS)
    return np.asarray((np.einsum("dij,dj->di", kernels, counts / inside) + flat) / (total + 1))


def _normal(middle: Floats, width: float) -> Floats:
    mass = ndtr(middle + width / 2) - ndtr(middle - width / 2)
    return np.asarray(mass / mass.sum())


def _counts(cells: Ints) -> Ints:
    coordinates = cells.shape[1]
    flat = np.bincount((cells + CELLS * np.arange(coordinates)).ravel(), minlength=CELLS * coordinates)
    return flat.reshape(coordinates, CELLS)


def _jackknife(cells: Ints, costs: Floats, accuracies: Floats, parts: Floats) -> tuple[Floats, Floats]:
    group = np.random.default_rng(0).permutation(len(cells)) % GROUPS
    left = [shares(cells[group != one], near(costs[group != one], accuracies[group != one])) for one in range(GROUPS)]
    deviation = np.sqrt((GROUPS - 1) / GROUPS * ((np.array(left) - np.mean(left, axis=0)) ** 2).sum(axis=0))
    half = stdtrit(GROUPS - 1, 0.975) * deviation
    return np.clip(parts - half, 0, 1), np.clip(parts + half, 0, 1)


def _noise(cells: Ints, close: NDArray[np.bool_]) -> float:
    draw = np.random.default_rng(0)
    everywhere = density(_counts(cells))
    size = int(close.sum())
    greatest = [divergence(cells[draw.choice(len(cells), size, replace=False)], everywhere).max() for _ in range(DRAWS)]
    total = divergence(cells[close], everywhere).sum()
    return float(np.quantile(greatest, 0.95) / total) if total > 0 else 1.0
