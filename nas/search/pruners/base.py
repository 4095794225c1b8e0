"""What every pruner is: an `optuna.pruners.BasePruner` that can also say why."""

from __future__ import annotations

import abc
from dataclasses import dataclass

from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial


@dataclass(frozen=True, slots=True)
class Verdict:
    """One decision and its grounds, in the units of the reported values.

    Args:
        rung: the step that was judged; None where nothing was: no value yet, or between rungs.
        deficit: how far the trial is behind the best network no larger than it at this rung; 0 is on the front, or
            nothing to compare with.
        margin: the deficit up to which it may go on; None while there is too little evidence for one.
        dominated_by: number of the trial that the deficit is measured against; None where the deficit is 0.
        audited: the trial is one of those that are never pruned, so that the rule's error can be measured.
        prune: the answer.
    """

    rung: int | None = None
    deficit: float = 0.0
    margin: float | None = None
    dominated_by: int | None = None
    audited: bool = False
    prune: bool = False

    @property
    def spared(self) -> bool:
        """Whether the trial goes on only because it is audited."""
        return self.audited and self.margin is not None and self.deficit > self.margin


class FrontPruner(BasePruner):
    """A rule for studies of two objectives: one that training shows bit by bit, and a cost known before it.

    A rule is a file with a subclass, constructible without arguments, and a line in `nas.search.pruners.PRUNERS`; the
    contract tests run over that dictionary.
    """

    @classmethod
    def for_search(cls, *, seed: int, last_step: int, validation_images: int) -> FrontPruner:
        """The rule as `nas search` sets it up; a rule that can use what a search knows overrides this.

        Args:
            seed: the study's.
            last_step: epochs of a whole training.
            validation_images: how many images each reading is taken on, or as many as would make it as uncertain.
        """
        return cls()

    @abc.abstractmethod
    def explain(self, study: Study, trial: FrozenTrial) -> Verdict:
        """Judge the trial by its last reported value. Reads the study, changes nothing, keeps nothing.

        Raises:
            ValueError: the rule cannot serve this study or trial; the message says what to set.
        """

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Optuna's own question; see `explain`."""
        return self.explain(study, trial).prune
