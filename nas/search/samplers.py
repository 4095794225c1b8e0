"""What proposes the next network: Optuna's samplers, and a wrapper that lets them propose only new ones."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas.errors import NasError
from nas.search.cost_aware import CostAwareSampler, Known
from nas.search.optuna_gp import OptunaGP

DRAWS = 200
"""So many proposals in a row that were all seen before, and the space counts as exhausted."""

# A model that has settled on one network proposes it for ever, and each of its draws takes milliseconds. After so many
# the search goes on around its last proposal, with more and more coordinates drawn anew.
SETTLED = 4


class SpaceExhausted(NasError):  # noqa: N818  (an end of the search, not a fault of the program)
    """Nothing new was found in `DRAWS` draws; the search ends well."""


CostOf = Callable[[dict[str, Any]], Known | None]
"""What is known of parameters before training; None where a study cannot take them."""


class MakeSampler(Protocol):
    """A base sampler from its seed; `cost` and `reference` as `CostAwareSampler` takes them, for one that can use them.

    The same seed proposes the same in one worker.
    """

    def __call__(
        self, seed: int, cost: CostOf | None = None, reference: tuple[float, float] | None = None
    ) -> BaseSampler:
        """Make it."""


def cost_aware(seed: int, cost: CostOf | None = None, reference: tuple[float, float] | None = None) -> BaseSampler:
    """Expected hypervolume improvement with the exact cost; see `nas.search.cost_aware`."""
    return CostAwareSampler(cost, seed=seed, reference=reference)


def tpe(seed: int, cost: CostOf | None = None, reference: tuple[float, float] | None = None) -> BaseSampler:
    """Tree-structured Parzen estimator over all parameters at once; trials still running elsewhere count as bad."""
    return TPESampler(multivariate=True, constant_liar=True, seed=seed)


def gp(seed: int, cost: CostOf | None = None, reference: tuple[float, float] | None = None) -> BaseSampler:
    """Optuna's Gaussian process, which is shown pruned trials too; see `nas.search.optuna_gp`."""
    return OptunaGP(cost, seed=seed)


def nsga2(seed: int, cost: CostOf | None = None, reference: tuple[float, float] | None = None) -> BaseSampler:
    """NSGA-II with a population of 16: Optuna's 50 would leave a search of 200 trials four generations."""
    return NSGAIISampler(population_size=16, seed=seed)


def sobol(seed: int, cost: CostOf | None = None, reference: tuple[float, float] | None = None) -> BaseSampler:
    """Scrambled Sobol points over all parameters; every worker has a sequence of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # its signature may change; these tests would tell
        return QMCSampler(qmc_type="sobol", scramble=True, seed=seed, warn_independent_sampling=False)


def random(seed: int, cost: CostOf | None = None, reference: tuple[float, float] | None = None) -> BaseSampler:
    """Uniform and independent."""
    return RandomSampler(seed=seed)


SAMPLERS: dict[str, MakeSampler] = {
    "cost-aware": cost_aware,
    "tpe": tpe,
    "gp": gp,
    "nsga2": nsga2,
    "sobol": sobol,
    "random": random,
}
"""Every base sampler by its name."""


class DistinctSampler(BaseSampler):
    """Joint proposals from a base sampler, drawn again until one of them is new.

    All parameters of the space are drawn together, before the first is suggested, and offered to `claim`. What the base
    leaves open (everything in its start-up, mutations of NSGA-II) is drawn uniformly here.

    A trial that was enqueued with fixed parameters does not come past here: claim it yourself. A RUNNING trial is left
    behind by the `SpaceExhausted` that its first ``suggest`` raises; so ask first, suggest then, and tell it FAIL.

    Args:
        base: proposes; its relative sampling is called with the whole space, as often as it takes.
        space: a uniform coordinate by its name. Parameters outside it go to the base one by one, unclaimed.
        claim: (number of the trial, parameters) -> whether this network is new and now belongs to the trial. Several
            workers may ask at once, so it decides and takes in one step. What it raises passes through.
        seed: of the uniform draws; None is a different one each time.
        first: proposals before any of the base's, in this order. Several workers may be given the same ones: each
            belongs to whoever claims it first.
    """

    def __init__(
        self,
        base: BaseSampler,
        space: Mapping[str, FloatDistribution],
        claim: Callable[[int, dict[str, float]], bool],
        *,
        seed: int | None = None,
        first: Sequence[Mapping[str, float]] = (),
    ) -> None:
        self._first = [dict(params) for params in first]
        self._base = base
        self._space = dict(space)
        self._claim = claim
        self._rng = np.random.default_rng(seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space, from the first trial on."""
        return {**self._space}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A proposal that `claim` took.

        Raises:
            SpaceExhausted: `DRAWS` proposals were all refused.
        """
        if not search_space:
            return {}
        if self._first:
            # its proposal is not taken, but some note that the trial is theirs: NSGA-II to which generation it belongs
            self._base.sample_relative(study, trial, search_space)
        while self._first:
            params = self._first.pop(0)
            if self._claim(trial.number, params):
                return params
        names = list(search_space)
        base: dict[str, float] = {}
        for draw in range(DRAWS):
            if draw < SETTLED:
                proposed = self._base.sample_relative(study, trial, search_space)
                base = {name: proposed[name] if name in proposed else self._uniform(name) for name in names}
                params = base
            else:
                fresh = 1 + (draw - SETTLED) * len(names) // (DRAWS - SETTLED)
                anew = self._rng.choice(len(names), fresh, replace=False)
                params = base | {names[i]: self._uniform(names[i]) for i in anew}
            if self._claim(trial.number, params):
                return params
        raise SpaceExhausted(
            f"nothing new in {DRAWS} draws: the space is exhausted; widen its ranges or its budget to search on"
        )

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A parameter outside the space, from the base."""
        return self._base.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        """New random numbers here and in the base; Optuna calls it when trials run in threads."""
        self._rng = np.random.default_rng()
        self._base.reseed_rng()

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """The base's."""
        self._base.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """The base's."""
        self._base.after_trial(study, trial, state, values)

    def _uniform(self, name: str) -> float:
        return float(self._rng.uniform(self._space[name].low, self._space[name].high))
