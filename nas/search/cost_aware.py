"""A sampler for two objectives of which one, the cost, is known before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas.pareto import behind
from nas.search.evidence import Curve, expected, finals_of, losses, reported
from nas.search.gaussian_process import GaussianProcess
from nas.search.improvement import expected_improvement
from nas.search.known import Known as Known
from nas.search.known import KnownOf
from nas.search.units import magnitude, parameter_at, unit_inputs
from nas.search.units import van_der_corput as van_der_corput

FloatArray = NDArray[np.float64]

STARTUP = 12
"""Trials that are spread over the cost before a model is asked."""
POOL = 1024
"""Candidates among which a proposal is chosen."""
FRESH = 64
"""Candidates that each proposal adds to the pool, at random over the space; the oldest leave it."""
NEARBY = 64
"""Candidates of each proposal that differ from one of the front in a few parameters."""
READ = 500
"""Trials that the model reads, at most: the half nearest to the front, and as many of the others."""
EXPLORED = 2.0
"""After n trials a proposal is a random candidate with probability 2 / n."""
TRUST = (0.0, 0.5, 1.0)
"""Weights that what the training loss lets expect of a value may have in place of the value itself."""
STEP = 0.1
"""Standard deviation of a small move of a number, in parts of its range."""

# Nodes and weights of a normal distribution, for a cost that is not known.
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(5)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """Parameters, and what the model sees of them."""

    params: dict[str, Any]
    known: Known | None
    inputs: FloatArray

    @property
    def identity(self) -> object:
        """What makes two of them the same."""
        if self.known is not None and self.known.key is not None:
            return self.known.key
        return self.inputs.tobytes()


class CostAwareSampler(BaseSampler):
    """Proposes where the hypervolume is expected to grow most, by a model of the value and the exact cost.

    A Gaussian process (`nas.search.gaussian_process`) models objective 0 over the parameters, the cost and whatever
    else is known without training. Of about a thousand candidates, some of them near the front, that is taken whose
    expected improvement of the hypervolume is largest (`nas.search.improvement`), with the front taken at the model's
    means: a lucky reading is no better network. What is running or was tried is not proposed again.

    The first `STARTUP` trials are spread over the cost by the van der Corput sequence of the trials' numbers, whoever
    asks. Later each proposal is a random candidate with probability 2 / (number of trials).

    Where trials have the user attribute ``train_loss`` (`nas.search.evidence`), a completed trial may count not as the
    value that it reported but as what its training loss and cost let expect of it, by a ridge regression on the
    completed trials, or half as each: whichever lets the model predict the values of the trials it leaves out best. A
    value on few validation images is mostly luck where networks are alike; a training loss is not.

    A trial that was pruned or is still running counts by the last value that it reported: as what the completed
    trials' values at that step and costs let expect of its end, with that regression's error as its uncertainty. One
    without a value counts as the model expects it, so that workers do not ask for the same. Trials that break a
    constraint (but for `nas.search.pruned`'s mark) are not read.

    Everything is read from the study at each proposal; what is kept in between saves time only: a pool of candidates,
    and what the trials' parameters cost. The model reads `READ` trials at most.

    Args:
        cost: the cost of parameters, as a number or a `Known`; None where a study cannot take them. A `KnownOf` is
            asked for many at once. Without it
            objective 1 is modelled like objective 0. In a study of one objective the cost is something the value
            depends on.
        space: what is proposed together, and what `cost` is asked for. None learns it, as Optuna's samplers do: from
            the parameters that all completed trials have, so that the first trials are independent draws.
        seed: of the candidates; None is a different one each time.
        reference: (value, cost) that bounds the hypervolume, in the study's units; None is a tenth beyond the worst
            that is seen.
    """

    def __init__(
        self,
        cost: Callable[[dict[str, Any]], float | Known | None] | None = None,
        *,
        space: Mapping[str, BaseDistribution] | None = None,
        seed: int | None = None,
        reference: tuple[float, float] | None = None,
    ) -> None:
        self._cost = cost
        self._whole = None if space is None else dict(space)
        self._reference = reference
        self._rng = np.random.default_rng(seed)
        self._independent = RandomSampler(seed=seed)
        self._intersection = IntersectionSearchSpace()
        self._study: str | None = None
        self._space: dict[str, BaseDistribution] = {}
        self._pool: list[_Candidate] = []
        self._tried: dict[int, _Candidate | None] = {}
        self._read: set[int] = set()
        self._curves: dict[int, tuple[FrozenTrial, Curve, Curve]] = {}
        self._offered: tuple[int, set[object]] = (-1, set())

    def reseed_rng(self) -> None:
        """New random numbers; Optuna calls it when trials run in threads."""
        self._rng = np.random.default_rng()
        self._independent.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The space that was given, or the parameters of every completed trial that have more than one value."""
        if self._whole is not None:
            return dict(self._whole)
        space = self._intersection.calculate(study)
        return {name: distribution for name, distribution in space.items() if not distribution.single()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A parameter that is not proposed with the others: uniform."""
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """All parameters of the space; of an empty one none.

        Asked again for the same trial it proposes something else. Where no candidate is allowed, or all were tried,
        it is a random point of the space.

        Raises:
            ValueError: the study has more than two objectives, or a cost is not finite.
        """
        if len(study.directions) > 2:
            raise ValueError(f"this sampler serves one or two objectives, this study has {len(study.directions)}")
        if not search_space:
            return {}
        if (study.study_name, search_space) != (self._study, self._space):
            self._study, self._space, self._pool, self._tried = study.study_name, dict(search_space), [], {}
            self._read, self._curves = set(), {}
        trials, seen = self._seen(study, trial)
        if self._offered[0] != trial.number:
            self._offered = (trial.number, set())
        taken = self._offered[1] | {one.identity for one in seen}
        fresh = self._candidates(taken, [self._uniform() for _ in range(FRESH)])
        self._pool = ([one for one in self._pool if one.identity not in taken] + fresh)[-POOL:]
        if not self._pool:
            return self._uniform()
        complete = sum(other.state == TrialState.COMPLETE for other in trials)
        if trial.number < STARTUP or complete < 2:
            chosen = self._spread_out(trial.number, fresh or self._pool)
        elif self._rng.random() < EXPLORED / len(trials):
            chosen = self._pool[int(self._rng.integers(len(self._pool)))]
        else:
            chosen = self._best(study, trials, seen, taken)
        self._offered[1].add(chosen.identity)
        return chosen.params

    def _spread_out(self, number: int, candidates: Sequence[_Candidate]) -> _Candidate:
        """The candidate whose cost is nearest to the trial's place in a sequence that fills the range evenly."""
        known = [one.known.cost for one in candidates if one.known is not None]
        if not known:
            return candidates[0]
        costs = np.log10(known) if min(known) > 0 else np.array(known)
        place = costs.min() + van_der_corput(number + 1) * np.ptp(costs)
        return candidates[int(np.argmin(abs(costs - place)))]

    def _best(
        self, study: Study, trials: Sequence[FrozenTrial], seen: Sequence[_Candidate], taken: set[object]
    ) -> _Candidate:
        """The candidate of the largest expected improvement."""
        signs = [1.0 if direction == StudyDirection.MAXIMIZE else -1.0 for direction in study.directions]
        inputs = np.stack([one.inputs for one in seen])
        costs = _Costs(self._cost is not None, trials, seen, signs, inputs)
        values, variances, model = self._fitted(inputs, trials, signs[0], costs.of_seen)
        # What has no value yet counts as it is expected, and is then certain: nobody should ask for the same.
        waiting = np.isnan(values)
        if waiting.any():
            values, variances = values.copy(), variances.copy()
            values[waiting] = model.means(inputs[waiting])
        rows = self._rows(values, costs.of_seen)
        if waiting.any():
            model = GaussianProcess(
                inputs[rows], values[rows], amounts=self._amounts, variances=variances[rows], like=model
            )
        # What the model does not read is far from the front, and its means would cost more the longer a search is.
        means, there = model.means(inputs[rows]), costs.of_seen[rows]
        on_front = behind(there, means) <= 0
        nearby = [self._moved(seen[row].params) for row in self._rng.choice(rows[on_front], NEARBY)]
        candidates = self._pool + self._candidates(taken, nearby)
        points = np.stack([one.inputs for one in candidates])
        values, stds = model.predict(points)
        corner = self._corner(costs, means, signs)
        gains = np.zeros(len(candidates))
        for at, weight in costs.of(candidates, points):
            gains += weight * expected_improvement(
                at, values, stds, front_costs=there[on_front], front_values=means[on_front], corner=corner
            )
        return candidates[int(np.argmax(gains))]

    def _fitted(
        self, inputs: FloatArray, trials: Sequence[FrozenTrial], sign: float, costs: FloatArray
    ) -> tuple[FloatArray, FloatArray, GaussianProcess]:
        """(values, variances, model): what each trial counts as, NaN where that is not known, and the model of it."""
        finals = finals_of(trials, sign)
        curves = [self._curves_of(other, sign) for other in trials]
        by_value = expected([values for values, _ in curves], finals, costs)
        by_loss = expected([losses for _, losses in curves], finals, costs)
        known = np.where(np.isnan(finals), by_value[0], finals)
        variances = np.where(np.isnan(finals), by_value[1], 0.0)
        best: tuple[float, FloatArray, GaussianProcess] | None = None
        for trust in TRUST if np.isfinite(by_loss[0]).any() else TRUST[:1]:
            values = np.where(np.isnan(by_loss[0]), known, (1 - trust) * known + trust * by_loss[0])
            rows = self._rows(values, costs)
            model = GaussianProcess(inputs[rows], values[rows], amounts=self._amounts, variances=variances[rows])
            error = float(np.nanmean((model.left_out() - finals[rows]) ** 2))
            if best is None or error < best[0]:
                best = error, values, model
        assert best is not None
        return best[1], variances, best[2]

    def _rows(self, values: FloatArray, costs: FloatArray) -> NDArray[np.intp]:
        """Those that the model reads."""
        rows = np.flatnonzero(~np.isnan(values))
        if len(rows) > READ:
            near = rows[np.argsort(behind(costs[rows], values[rows]), kind="stable")]
            few, rest = near[: READ // 2], near[READ // 2 :]
            rows = np.sort(np.concatenate([few, rest[np.arange(READ - len(few)) * len(rest) // (READ - len(few))]]))
        return rows

    @property
    def _amounts(self) -> int:
        known = self._pool[0].known
        return 0 if known is None else 1 + len(known.amounts)

    def _corner(self, costs: _Costs, means: FloatArray, signs: Sequence[float]) -> tuple[float, float]:
        """(cost, value) of the reference, as the model has them."""
        if self._reference is not None:
            value, cost = self._reference
            return costs.scaled(cost), signs[0] * value
        return costs.edge, float(means.min() - 0.1 * np.ptp(means))

    def _seen(self, study: Study, trial: FrozenTrial) -> tuple[list[FrozenTrial], list[_Candidate]]:
        """Trials with all parameters of the space, in the order of their numbers, and what the model sees of them."""
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        trials: list[FrozenTrial] = []
        for other in study.get_trials(deepcopy=False, states=states):
            if other.number == trial.number:
                continue
            if other.number not in self._read and not _is_read(other):
                continue
            if other.state.is_finished():  # it does not change any more
                self._read.add(other.number)
            trials.append(other)
        new = [other for other in trials if other.number not in self._tried]
        there = [
            other for other in new if all(other.distributions.get(name) == kind for name, kind in self._space.items())
        ]
        made = self._made([{name: other.params[name] for name in self._space} for other in there])
        known = {other.number: one for other, one in zip(there, made, strict=True)}
        for other in new:
            one = known.get(other.number)
            if other.state != TrialState.RUNNING or one is not None:  # else its parameters may still come
                self._tried[other.number] = one
        pairs = [(other, one) for other in trials if (one := self._tried.get(other.number)) is not None]
        return [other for other, _ in pairs], [one for _, one in pairs]

    def _curves_of(self, trial: FrozenTrial, sign: float) -> tuple[Curve, Curve]:
        """Values and losses that a trial reported, by step."""
        before = self._curves.get(trial.number)
        if before is not None and before[0] is trial:
            return before[1:]
        made = trial, reported(trial, sign), losses(trial)
        if trial.state.is_finished():
            self._curves[trial.number] = made
        return made[1:]

    def _candidates(self, taken: set[object], proposals: Sequence[dict[str, Any]]) -> list[_Candidate]:
        """Those that are allowed and new."""
        return [one for one in self._made(proposals) if one is not None and one.identity not in taken]

    def _made(self, proposals: Sequence[dict[str, Any]]) -> list[_Candidate | None]:
        """Each as a candidate; None where it is not allowed."""
        cost = self._cost
        if cost is None:
            return [self._candidate(params, None) for params in proposals]
        said = cost.many(proposals) if isinstance(cost, KnownOf) else [cost(params) for params in proposals]
        return [
            None if one is None else self._candidate(params, one if isinstance(one, Known) else Known(float(one)))
            for params, one in zip(proposals, said, strict=True)
        ]

    def _candidate(self, params: dict[str, Any], known: Known | None) -> _Candidate:
        if known is not None and not math.isfinite(known.cost):
            raise ValueError(f"the cost of {params} is {known.cost}: it must be a finite number, or None")
        amounts = [] if known is None else [known.cost, *known.amounts]
        if known is not None and known.shape is not None:
            shape: Sequence[float] = known.shape
        else:
            shape = [number for name, kind in self._space.items() for number in unit_inputs(kind, params[name])]
        # Amounts work by their order of magnitude.
        return _Candidate(params, known, np.array([*(magnitude(amount) for amount in amounts), *shape]))

    def _uniform(self) -> dict[str, Any]:
        return {
            name: parameter_at(kind, float(unit))
            for (name, kind), unit in zip(self._space.items(), self._rng.random(len(self._space)), strict=True)
        }

    def _moved(self, params: dict[str, Any]) -> dict[str, Any]:
        """A few parameters anew: each a small step from where it was, or anywhere."""
        names = list(self._space)
        count = 1 + int(self._rng.integers(min(3, len(names))))
        moved = dict(params)
        for name in self._rng.choice(names, count, replace=False):
            kind = self._space[name]
            unit = float(self._rng.random())
            if not isinstance(kind, CategoricalDistribution) and self._rng.random() < 0.5:
                unit = float(np.clip(unit_inputs(kind, params[name])[0] + STEP * self._rng.standard_normal(), 0, 1))
            moved[str(name)] = parameter_at(kind, unit)
        return moved


class _Costs:
    """Objective 1 of what is seen and of candidates: exact, or by a model of its own; smaller is better.

    Args:
        known: every candidate says its own.
    """

    def __init__(
        self,
        known: bool,
        trials: Sequence[FrozenTrial],
        seen: Sequence[_Candidate],
        signs: Sequence[float],
        inputs: FloatArray,
    ) -> None:
        self._model: GaussianProcess | None = None
        self._sign = -signs[1] if len(signs) == 2 else 0.0
        if self._sign == 0:
            numbers = np.zeros(len(seen))
        elif known:
            numbers = np.array([one.known.cost for one in seen if one.known is not None])
        else:
            numbers = np.array(
                [other.values[1] if other.state == TrialState.COMPLETE else math.nan for other in trials]
            )
        self._log = self._sign > 0 and bool(np.nanmin(numbers) > 0)
        self.of_seen: FloatArray = np.array([self.scaled(number) for number in numbers])
        missing = np.isnan(self.of_seen)
        if self._sign and not known:
            self._model = GaussianProcess(inputs[~missing], self.of_seen[~missing])
            if missing.any():
                self.of_seen[missing] = self._model.means(inputs[missing])
        self.edge = float(self.of_seen.max() + (0.1 * np.ptp(self.of_seen) or 1.0))
        """A tenth beyond the largest."""

    def scaled(self, number: float) -> float:
        """One cost as the hypervolume is measured in: a logarithm where all are positive."""
        return math.log10(number) if self._log and number > 0 else self._sign * number

    def of(self, candidates: Sequence[_Candidate], points: FloatArray) -> list[tuple[FloatArray, float]]:
        """(costs, weight) whose weighted mean is the expectation over the costs."""
        if self._model is not None:
            means, stds = self._model.predict(points)
            return [(means + node * stds, weight / WEIGHTS.sum()) for node, weight in zip(NODES, WEIGHTS, strict=True)]
        if self._sign == 0:
            return [(np.zeros(len(candidates)), 1.0)]
        return [(np.array([self.scaled(one.known.cost) for one in candidates if one.known is not None]), 1.0)]


def _is_read(trial: FrozenTrial) -> bool:
    """It breaks no constraint, and its objectives are numbers that can be compared."""
    if trial.state == TrialState.COMPLETE and not all(math.isfinite(value) for value in trial.values):
        return False
    return trial.state == TrialState.PRUNED or all(value <= 0 for value in trial.constraints.values())
