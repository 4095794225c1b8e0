"""What a reading says of the end: a ridge regression on the trials that have ended."""

from __future__ import annotations

import numpy as np

from nas.search.pruners.rungs import Curves, FloatArray

ENDED = 20
"""Completed trials from which on the end is predicted; fewer would be fitted and not learned from."""
RIDGE = 1.0


def can_predict(curves: Curves) -> bool:
    """Whether every rung has `ENDED` completed trials with a value there."""
    ended = ~np.isnan(curves.finals)[:, None] & ~np.isnan(curves.values)
    return bool((ended.sum(axis=0) >= ENDED).all())


def predicted_ends(curves: Curves) -> FloatArray | None:
    """The final value that each trial's value at each rung lets expect, in the units of the values.

    For each rung a linear regression of the final value on the value there and the logarithm of the cost, both
    standardised, with a penalty of 1 on their squared weights; fitted to the completed trials that have a value there.
    It takes out what a reading says by the trial's size alone: larger networks are ahead early on, or behind.

    Returns:
        (n, K), NaN where a trial has no value; None with fewer than `ENDED` completed trials at some rung.
    """
    if not can_predict(curves):
        return None
    size = np.log1p(curves.costs)
    columns = [expected_ends(curves.values[:, rung], size, curves.finals) for rung in range(curves.values.shape[1])]
    return np.stack(columns, axis=1) if columns else curves.values


def expected_ends(values: FloatArray, size: FloatArray, finals: FloatArray) -> FloatArray:
    """The same for one rung.

    Args:
        values: (n,) at the rung, NaN where a trial has none.
        size: (n,) finite: logarithms of the costs.
        finals: (n,) NaN of trials that have not ended; at least one trial has both.

    Returns:
        (n,), NaN where `values` is.
    """
    known = np.flatnonzero(~np.isnan(values) & ~np.isnan(finals))
    # Sums depend on their order in the last bits; this one is the same in whatever order the trials are.
    known = known[np.lexsort((finals[known], values[known], size[known]))]
    goal = finals[known]
    (value, value_scale), (log_cost, cost_scale) = _standard(values[known]), _standard(size[known])
    fitted = np.stack([(values[known] - value) / value_scale, (size[known] - log_cost) / cost_scale])
    weights = np.linalg.solve(fitted @ fitted.T + RIDGE * np.eye(2), fitted @ (goal - goal.mean()))
    expected = goal.mean() + weights[0] * (values - value) / value_scale
    return np.asarray(expected + weights[1] * (size - log_cost) / cost_scale)


def _standard(values: FloatArray) -> tuple[float, float]:
    """(mean, standard deviation), 1 for the latter where there is none."""
    spread = float(values.std())
    return float(values.mean()), spread if spread > 0 else 1.0
