"""Front-conformal dominance that sets aside instead of pruning: what is stopped too early is taken up again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial

from nas.search.pruners import rungs as reading
from nas.search.pruners.conformal import ConformalPruner
from nas.search.pruners.rungs import Curves, FloatArray


class PausingPruner(ConformalPruner):
    """`ConformalPruner` for a search that keeps the training of what it stops, and resumes it when evidence says so.

    While fewer than 8 completed trials can calibrate the margins, what is farther behind than a rung's least scale is
    stopped at once: being wrong costs nothing, where pruning must wait. A stopped trial is resumed, best first, when
    the margins have grown to include it; and in the end, when nothing new is begun, those nearest to the front are
    completed until there is enough to calibrate with. What is then still outside the margins stays as it is.

    Its answers suit a search that resumes; by itself, as an Optuna pruner that ends trials for good, take
    `ConformalPruner`.
    """

    pauses = True

    def resume(self, study: Study, paused: Sequence[int], *, last: bool) -> int | None:
        """The paused trial that is least behind for its rung, among those inside the margins; ties to the cheaper.

        Raises:
            ValueError: the rule cannot serve this study.
        """
        reading.check(study)
        curves = reading.read(study, None, self._is_rung, self._last_step, unfinished=True, kept=self._kept)
        if curves is None or not curves.steps:
            return None
        deficits, margins = super()._margins(curves)
        few = margins is None
        if margins is None:
            if not last:
                return None
            margins = self._least(curves)
        aside = np.isin(curves.numbers, list(paused)) & ~np.isnan(curves.values).all(axis=1)
        rows = np.flatnonzero(aside)
        # where it stands: the last rung that it reached
        columns = curves.values.shape[1] - 1 - np.argmax(~np.isnan(curves.values[rows, ::-1]), axis=1)
        behind = deficits[rows, columns] / margins[columns]
        behind[deficits[rows, columns] == 0] = 0.0
        inside = [i for i in range(len(rows)) if few or behind[i] <= 1]
        if not inside:
            return None
        best = min(inside, key=lambda i: (behind[i], curves.costs[rows[i]], curves.keys[rows[i]]))
        return int(curves.numbers[rows[best]])

    def _read(self, study: Study, trial: FrozenTrial) -> Curves | None:
        return reading.read(study, trial, self._is_rung, self._last_step, unfinished=True, kept=self._kept)

    def _margins(self, curves: Curves) -> tuple[FloatArray, FloatArray | None]:
        deficits, margins = super()._margins(curves)
        return deficits, self._least(curves) if margins is None else margins

    def _least(self, curves: Curves) -> FloatArray:
        return np.full(len(curves.steps), self._floor)
