"""The median rule on the non-dominated rank of (value, cost)."""

from __future__ import annotations

import numpy as np

from nas.pareto import ranks
from nas.search.pruners.ranked import RankedPruner
from nas.search.pruners.rungs import Curves


class RankMedianPruner(RankedPruner):
    """Stop a trial whose non-dominated rank at a rung is worse than the median rank of all trials seen there.

    Ranks are those of (value at the rung, cost): 0 on the front, 1 on the front without these, and so on. A trial on
    the front of its rung is never stopped; nor is one that a smaller network merely equals in value, which leaves the
    front by the letter but by nothing that was measured.

    Source: the median rule of Golovin et al. 2017, "Google Vizier: A Service for Black-Box Optimization",
    doi 10.1145/3097983.3098043, with ranks in place of values. Rungs: `RankedPruner`.

    Args:
        startup: completed trials, with a finite value, before which nothing is stopped; >= 1.
        last_step: see `RankedPruner`.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, *, startup: int = 5, last_step: int | None = None) -> None:
        super().__init__(last_step=last_step)
        if not startup >= 1:
            raise ValueError(f"startup must be >= 1, got {startup}")
        self._startup = startup

    def judge(self, curves: Curves, column: int) -> tuple[bool, str]:
        """See `RankedPruner.judge`; O(n log n)."""
        step = curves.steps[column]
        completed = int(np.count_nonzero(~np.isnan(curves.finals)))
        if completed < self._startup:
            return (
                False,
                f"{completed} completed trials at epoch {step}, too few to judge by: {self._startup} are needed",
            )
        values = curves.values[:, column]
        seen = np.flatnonzero(~np.isnan(values))
        fronts = np.array(ranks(curves.costs[seen], values[seen]))
        mine = int(fronts[np.searchsorted(seen, curves.row)])
        middle = float(np.median(fronts))
        behind = bool(np.any((curves.costs <= curves.costs[curves.row]) & (values > values[curves.row])))
        why = f"rank {mine + 1} of {fronts.max() + 1} fronts among {len(seen)} trials at epoch {step}; "
        why += f"those up to {middle + 1:g}, the median, go on"
        if mine > middle and not behind:
            why += ", as does this one, since no network that is no larger is ahead"
        return behind and mine > middle, why
