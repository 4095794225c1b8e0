"""Expected hypervolume improvement of a point whose cost is known and whose value is not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

FloatArray = NDArray[np.float64]


def expected_improvement(
    costs: FloatArray,
    means: FloatArray,
    stds: FloatArray,
    *,
    front_costs: FloatArray,
    front_values: FloatArray,
    corner: tuple[float, float],
) -> FloatArray:
    """By how much each point is expected to enlarge the area that a front dominates. Larger values, smaller costs.

    A point of known cost adds, over every stretch of the cost axis from its own cost to the corner, the width times
    what it stands above the front there; for a normal value that is the expected improvement over the stretch's height
    (Jones, Schonlau & Welch 1998, doi 10.1023/A:1008306431147). So the sum is exact; in two objectives that are both
    uncertain it would take Emmerich, Deutz & Klinkenberg 2011 (doi 10.1109/CEC.2011.5949880).

    Args:
        costs: (m,) finite.
        means, stds: (m,) of the value, normal; a std of 0 is a value that is known.
        front_costs, front_values: (k,), any points at all: their front is taken. None: the corner alone.
        corner: (cost, value) that bounds the area; what lies beyond it adds nothing.

    Returns:
        (m,) >= 0, in units of cost x value.
    """
    edge, bottom = corner
    order = np.lexsort((-front_values, front_costs))
    kept_costs, kept_values = front_costs[order], np.maximum(front_values[order], bottom)
    before = np.concatenate([[bottom], np.maximum.accumulate(kept_values)[:-1]]) if len(order) else kept_values
    rises = (kept_values > before) & (kept_costs < edge)
    starts = np.concatenate([[-np.inf], kept_costs[rises]])
    ends = np.concatenate([kept_costs[rises], [edge]])
    heights = np.concatenate([[bottom], kept_values[rises]])
    widths = np.maximum(0.0, ends[None, :] - np.maximum(starts[None, :], costs[:, None]))
    above = means[:, None] - heights[None, :]
    spread = np.maximum(stds, 1e-12)[:, None]
    z = above / spread
    gains = above * ndtr(z) + spread * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    return np.asarray((widths * np.maximum(gains, 0.0)).sum(axis=1))
