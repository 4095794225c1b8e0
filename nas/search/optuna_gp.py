"""Optuna's Gaussian process, which by itself sees no pruned trial, and proposes it again."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, cast

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import GPSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas.search.cost_aware import Known
from nas.search.evidence import expected, finals_of, reported

COST = "cost"
"""User attribute of a trial: what objective 1 will be."""


class OptunaGP(GPSampler):
    """`optuna.samplers.GPSampler` at its defaults, shown a study in which what was stopped has an end too.

    It reads completed trials, and running ones as points where a value is to come. So that it does not ask for a
    pruned network again, it is shown

    - a pruned trial as completed: its value is what the completed trials' values at its last step and costs let expect
      of its end (`nas.search.evidence`), or its last value while there are too few of them; its cost is the known one;
    - a running trial of which an end can be expected so (one that is set aside, too) likewise;
    - a pruned trial without a value or a known cost, or that lacks a constraint which the completed trials have, as
      running: the model then expects of it what it expects;
    - no trial with other parameters than those that are proposed: it would end with an error.

    Costs are shown as they are: it standardises them, and takes no logarithm.

    Args:
        cost: what objective 1 of parameters will be, for trials without the user attribute ``cost``.
        seed: None is a different one each time.
    """

    def __init__(
        self, cost: Callable[[dict[str, Any]], float | Known | None] | None = None, *, seed: int | None = None
    ) -> None:
        super().__init__(seed=seed)
        self._cost = cost

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """All parameters of the space; none of them before ten trials have a value."""
        shown = _Shown(study, self._shown(study, search_space))
        return super().sample_relative(cast(Study, shown), trial, search_space)

    def _shown(self, study: Study, space: Mapping[str, BaseDistribution]) -> list[FrozenTrial]:
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        trials = study.get_trials(deepcopy=False, states=states)
        # A running trial may have no parameters yet.
        trials = [
            other
            for other in trials
            if other.state == TrialState.RUNNING
            or all(other.distributions.get(name) == kind for name, kind in space.items())
        ]
        names = {name for other in trials if other.state == TrialState.COMPLETE for name in other.constraints}
        shown = []
        for other, values in zip(trials, self._ends(study, trials), strict=True):
            if other.state == TrialState.COMPLETE:
                shown.append(other)
            elif values and space.keys() <= other.params.keys() and names <= other.constraints.keys():
                shown.append(_with(other, TrialState.COMPLETE, values, names))
            else:
                shown.append(_with(other, TrialState.RUNNING) if other.state == TrialState.PRUNED else other)
        return shown

    def _ends(self, study: Study, trials: Sequence[FrozenTrial]) -> list[list[float]]:
        """The objectives that each trial may be expected to have; none where that cannot be said."""
        objectives = len(study.directions)
        sign = 1.0 if study.directions[0] == StudyDirection.MAXIMIZE else -1.0
        finals = finals_of(trials, sign)
        costs = np.array([self._cost_of(other, objectives) for other in trials])
        ends = np.full(len(trials), math.nan)
        rows = [int(row) for row in np.flatnonzero(np.isfinite(costs) & ~np.isinf(finals))]
        if rows:
            sizes = np.log10(costs[rows]) if costs[rows].min() > 0 else costs[rows]
            ends[rows] = sign * expected([reported(trials[row], sign) for row in rows], finals[rows], sizes)[0]
        for row in rows:
            readings = reported(trials[row], 1.0)
            if math.isnan(ends[row]) and readings and trials[row].state == TrialState.PRUNED:
                ends[row] = readings[max(readings)]
        return [
            [] if math.isnan(end) else [float(end), float(cost)][:objectives]
            for end, cost in zip(ends, costs, strict=True)
        ]

    def _cost_of(self, trial: FrozenTrial, objectives: int) -> float:
        """What is known of objective 1 without training; NaN where it is not, 0 in a study of one objective."""
        if objectives != 2:
            return 0.0 if objectives == 1 else math.nan
        if trial.state == TrialState.COMPLETE:
            return float(trial.values[1])
        said = trial.user_attrs.get(COST)
        if said is None and self._cost is not None and trial.params:
            said = self._cost(trial.params)
        cost = said.cost if isinstance(said, Known) else said
        return float(cost) if isinstance(cost, int | float) else math.nan


class _Shown:
    """A study with other trials; all else is its own."""

    def __init__(self, study: Study, trials: Sequence[FrozenTrial]) -> None:
        self._study = study
        self._trials = trials

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    @property
    def trials(self) -> list[FrozenTrial]:
        return self.get_trials()

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        found = [other for other in self._trials if states is None or other.state in states]
        return copy.deepcopy(found) if deepcopy else found

    # Optuna's samplers ask by this name.
    _get_trials = get_trials


def _with(
    trial: FrozenTrial, state: TrialState, values: Sequence[float] | None = None, constraints: Container[str] = ()
) -> FrozenTrial:
    """The trial's parameters with another end."""
    return create_trial(
        state=state,
        values=values,
        params=trial.params,
        distributions=trial.distributions,
        constraints={name: value for name, value in trial.constraints.items() if name in constraints},
    )
