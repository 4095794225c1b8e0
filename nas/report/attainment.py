"""Fronts that a part of several searches attains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import moocore
import numpy as np
from numpy.typing import NDArray

QUARTILES = (25, 50, 75)
COLOURS = ("#2f6fdb", "#d2452d", "#1b9aa0", "#d9951a", "#7a4fc9", "#4f8f2f", "#b03a86", "#6b7280")
"""Of settings that stand beside each other."""


def attained(runs: Sequence[Sequence[tuple[float, float]]]) -> Mapping[int, NDArray[np.float64]]:
    """The empirical attainment surfaces (Grunert da Fonseca et al. 2001) of 25, 50 and 75 % of the searches.

    Args:
        runs: of each search its (cost, accuracy); a search of nothing attains nothing, and counts.

    Returns:
        By percentile (n, 2), columns (cost, accuracy), both rising: the corners of a step. What too few searches
        attained anywhere is left out; of nothing at all the answer is empty.
    """
    points = np.array([(cost, -accuracy) for run in runs for cost, accuracy in run], dtype=np.float64)
    if not len(points):
        return {}
    # A search without points would be left out of the percentiles: it stands beyond all of the others.
    far = points.max(axis=0) + 1
    empty = [number for number, run in enumerate(runs) if not run]
    points = np.concatenate([points, np.tile(far, (len(empty), 1))])
    sets = np.array([number for number, run in enumerate(runs) for _ in run] + empty)
    found = moocore.eaf(points, sets, percentiles=list(QUARTILES))
    surfaces = {}
    for percentile in QUARTILES:
        surface = found[(found[:, 2] == percentile) & (found[:, 0] < far[0])]
        if len(surface):
            surface = surface[np.argsort(surface[:, 0])]
            surfaces[percentile] = np.stack([surface[:, 0], -surface[:, 1]], axis=1)
    return surfaces
