"""No pruning: what every rule is measured against."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.study import Study
from optuna.trial import FrozenTrial

from nas.search.pruners.base import FrontPruner, Verdict


class NonePruner(FrontPruner):
    """Never prunes, and never looks: any study will do."""

    def resume(self, study: Study, paused: Sequence[int], *, last: bool) -> int | None:
        """What another rule had set aside is completed, the first first: nothing is to be left out."""
        return min(paused, default=None)

    def explain(self, study: Study, trial: FrozenTrial) -> Verdict:
        """The same answer for every trial."""
        return Verdict()
