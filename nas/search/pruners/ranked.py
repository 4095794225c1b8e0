"""What the rules share that rank a trial among all that were seen at its rung; no margin, no calibration, no audit."""

from __future__ import annotations

import abc
from typing import Self

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial

from nas.search.pruners import rungs as reading
from nas.search.pruners.base import FrontPruner, Verdict
from nas.search.pruners.rungs import Curves, Kept


class RankedPruner(FrontPruner):
    """A rule that judges a trial at its rung by the values of all trials there: completed, pruned and running ones.

    Rungs are the steps 1, 3, 9, 27, ... below the last that some completed trial has reported: until a first training
    has ended nothing is pruned. A trial is judged by its last reported value, and only where that was at a rung.
    Failed trials, those without a usable cost, those that break a constraint, and values that are not finite are left
    out; see `nas.search.pruners.rungs.read`. What is kept between calls saves time only, and decisions depend on the
    set of trials alone, not on their order or numbers. They do depend on which trials have been seen so far: that is
    what asynchronous means, and why two parallel searches may stop different trials.

    Serves the studies that `ConformalPruner` serves: what training shows as objective 0, maximised or minimised, and
    as objective 1 a minimised cost, given in each trial's user attribute ``cost``.

    Args:
        last_step: the last step of a training, > 0; None learns it as the last that a completed trial reported.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, *, last_step: int | None = None) -> None:
        if last_step is not None and not last_step > 0:
            raise ValueError(f"last_step must be > 0, got {last_step}")
        self._last_step = last_step
        self._kept = Kept()

    @classmethod
    def for_search(cls, *, seed: int, last_step: int, validation_images: int, seed_std: float | None = None) -> Self:
        """The rule with what a search knows; only the last step is of use to it."""
        return cls(last_step=last_step)

    def explain(self, study: Study, trial: FrozenTrial) -> Verdict:
        """Judge the trial by its last reported value; see the class.

        Raises:
            ValueError: the study has not two objectives, the second a minimised cost; the trial's ``cost`` is missing
                or no finite number >= 0; its last value is not finite.
        """
        reading.check(study)
        reading.cost_of(trial)
        last = reading.last_of(trial)
        if last is None or not reading.is_rung(last[0]):
            return Verdict()
        rung = last[0]
        curves = reading.read(study, trial, reading.is_rung, self._last_step, kept=self._kept)
        if curves is None or rung not in curves.steps:
            return Verdict()
        column = curves.steps.index(rung)
        stops, why = self.judge(curves, column)
        return Verdict(rung=rung, dominated_by=dominator(curves, column), prune=stops, why=why)

    @abc.abstractmethod
    def judge(self, curves: Curves, column: int) -> tuple[bool, str]:
        """Whether the asking trial is stopped at a rung, and the grounds as one line. Arithmetic only.

        Args:
            curves: what the study has seen; the asking trial's value at the rung is not NaN.
            column: of the rung in `curves.values`.
        """


class HalvingPruner(RankedPruner):
    """Asynchronous successive halving: at each rung only the best 1/reduction of the trials seen there go on.

    This is the stopping variant: who goes on is decided once, when a trial asks, and no trial waits for others. Of n
    trials at a rung, the asking one included, the best ``n // reduction`` go on, but always at least one. Rungs stay a
    factor of 3 apart whatever the reduction.

    Args:
        reduction: whole number >= 2; 3 keeps a third.
        last_step: see `RankedPruner`.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, *, reduction: int = 3, last_step: int | None = None) -> None:
        super().__init__(last_step=last_step)
        if not reduction >= 2 or reduction % 1 != 0:
            raise ValueError(f"reduction must be a whole number >= 2, got {reduction}")
        self._reduction = int(reduction)


def dominator(curves: Curves, column: int) -> int | None:
    """Number of the trial that stands against the asking one at a rung; None where it is on the front there.

    That is the best of the networks with at most its cost; of equally good ones the cheapest, then the first by key,
    then by number.
    """
    values = curves.values[:, column]
    cost, value = curves.costs[curves.row], values[curves.row]
    # NaN compares as false.
    rivals = np.flatnonzero((curves.costs <= cost) & (values >= value) & ((curves.costs < cost) | (values > value)))
    if len(rivals) == 0:
        return None
    best = rivals[values[rivals] == values[rivals].max()]
    chosen: tuple[float, str, int] = min((curves.costs[row], curves.keys[row], curves.numbers[row]) for row in best)
    return chosen[2]
