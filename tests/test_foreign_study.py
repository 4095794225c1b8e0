"""Curves and pruning in an Optuna study that is not ours; the README's example is run here."""

import math
import re
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PatientPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
    WilcoxonPruner,
)
from optuna.trial import TrialState

import nas.search
from nas.search import pruned, report, should_prune
from nas.search.pruners import ConformalPruner

README = Path(__file__).parents[1] / "README.md"


def test_readme_example():
    examples = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (example,) = [code for code in examples if "optuna.create_study" in code]  # the other is `tests/test_library.py`'s
    names = {}
    exec(compile(example, "README", "exec"), names)  # noqa: S102  (what a reader would run)
    trials = names["study"].trials
    states = {trial.state for trial in trials}
    assert len(trials) == 60
    assert states <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert TrialState.PRUNED in states
    assert all(trial.last_step in (1, 3, 9) for trial in trials if trial.state == TrialState.PRUNED)
    front = names["study"].best_trials
    assert all(trial.state == TrialState.COMPLETE for trial in front)
    assert len(front) > 1


class Always(BasePruner):
    """Stops everything at its second value, and keeps what it was shown."""

    def __init__(self):
        self.shown = []

    def prune(self, study, trial):
        self.shown.append(dict(trial.intermediate_values))
        return len(trial.intermediate_values) == 2


def create(pruner, directions=("maximize", "minimize"), **arguments):
    return optuna.create_study(directions=directions, pruner=pruner, **arguments)


def train(trial, rng):
    """A curve that rises to an end that x says, slower or faster."""
    x = trial.suggest_float("x", 0, 1)
    cost = 10 ** (1 + 2 * trial.suggest_float("size", 0, 1))
    trial.set_user_attr("cost", cost)
    for step in range(1, 11):
        report(trial, 0.3 + 0.2 * math.log10(cost) - 0.3 * x - 0.2 / step + rng.normal(0, 0.005), step)
        if should_prune(trial):
            raise pruned(trial)
    return 0.3 + 0.2 * math.log10(cost) - 0.3 * x, cost


def test_default_sampler_lives_with_pruned_curves():
    rng = np.random.default_rng(0)
    study = create(ConformalPruner(seed=1), sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(lambda trial: train(trial, rng), n_trials=60)
    stopped = study.get_trials(states=[TrialState.PRUNED])
    assert len(study.get_trials(states=[TrialState.COMPLETE])) + len(stopped) == 60
    assert len(stopped) > 5
    assert all(trial.constraints == {"pruned": 1.0} for trial in stopped)
    assert all(len(trial.intermediate_values) in (1, 3, 9) for trial in stopped)


def test_default_sampler_lives_with_pruned_curves_from_a_database(tmp_path):
    rng = np.random.default_rng(0)
    study = create(Always(), sampler=optuna.samplers.TPESampler(seed=0), storage=f"sqlite:///{tmp_path / 'study.db'}")
    study.optimize(lambda trial: train(trial, rng), n_trials=12)
    assert {(trial.state, len(trial.intermediate_values)) for trial in study.trials} == {(TrialState.PRUNED, 2)}


def stop_with(end, trials=20):
    """A study of 20 trials whose every second one is stopped after a value, by the function `end`."""

    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        report(trial, x, 1)
        if trial.number % 2:
            raise end(trial)
        return x, x

    study = create(Always(), sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=trials)
    return study


def test_canary_optuna_still_needs_the_mark():
    """When this fails Optuna has mended its crash: `pruned` may then be no more than a TrialPruned."""
    with pytest.raises(RuntimeError, match="A single direction cannot be retrieved"):
        stop_with(lambda trial: optuna.TrialPruned())
    stop_with(pruned)


def test_a_pruned_trial_ends_as_pruned_without_a_value():
    study = stop_with(pruned)
    assert [trial.state for trial in study.trials[:4]] == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.COMPLETE,
        TrialState.PRUNED,
    ]
    assert study.trials[1].values is None
    assert list(study.trials[1].intermediate_values) == [1]


def test_pruned_marks_and_hands_back_what_to_raise():
    trial = create(Always()).ask()
    assert isinstance(pruned(trial), optuna.TrialPruned)
    assert trial.constraints == {"pruned": 1.0}
    # Twice is once, and without Optuna's warning that the second is ignored.
    pruned(trial)
    assert trial.constraints == {"pruned": 1.0}


@pytest.mark.parametrize(
    ("theirs", "after"),
    [
        ({"memory": 3.0}, {"memory": 3.0}),
        ({"memory": 0.0}, {"memory": 0.0, "pruned": 1.0}),
        ({"memory": -1.0, "time": 0.5}, {"memory": -1.0, "time": 0.5}),
    ],
)
def test_a_mark_of_the_callers_is_left_alone(theirs, after):
    trial = create(Always()).ask()
    for name, value in theirs.items():
        trial.set_constraint(name, value)
    pruned(trial)
    assert trial.constraints == after


def test_a_name_that_the_caller_took_for_something_else_is_refused():
    trial = create(Always()).ask()
    trial.set_constraint("pruned", 0.0)
    with pytest.raises(ValueError, match=r"'pruned' is set to 0\.0 and cannot be changed: give yours another name"):
        pruned(trial)


@pytest.mark.parametrize("directions", [["maximize"], ["maximize", "minimize"], ["minimize"] * 3])
def test_report_stores_and_the_pruner_is_shown_it(directions, tmp_path):
    pruner = Always()
    study = create(pruner, directions, storage=f"sqlite:///{tmp_path / 'study.db'}")
    study.ask()
    trial = study.ask()
    report(trial, np.float32(0.5), np.int64(1))
    assert not should_prune(trial)
    report(trial, 0.25, 1)
    report(trial, 1, 2)
    assert should_prune(trial)
    assert pruner.shown == [{1: 0.5}, {1: 0.25, 2: 1.0}]
    # Only answered: nothing is marked, and the other trial has no curve.
    assert trial.constraints == {}
    assert [one.intermediate_values for one in study.trials] == [{}, {1: 0.25, 2: 1.0}]


@pytest.mark.parametrize(
    ("value", "step", "message"),
    [
        (math.nan, 1, "report finite values, got nan at step 1: a training that diverged is a failed trial"),
        (math.inf, 1, "report finite values, got inf"),
        (-math.inf, 1, "report finite values, got -inf"),
        ("much", 1, "report a number at a whole step, got 'much' at step 1"),
        (None, 1, "report a number at a whole step"),
        (0.5, 1.5, r"report a number at a whole step, got 0\.5 at step 1\.5"),
        (0.5, "1", "report a number at a whole step"),
        (0.5, -1, "report steps >= 0, got -1"),
    ],
)
def test_report_refuses_what_no_pruner_could_use(value, step, message):
    study = create(Always())
    trial = study.ask()
    with pytest.raises(ValueError, match=message):
        report(trial, value, step)
    assert study.trials[0].intermediate_values == {}


def test_report_after_the_end_is_optunas_error():
    study = create(Always())
    trial = study.ask()
    study.tell(trial, [0.5, 1.0])
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        report(trial, 0.5, 1)


# Some of them warn that they are experimental; that is between Optuna and those who use them.
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize(
    "make",
    [
        MedianPruner,
        lambda: PercentilePruner(25.0),
        SuccessiveHalvingPruner,
        HyperbandPruner,
        WilcoxonPruner,
        lambda: PatientPruner(MedianPruner(), 1),
    ],
)
def test_a_pruner_of_one_objective_is_named_with_what_to_set(make):
    pruner = make()
    study = create(pruner)
    trial = study.ask()
    report(trial, 0.5, 1)
    with pytest.raises(
        ValueError,
        match=rf"{type(pruner).__name__} cannot judge a study of 2 objectives.*pruner=nas\.search\.pruners\.",
    ):
        should_prune(trial)


def test_a_study_that_names_no_pruner_is_told_to():
    study = optuna.create_study(directions=["maximize", "minimize"])
    with pytest.raises(ValueError, match="MedianPruner cannot judge a study of 2 objectives"):
        should_prune(study.ask())


def test_other_pruners_answer_as_they_do():
    trial = create(NopPruner()).ask()
    report(trial, 0.5, 1)
    assert should_prune(trial) is False
    study = create(MedianPruner(n_startup_trials=0), ["maximize"])
    study.add_trial(optuna.create_trial(value=0.9, intermediate_values={1: 0.9}))
    trial = study.ask()
    report(trial, 0.5, 1)
    assert should_prune(trial) is True


def test_a_refusal_of_the_pruner_reaches_the_user():
    trial = create(ConformalPruner()).ask()
    report(trial, 0.5, 1)
    with pytest.raises(ValueError, match="has no cost to compare by"):
        should_prune(trial)


def test_what_is_public():
    assert sorted(nas.search.__all__) == ["pruned", "pruners", "report", "should_prune"]
    assert all(hasattr(nas.search, name) for name in nas.search.__all__)
