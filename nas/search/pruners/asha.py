"""Asynchronous successive halving on accuracy alone: the warning of what a rule of one objective does to a front."""

from __future__ import annotations

import numpy as np

from nas.search.pruners.ranked import HalvingPruner
from nas.search.pruners.rungs import Curves, FloatArray


class AshaPruner(HalvingPruner):
    """Stop a trial whose value at a rung is not among the best third of all values seen there, whatever its cost.

    Here to be measured against, not to be used: small networks are behind in accuracy for being small, so this rule
    prunes the cheap half of the front. Ties go on together, even where more than a third then does.

    Source: Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", arXiv 1810.05934, as the variant
    that stops trials in place of pausing them. Arguments and rungs: `HalvingPruner`, `RankedPruner`.
    """

    def judge(self, curves: Curves, column: int) -> tuple[bool, str]:
        """See `RankedPruner.judge`; O(n)."""
        values = curves.values[:, column]
        ahead, seen, quota = place(values, float(values[curves.row]), self._reduction)
        why = f"rank {ahead + 1} by value alone among {seen} trials at epoch {curves.steps[column]}; "
        return ahead >= quota, why + f"the best {quota} go on"


def place(values: FloatArray, value: float, reduction: int) -> tuple[int, int, int]:
    """How many values are better than this one, how many there are, and how many of these go on; NaN is none."""
    seen = int(np.count_nonzero(~np.isnan(values)))
    return int(np.count_nonzero(values > value)), seen, max(1, seen // reduction)
