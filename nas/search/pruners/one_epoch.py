"""A schedule for comparison: read every trial once, then complete the best quarter."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas import pareto
from nas.search.pruners import rungs as reading
from nas.search.pruners.base import FrontPruner, Verdict

PART = 0.25


class OneEpochPruner(FrontPruner):
    """Set every trial aside at its first report; when all have one, complete a quarter by non-dominated rank.

    What a user would do by hand with two scripts. It takes no notice of how well the first report tells the end.
    """

    pauses = True

    def explain(self, study: Study, trial: FrozenTrial) -> Verdict:
        """Stop at the first report."""
        last = reading.last_of(trial)
        if last is None or len(trial.intermediate_values) > 1:
            return Verdict()
        return Verdict(rung=last[0], prune=True, why=f"set aside at epoch {last[0]} until all have been read once")

    def resume(self, study: Study, paused: Sequence[int], *, last: bool) -> int | None:
        """The best by the rank of its first report, smallest cost first, until a quarter of all have gone on."""
        if not last:
            return None
        trials = study.get_trials(deepcopy=False, states=reading.PEERS)
        aside = set(paused)
        gone_on = sum(trial.state == TrialState.COMPLETE or len(trial.intermediate_values) > 1 for trial in trials)
        gone_on += sum(
            trial.state == TrialState.RUNNING and trial.number not in aside and len(trial.intermediate_values) == 1
            for trial in trials
        )
        if gone_on >= PART * len(trials):
            return None
        read = [trial for trial in trials if trial.intermediate_values]
        first = [trial.intermediate_values[min(trial.intermediate_values)] for trial in read]
        costs = [reading.cost_of(trial) for trial in read]
        ranks = pareto.ranks(costs, first)
        order = sorted(zip(ranks, costs, (trial.number for trial in read), strict=True))
        return next((number for _, _, number in order if number in aside), None)
