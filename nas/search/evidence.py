"""What is known of a trial's end: its value, or what its readings and its training loss let expect of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from nas.search.pruners.prediction import expected_ends

FloatArray = NDArray[np.float64]
Curve = dict[int, float]
"""Finite points by step."""

LOSSES = "train_loss"
"""User attribute of a trial: its training loss at each step that it reported, in their order."""
PAIRS = 8
"""Completed trials with a point at a step, from which on that step says something about another trial."""


def finals_of(trials: Sequence[FrozenTrial], sign: float) -> FloatArray:
    """Objective 0 of the completed trials, times `sign`: larger is better. NaN of the others."""
    return np.array([sign * other.values[0] if other.state == TrialState.COMPLETE else math.nan for other in trials])


def expected(curves: Sequence[Curve], finals: FloatArray, costs: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(ends, variances) that each trial's last point on a curve lets expect; NaN where that is not known.

    Args:
        curves: of n trials in any state.
        finals: (n,) see `finals_of`.
        costs: (n,) finite: logarithms where costs span orders of magnitude.

    Returns:
        Each (n,). The variance is that of the completed trials' ends around what is expected of them.
    """
    last = np.array([max(curve, default=-1) for curve in curves])
    ends, variances = np.full(len(curves), math.nan), np.zeros(len(curves))
    for step in np.unique(last[last >= 0]):
        at = np.array([curve.get(int(step), math.nan) for curve in curves])
        both = ~np.isnan(at) & ~np.isnan(finals)
        if both.sum() >= PAIRS:
            asked, found = last == step, expected_ends(at, costs, finals)
            ends[asked] = found[asked]
            variances[asked] = float(np.mean((finals[both] - found[both]) ** 2))
    return ends, variances


def reported(trial: FrozenTrial, sign: float) -> Curve:
    """A trial's finite reported values by step, times `sign`."""
    return {step: sign * value for step, value in trial.intermediate_values.items() if math.isfinite(value)}


def losses(trial: FrozenTrial) -> Curve:
    """A trial's finite training losses by step; none where it has not one for each step that it reported."""
    known, steps = trial.user_attrs.get(LOSSES), sorted(trial.intermediate_values)
    if not isinstance(known, Sequence) or len(known) != len(steps):
        return {}
    return {
        step: float(loss)
        for step, loss in zip(steps, known, strict=True)
        if isinstance(loss, int | float) and math.isfinite(loss)
    }
