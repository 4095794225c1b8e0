"""Asynchronous successive halving on the non-dominated rank of (value, cost), spread evenly within a front."""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np

from nas.pareto import ranks
from nas.search.pruners.ranked import HalvingPruner
from nas.search.pruners.rungs import Curves, FloatArray


class MoashaPruner(HalvingPruner):
    """Stop a trial that is not among the best third of all trials seen at its rung, ranked by front and then by spread.

    Trials are ranked by non-dominated sorting of (value at the rung, cost), and within a front by its epsilon-net:
    first the best value, then again and again the point farthest from all before it, so that the part of a front which
    goes on covers all of it. A trial on the front of its rung may therefore be stopped: where the front holds more
    than a third of the trials, or many like it. Equal points share their place, and go on or stop together.

    Source: Schmucker, Donini, Zafar, Salinas, Archambeau 2021, "Multi-objective Asynchronous Successive Halving",
    arXiv 2106.12639, as the variant that stops trials in place of pausing them; the net: Clarkson 2006,
    "Nearest-neighbor searching and metric space dimensions". Theirs leaves the scales open and may start anywhere; here
    both objectives are scaled to 0..1 over the front. Arguments and rungs: `HalvingPruner`, `RankedPruner`.
    """

    def judge(self, curves: Curves, column: int) -> tuple[bool, str]:
        """See `RankedPruner.judge`; O(n log n)."""
        values = curves.values[:, column]
        seen = np.flatnonzero(~np.isnan(values))
        costs, values = curves.costs[seen], values[seen]
        me = int(np.searchsorted(seen, curves.row))
        fronts = np.array(ranks(costs, values))
        quota = max(1, len(seen) // self._reduction)
        left = quota - int(np.count_nonzero(fronts < fronts[me]))
        mine = np.flatnonzero(fronts == fronts[me])
        why = f"rank {fronts[me] + 1} of {fronts.max() + 1} fronts among {len(seen)} trials "
        why += f"at epoch {curves.steps[column]}; the best {quota} go on"
        if left <= 0 or len(mine) <= left:
            return left <= 0, why
        stops = not spread(costs[mine], values[mine], int(np.searchsorted(mine, me)), left)
        return stops, f"{why}, {left} of the {len(mine)} on this front, spread evenly"


def spread(costs: FloatArray, values: FloatArray, me: int, places: int) -> bool:
    """Whether a point is among the first `places` of its front in epsilon-net order.

    The order starts with the best value; each next point has the largest Euclidean distance to the nearest one before
    it, both objectives scaled to 0..1 over the front, ties to the cheaper. Equal points take their places together,
    the last of them beyond `places` if need be.

    Args:
        costs: (m,), finite, of points of which none dominates another.
        values: (m,), finite; larger is better.
        me: index of the point that is asked for.
        places: >= 1.
    """
    unique, index, counts = np.unique(costs, return_inverse=True, return_counts=True)
    along = np.empty_like(unique)
    along[index] = values
    together: list[int] = counts.tolist()
    points: list[complex] = (_scaled(unique) + 1j * _scaled(along)).tolist()
    goal, last = int(index[me]), len(points) - 1
    # A front rises in both objectives, so of the points before it only the neighbours on both sides can be nearest to
    # a point: each gap between two of them has its own farthest point, and the farthest of these is next.
    # The best value is first and the cheapest point, the farthest from it, second; no other is 2 away from any.
    gaps = [(-3.0, last, last, last), (-2.0, 0, 0, last)]
    while True:
        _, chosen, left, right = heappop(gaps)
        if chosen == goal:
            return True
        places -= together[chosen]
        if places <= 0:
            return False
        for start, end in ((left, chosen), (chosen, right)):
            if end - start > 1:
                distance, farthest = _farthest(points, start, end)
                heappush(gaps, (-distance, farthest, start, end))


def _farthest(points: list[complex], start: int, end: int) -> tuple[float, int]:
    """The point strictly between two others with the largest distance to the nearer of them, and that distance."""
    a, b = points[start], points[end]
    low, high = start + 1, end - 1
    while low < high:  # to the first that is no nearer to the start than to the end, or the last
        middle = (low + high) // 2
        point = points[middle]
        if abs(point - a) >= abs(b - point):
            high = middle
        else:
            low = middle + 1
    point = points[low]
    distance = min(abs(point - a), abs(b - point))
    if low - 1 > start:  # the one before it is nearer to the start
        before = abs(points[low - 1] - a)
        if before >= distance:
            return before, low - 1
    return distance, low


def _scaled(numbers: FloatArray) -> FloatArray:
    half = numbers / 2  # the span of two huge numbers would overflow
    span = half.max() - half.min()
    return np.asarray((half - half.min()) / (span if span > 0 else 1.0))
