"""The cost-aware sampler: Optuna's own contract, and what it promises beyond it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, MultiObjectiveSamplerTestCase, RelativeSamplerTestCase
from optuna.trial import TrialState, create_trial

from nas.pareto import hypervolume
from nas.search import cost_aware
from nas.search.cost_aware import STARTUP, CostAwareSampler, Known, van_der_corput
from nas.search.evidence import LOSSES
from nas.search.gaussian_process import GaussianProcess

SPACE = {name: FloatDistribution(0, 1) for name in ("size", "a", "b", "c")}
RANGE = (100.0, 20_000.0)


def cost(params: dict[str, Any]) -> float:
    """Jagged in c, so that a smooth model of it is wrong by up to a factor of two."""
    return 100 * 100 ** params["size"] * (1 + int(16 * params["c"]) % 2)


def accuracy(params: dict[str, Any]) -> float:
    """Grows with size; at each size the shape decides: a low, b near 0.7."""
    return 0.4 + 0.2 * params["size"] + 0.2 * (1 - params["a"]) - 0.5 * (params["b"] - 0.7) ** 2


def study_of(sampler: BaseSampler, directions: tuple[str, str] = ("maximize", "minimize")) -> optuna.Study:
    return optuna.create_study(directions=list(directions), sampler=sampler)


def searched(sampler: BaseSampler, trials: int, *, noise: float = 0.01, seed: int = 0) -> optuna.Study:
    study = study_of(sampler)
    rng = np.random.default_rng(seed)
    for _ in range(trials):
        trial = study.ask(SPACE)
        study.tell(trial, [accuracy(trial.params) + noise * rng.standard_normal(), cost(trial.params)])
    return study


def truth(study: optuna.Study) -> float:
    params = [trial.params for trial in study.trials]
    return hypervolume(list(map(cost, params)), list(map(accuracy, params)), cost_range=RANGE, classes=10)


class TestContract(BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture(params=["modelled", "known"])
    def sampler(self, request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
        known = (lambda params: float(len(params))) if request.param == "known" else None
        return lambda: CostAwareSampler(known, seed=0)


@pytest.mark.parametrize("known", [cost, None], ids=["known", "modelled"])
def test_it_finds_in_40_trials_what_random_search_does_not_find_in_100(known: Callable[..., float] | None) -> None:
    for seed in range(3):
        found = truth(searched(CostAwareSampler(known, space=SPACE, seed=seed), 40, seed=seed))
        assert found > truth(searched(RandomSampler(seed=seed), 100, seed=seed))


def test_the_known_cost_helps() -> None:
    def found(known: Callable[..., float] | None) -> float:
        return float(
            np.mean(
                [truth(searched(CostAwareSampler(known, space=SPACE, seed=seed), 40, seed=seed)) for seed in range(6)]
            )
        )

    assert found(cost) > found(None)


def test_the_first_trials_are_spread_over_the_cost() -> None:
    study = searched(CostAwareSampler(cost, space=SPACE, seed=0), STARTUP)
    logs = np.log([cost(trial.params) / 100 for trial in study.trials]) / math.log(200)
    places = [van_der_corput(number) for number in range(1, STARTUP + 1)]
    assert np.abs(logs - places).max() < 0.1
    assert [van_der_corput(number) for number in (1, 2, 3, 4, 5)] == [0.5, 0.25, 0.75, 0.125, 0.625]


def test_nothing_twice_nothing_that_runs_and_nothing_refused() -> None:
    def coarse(params: dict[str, Any]) -> Known | None:
        size = int(4 * params["size"])
        return None if params["c"] > 0.5 else Known(10.0**size, key=f"{size} {int(4 * params['a'])}")

    study = study_of(CostAwareSampler(coarse, space=SPACE, seed=0))
    tried = []
    for number in range(16):
        trial = study.ask(SPACE)
        known = coarse(trial.params)
        assert known is not None
        tried.append(known.key)
        if number % 3:  # every third goes on running
            study.tell(trial, [accuracy(trial.params), known.cost])
    assert len(set(tried)) == 16
    study.ask(SPACE)  # all 16 are taken: any point will do


def test_asked_again_for_one_trial_it_proposes_another() -> None:
    study = searched(CostAwareSampler(cost, space=SPACE, seed=0), 30)
    trial = study.trials[-1]
    sampler = CostAwareSampler(cost, space=SPACE, seed=5)
    proposals = [sampler.sample_relative(study, trial, dict(SPACE)) for _ in range(5)]
    assert len({tuple(params.values()) for params in proposals}) == 5


def test_a_new_sampler_goes_on_from_the_study_alone() -> None:
    study = searched(CostAwareSampler(cost, space=SPACE, seed=0), 25)
    study.sampler = CostAwareSampler(cost, space=SPACE, seed=1)
    before = truth(study)
    for _ in range(10):
        trial = study.ask(SPACE)
        study.tell(trial, [accuracy(trial.params), cost(trial.params)])
    assert truth(study) > before
    assert min(np.abs(trial.params["b"] - 0.7) for trial in study.trials[25:]) < 0.1


def test_one_sampler_in_two_studies_reads_each() -> None:
    """Trials of one study stand for nothing in another, though their numbers are the same."""

    def proposals(used_before: bool) -> list[str]:
        read: list[float] = []
        sampler = CostAwareSampler(lambda params: read.append(params["size"]) or cost(params), space=SPACE, seed=0)
        if used_before:
            trial = searched(RandomSampler(seed=1), 20)
            sampler.sample_relative(trial, trial.ask(), dict(SPACE))  # type: ignore[arg-type]
        study = searched(RandomSampler(seed=2), 20)
        read.clear()
        sampler.sample_relative(study, study.ask(), dict(SPACE))  # type: ignore[arg-type]
        return [str(trial.params["size"] in read) for trial in study.trials[:20]]

    assert proposals(True) == proposals(False) == ["True"] * 20


def test_the_same_seed_proposes_the_same() -> None:
    def params(seed: int) -> list[dict[str, Any]]:
        return [trial.params for trial in searched(CostAwareSampler(cost, space=SPACE, seed=seed), 20).trials]

    assert params(3) == params(3)
    assert params(3) != params(4)


def test_a_loss_is_searched_like_its_negative() -> None:
    def proposals(sign: float, direction: str) -> list[dict[str, Any]]:
        study = study_of(CostAwareSampler(cost, space=SPACE, seed=0), (direction, "minimize"))
        for _ in range(25):
            trial = study.ask(SPACE)
            study.tell(trial, [sign * accuracy(trial.params), cost(trial.params)])
        return [trial.params for trial in study.trials]

    assert proposals(1.0, "maximize") == proposals(-1.0, "minimize")


@pytest.mark.parametrize("state", [TrialState.PRUNED, TrialState.RUNNING], ids=["pruned", "paused"])
def test_a_trial_that_was_stopped_counts_by_its_last_value(state: TrialState) -> None:
    """Half of the space, all stopped: good readings bring the search there, bad ones keep it away."""

    def share(offset: float) -> float:
        study = study_of(RandomSampler(seed=0))
        rng = np.random.default_rng(0)
        for number in range(40):
            params = {name: float(rng.random()) for name in SPACE}
            params["c"] = params["c"] / 2 + (0.5 if number % 2 else 0.0)
            value = 0.4 + 0.2 * params["size"] + 0.01 * rng.standard_normal()
            whole = number % 2 == 0
            trial = create_trial(
                state=TrialState.COMPLETE if whole else state,
                values=[value, cost(params)] if whole else None,
                params=params,
                distributions=dict(SPACE),
                intermediate_values={3: value - 0.1 + (0 if whole else offset)},
                constraints={"pruned": 1.0} if state == TrialState.PRUNED and not whole else None,
            )
            study.add_trial(trial)
        sampler = CostAwareSampler(cost, space=SPACE, seed=0)
        asked = study.ask().number
        frozen = next(trial for trial in study.get_trials() if trial.number == asked)
        proposed = [sampler.sample_relative(study, frozen, dict(SPACE))["c"] for _ in range(12)]
        return float(np.mean([c > 0.5 for c in proposed]))

    assert share(+0.1) > 0.8
    assert share(-0.1) < 0.2


@pytest.mark.parametrize("honest", [True, False], ids=["telling", "noise"])
def test_a_training_loss_is_trusted_where_it_tells_the_values_of_others(honest: bool) -> None:
    """Noisy values: a loss that tells the truth makes the search better, one that is noise does not make it worse."""

    def found(attribute: str) -> float:
        results = []
        for seed in range(6):
            study = study_of(CostAwareSampler(cost, space=SPACE, seed=seed))
            rng = np.random.default_rng(seed)
            for _ in range(40):
                trial = study.ask(SPACE)
                value = accuracy(trial.params) + 0.08 * rng.standard_normal()
                trial.storage.set_trial_intermediate_value(trial._trial_id, 1, value)
                loss = 1 - accuracy(trial.params) if honest else float(rng.random())
                trial.set_user_attr(attribute, [loss])
                study.tell(trial, [value, cost(trial.params)])
            results.append(truth(study))
        return float(np.mean(results))

    with_loss, without = found(LOSSES), found("something else")
    assert with_loss > without + 0.005 if honest else with_loss > without - 0.01


def test_the_model_reads_no_more_than_its_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []

    class Counted(GaussianProcess):
        def __init__(self, points: Any, *rest: Any, **more: Any) -> None:
            rows.append(len(points))
            super().__init__(points, *rest, **more)

    monkeypatch.setattr(cost_aware, "GaussianProcess", Counted)
    monkeypatch.setattr(cost_aware, "READ", 60)
    study = searched(RandomSampler(seed=0), 150)
    study.sampler = CostAwareSampler(cost, space=SPACE, seed=0)
    study.tell(study.ask(SPACE), [0.5, 1.0])
    assert rows == [60]
    assert [trial.number for trial in study.trials][-1] == 150


def test_failed_infinite_and_forbidden_trials_are_not_read() -> None:
    study = searched(CostAwareSampler(cost, space=SPACE, seed=0), 20)
    params = {"size": 0.5, "a": 0.5, "b": 0.5, "c": 0.5}
    for more in ({"values": [math.inf, 1.0]}, {"values": [9.0, 1.0], "constraints": {"mine": 1.0}}):
        study.add_trial(create_trial(params=params, distributions=dict(SPACE), **more))
    study.add_trial(create_trial(state=TrialState.FAIL, params=params, distributions=dict(SPACE)))
    trial = study.ask(SPACE)
    assert study.sampler is not None
    assert all(0 <= value <= 1 for value in trial.params.values())
    assert max(abs(trial.params[name] - 0.5) for name in SPACE) > 0.01


def test_all_kinds_of_parameters() -> None:
    space = {
        "log": FloatDistribution(1e-3, 1e3, log=True),
        "step": FloatDistribution(-1, 1, step=0.25),
        "int": IntDistribution(1, 64, log=True),
        "kind": CategoricalDistribution(["good", "bad", None]),
    }
    study = study_of(CostAwareSampler(lambda params: float(params["int"]), seed=0))  # learns its space
    for _ in range(45):
        trial = study.ask(space)
        bonus = {"good": 1.0, "bad": 0.0, None: 0.5}[trial.params["kind"]]
        value = bonus + math.log(trial.params["int"]) - abs(trial.params["step"])
        study.tell(trial, [value, float(trial.params["int"])])
    late = [trial.params for trial in study.trials[20:]]
    assert np.mean([params["kind"] == "good" for params in late]) > 0.6
    assert np.mean([abs(params["step"]) <= 0.25 for params in late]) > 0.5


def test_what_it_refuses() -> None:
    three = optuna.create_study(directions=["minimize"] * 3, sampler=CostAwareSampler(cost, space=SPACE, seed=0))
    with pytest.raises(ValueError, match="one or two objectives, this study has 3"):
        three.ask(SPACE)
    study = study_of(CostAwareSampler(lambda params: math.nan, space=SPACE, seed=0))
    with pytest.raises(ValueError, match="must be a finite number, or None"):
        study.ask(SPACE)
