"""Optuna's Gaussian process with pruned trials in its sight: what it is shown, and what it does not ask for again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler, GPSampler
from optuna.study import Study
from optuna.testing.pytest_samplers import BasicSamplerTestCase
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas.search.cost_aware import Known
from nas.search.evidence import PAIRS
from nas.search.optuna_gp import OptunaGP

SPACE = {name: FloatDistribution(0, 1) for name in ("size", "share")}
STARTUP = 10


class TestContract(BasicSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: OptunaGP(seed=0)


def end_of(size: float, share: float) -> float:
    return 1 - (size - 0.7) ** 2 - (share - 0.4) ** 2


def ended(
    size: float, share: float, state: TrialState = TrialState.COMPLETE, *, steps: int = 3, **changes: Any
) -> FrozenTrial:
    """A trial whose value at each step is a tenth below the next, up to the third."""
    final = end_of(size, share)
    made: dict[str, Any] = {
        "state": state,
        "values": [final, 10.0 ** (1 + size)] if state == TrialState.COMPLETE else None,
        "params": {"size": size, "share": share},
        "distributions": SPACE,
        "user_attrs": {"cost": 10.0 ** (1 + size)},
        "intermediate_values": {step: final - 0.1 * (3 - step) for step in range(1, steps + 1)},
    }
    return create_trial(**(made | changes))


def completed(count: int = STARTUP) -> list[FrozenTrial]:
    points = np.random.default_rng(0).random((count, 2))
    return [ended(float(size), float(share)) for size, share in points]


def study_of(trials: list[FrozenTrial], directions: tuple[str, ...] = ("maximize", "minimize")) -> Study:
    study = optuna.create_study(directions=list(directions))
    for trial in trials:
        study.add_trial(trial)
    return study


def shown(study: Study, monkeypatch: pytest.MonkeyPatch, sampler: OptunaGP | None = None) -> list[FrozenTrial]:
    """What Optuna's sampler finds in the study, as it would look for it; the trial that asks is left out."""
    found = list[FrozenTrial]()

    def look(self: GPSampler, study: Study, trial: FrozenTrial, search_space: Any) -> dict[str, Any]:
        states = (TrialState.COMPLETE, TrialState.RUNNING)
        seen = study._get_trials(deepcopy=False, states=states, use_cache=False)
        assert seen == study.get_trials(states=states) == [one for one in study.trials if one.state in states]
        found.extend(one for one in seen if one.number != trial.number)
        return {}

    monkeypatch.setattr(GPSampler, "sample_relative", look)
    study.sampler = sampler or OptunaGP(seed=0)
    study.ask(SPACE)
    return found


def pruned(study: Study, point: FrozenTrial) -> None:
    trial = create_trial(
        state=TrialState.PRUNED,
        params=point.params,
        distributions=point.distributions,
        user_attrs=point.user_attrs,
        intermediate_values=point.intermediate_values,
        constraints={**point.constraints, "pruned": 1.0},
    )
    study.add_trial(trial)


@pytest.mark.parametrize("directions", [("maximize", "minimize"), ("minimize", "minimize")])
def test_a_pruned_trial_ends_where_its_last_value_and_cost_let_expect(
    directions: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = completed(40)
    study = study_of(trials, directions)
    pruned(study, ended(0.3, 0.8, TrialState.PRUNED, steps=1))
    *others, last = shown(study, monkeypatch)
    assert [other.values for other in others] == [trial.values for trial in trials]
    assert (last.state, last.params, last.constraints) == (TrialState.COMPLETE, {"size": 0.3, "share": 0.8}, {})
    value, cost = last.values
    assert value == pytest.approx(end_of(0.3, 0.8), abs=0.03)  # it had 0.2 less when it was stopped
    assert cost == pytest.approx(10**1.3)
    assert study.trials[40].state == TrialState.PRUNED  # the study itself is as it was


def test_with_too_few_to_expect_from_it_is_the_last_value(monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of(completed(PAIRS - 1))
    pruned(study, ended(0.3, 0.8, TrialState.PRUNED, steps=2))
    study.add_trial(ended(0.4, 0.5, TrialState.RUNNING, steps=2))
    *_, stopped, running = shown(study, monkeypatch)
    assert stopped.values == [pytest.approx(end_of(0.3, 0.8) - 0.1), pytest.approx(10**1.3)]
    assert running.state == TrialState.RUNNING  # it may well end higher


def test_one_that_is_set_aside_is_shown_with_its_expected_end_and_one_without_a_value_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = study_of(completed(40))
    for steps in (2, 0):
        study.add_trial(ended(0.3, 0.8, TrialState.RUNNING, steps=steps))
    *_, aside, begun = shown(study, monkeypatch)
    assert aside.state == TrialState.COMPLETE
    assert aside.values[0] == pytest.approx(end_of(0.3, 0.8), abs=0.03)
    assert begun.state == TrialState.RUNNING


@pytest.mark.parametrize(
    "changes",
    [{"intermediate_values": {}}, {"user_attrs": {}}, {"user_attrs": {"cost": float("nan")}}],
    ids=["no value", "no cost", "a cost of NaN"],
)
def test_a_pruned_trial_of_which_nothing_is_known_is_one_whose_value_is_to_come(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_of(completed())
    pruned(study, ended(0.3, 0.8, TrialState.PRUNED, **changes))
    *_, last = shown(study, monkeypatch)
    assert (last.state, last.params, last.constraints) == (TrialState.RUNNING, {"size": 0.3, "share": 0.8}, {})


@pytest.mark.parametrize("said", [40.0, Known(40.0)])
def test_the_cost_of_a_trial_that_does_not_say_it_is_asked_for(
    said: float | Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_of(completed())
    pruned(study, ended(0.3, 0.8, TrialState.PRUNED, user_attrs={}))
    *_, last = shown(study, monkeypatch, OptunaGP(lambda params: said if params["size"] == 0.3 else None, seed=0))
    assert last.values[1] == 40


def test_constraints_are_those_that_completed_trials_have(monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of([ended(*trial.params.values(), constraints={"memory": -1.0}) for trial in completed()])
    pruned(study, ended(0.3, 0.8, TrialState.PRUNED, constraints={"memory": -0.5}))
    pruned(study, ended(0.4, 0.9, TrialState.PRUNED))
    *_, same, other = shown(study, monkeypatch)
    assert (same.state, same.constraints) == (TrialState.COMPLETE, {"memory": -0.5})
    assert (other.state, other.constraints) == (TrialState.RUNNING, {})


def test_trials_of_another_space_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = completed()
    other = {"size": FloatDistribution(0, 2), "share": FloatDistribution(0, 1)}
    strange = [
        ended(0.1, 0.2, distributions=other),
        ended(0.1, 0.2, params={"size": 0.1}, distributions={"size": SPACE["size"]}),
        ended(0.1, 0.2, TrialState.FAIL),
    ]
    study = study_of([*strange, *trials])
    monkeypatch.setattr(OptunaGP, "infer_relative_search_space", lambda self, study, trial: dict(SPACE))
    assert [trial.number for trial in shown(study, monkeypatch)] == list(range(3, 3 + STARTUP))


def test_infinite_values_are_left_to_optuna(monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of([*completed(), ended(0.1, 0.2, values=[float("-inf"), 12.0])])
    pruned(study, ended(0.3, 0.8, TrialState.PRUNED))
    *_, infinite, last = shown(study, monkeypatch)
    assert infinite.values[0] == float("-inf")
    assert np.isfinite(last.values).all()


@pytest.mark.parametrize("directions", [("maximize",), ("maximize", "minimize", "minimize")])
def test_other_counts_of_objectives(directions: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of([ended(0.1, 0.2, values=[0.9, 3.0, 4.0][: len(directions)])] * STARTUP, directions)
    pruned(study, ended(0.3, 0.8, TrialState.PRUNED))
    *_, last = shown(study, monkeypatch)
    if len(directions) == 1:
        assert (last.state, len(last.values)) == (TrialState.COMPLETE, 1)
    else:  # nobody knows its third
        assert last.state == TrialState.RUNNING


def test_the_same_seed_proposes_the_same_after_startup_and_shares_it_with_others() -> None:
    def proposed(seed: int) -> tuple[dict[str, Any], Study]:
        study = study_of(completed())
        pruned(study, ended(0.3, 0.8, TrialState.PRUNED))
        study.sampler = OptunaGP(seed=seed)
        return study.ask(SPACE).params, study

    first, study = proposed(0)
    assert first == proposed(0)[0] != proposed(1)[0]
    assert any(name.startswith("gp:relative_params") for name in study.trials[-1].system_attrs)


@pytest.mark.parametrize("sampler", [OptunaGP, GPSampler])
def test_a_pruned_point_is_not_proposed_again(sampler: type[GPSampler]) -> None:
    """All trials after the start are stopped; Optuna's own goes on asking for the first of them."""
    study = study_of(completed())
    study.sampler = sampler(seed=0)
    points = []
    for _ in range(3):
        trial = study.ask(SPACE)
        stopped = ended(*trial.params.values(), steps=1)
        trial.set_user_attr("cost", stopped.user_attrs["cost"])
        trial.storage.set_trial_intermediate_value(trial._trial_id, 1, stopped.intermediate_values[1])
        trial.set_constraint("pruned", 1.0)
        study.tell(trial, state=TrialState.PRUNED)
        points.append(list(trial.params.values()))
    apart = min(float(np.linalg.norm(np.subtract(a, b))) for i, a in enumerate(points) for b in points[:i])
    if sampler is OptunaGP:
        assert apart > 0.01
    else:  # where this fails, Optuna has learned of pruned trials, and this file has had its time
        assert apart < 0.01
