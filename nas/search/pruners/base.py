"""What every pruner is: an `optuna.pruners.BasePruner` that can also say why."""

from __future__ import annotations

import abc
from collections.abc import Sequence
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
            nothing to compare with, or a rule that does not measure it.
        margin: the deficit up to which it may go on; None while there is too little evidence for one, and for a rule
            that has none.
        dominated_by: number of a trial that is no larger and better (or as good and smaller) at this rung: that which
            the deficit is measured against. None where there is none, or nothing was judged.
        audited: the trial is one of those that are never pruned, so that the rule's error can be measured.
        prune: the answer.
        expected: the deficit is what the trial is expected to end with, by its value at the rung.
        why: the grounds as one line, of a rule that does not judge by the deficit; see `words`.
    """

    rung: int | None = None
    deficit: float = 0.0
    margin: float | None = None
    dominated_by: int | None = None
    audited: bool = False
    prune: bool = False
    expected: bool = False
    why: str = ""

    @property
    def words(self) -> str:
        """The grounds as one line for a user; differences in points, as of accuracies. Empty where nothing was judged.

        It is said whether the trial goes on or not; only of a pruned trial it is the reason of its end.
        """
        if self.why or self.rung is None:
            return self.why
        if self.deficit == 0:
            return f"not behind any network that is no larger, at epoch {self.rung}"
        ahead = "expected to end " if self.expected else ""
        behind = f"{ahead}{100 * self.deficit:.1f} points behind trial {self.dominated_by}, which is no larger"
        if self.margin is None:
            return f"{behind}, at epoch {self.rung}"
        side = "more than" if self.deficit > self.margin else "within"
        return f"{behind}, at epoch {self.rung}, {side} the margin of {100 * self.margin:.1f}"

    @property
    def grounds(self) -> dict[str, int | float | bool | None]:
        """What is recorded with a trial, as JSON: ``rung``, ``deficit``, ``margin`` and ``dominated_by``.

        And ``spared`` where it is: the trial was not stopped because it is audited.
        """
        known: dict[str, int | float | bool | None] = {
            "rung": self.rung,
            "deficit": self.deficit,
            "margin": self.margin,
            "dominated_by": self.dominated_by,
        }
        return known | {"spared": True} if self.spared else known

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
    def for_search(
        cls, *, seed: int, last_step: int, validation_images: int, seed_std: float | None = None
    ) -> FrontPruner:
        """The rule as `nas search` sets it up; a rule that can use what a search knows overrides this.

        Args:
            seed: the study's.
            last_step: epochs of a whole training.
            validation_images: how many images each reading is taken on, or as many as would make it as uncertain.
            seed_std: standard deviation between trainings of one network, 0..1, where networks of the study were
                refined; else None. It is taken as measured, after a refinement's epochs, which are mostly more than the
                search's: trainings of one network differ less then.
        """
        return cls()

    pauses: bool = False
    """Whether a trial that this rule stops may be resumed: see `resume`."""

    def resume(self, study: Study, paused: Sequence[int], *, last: bool) -> int | None:
        """The one of the paused trials that should go on now, best first; None where none should.

        Args:
            paused: numbers of trials that were stopped by this rule and set aside; running in the study.
            last: no trial will be begun any more, so that the evidence is as good as it gets without resuming.
        """
        return None

    @abc.abstractmethod
    def explain(self, study: Study, trial: FrozenTrial) -> Verdict:
        """Judge the trial by its last reported value. Reads the study, changes nothing; what is kept saves time.

        Raises:
            ValueError: the rule cannot serve this study or trial; the message says what to set.
        """

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Optuna's own question; see `explain`."""
        return self.explain(study, trial).prune
