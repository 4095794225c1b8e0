"""No pruning: what every rule is measured against."""

from __future__ import annotations

from optuna.study import Study
from optuna.trial import FrozenTrial

from nas.search.pruners.base import FrontPruner, Verdict


class NonePruner(FrontPruner):
    """Never prunes, and never looks: any study will do."""

    def explain(self, study: Study, trial: FrozenTrial) -> Verdict:
        """The same answer for every trial."""
        return Verdict()
