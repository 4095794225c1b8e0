"""Learning curves and pruning in a study of two objectives, where Optuna's own `Trial.report` refuses to work."""

from __future__ import annotations

import json
import math
import operator
from typing import Any, SupportsFloat, SupportsIndex

import optuna
from optuna.pruners import HyperbandPruner, PatientPruner, PercentilePruner, SuccessiveHalvingPruner, WilcoxonPruner

from nas.architecture import Architecture

MARK = "pruned"

# These ask a study for its one direction. MedianPruner, a PercentilePruner, is what a study has that names no pruner.
SINGLE_OBJECTIVE = (HyperbandPruner, PatientPruner, PercentilePruner, SuccessiveHalvingPruner, WilcoxonPruner)


def report(trial: optuna.Trial, value: SupportsFloat, step: SupportsIndex) -> None:
    """Store a value of objective 0 at a step of the training; other processes see it at once.

    Args:
        trial: a running trial of a study with any number of objectives.
        value: finite. A step that is reported again is overwritten.
        step: >= 0; 1 after the first epoch, by our convention.

    Raises:
        ValueError: the value is not a finite number, or the step not a whole number >= 0.
        optuna.exceptions.UpdateFinishedTrialError: the trial has ended.
    """
    try:
        number = float(value)
        place = operator.index(step)
    except (TypeError, ValueError):
        raise ValueError(f"report a number at a whole step, got {value!r} at step {step!r}") from None
    if not math.isfinite(number):
        raise ValueError(
            f"report finite values, got {number} at step {place}: a training that diverged is a failed trial"
        )
    if place < 0:
        raise ValueError(f"report steps >= 0, got {place}")
    trial.storage.set_trial_intermediate_value(trial_id(trial), place, number)


def should_prune(trial: optuna.Trial) -> bool:
    """Ask the study's pruner about the trial's last reported value. Only answers; marks and stops nothing.

    Raises:
        ValueError: the study's pruner is one of Optuna's for a single objective, or refuses this study or trial; the
            message says what to set.
    """
    study = trial.study
    if len(study.directions) > 1 and isinstance(study.pruner, SINGLE_OBJECTIVE):
        raise ValueError(
            f"{type(study.pruner).__name__} cannot judge a study of {len(study.directions)} objectives: create it with "
            "pruner=nas.search.pruners.ConformalPruner()"
        )
    # Some of Optuna's pruners answer with a bool of NumPy, which is not False where it should be.
    return bool(study.pruner.prune(study, trial.storage.get_trial(trial_id(trial))))


def pruned(trial: optuna.Trial) -> optuna.TrialPruned:
    """Mark the trial as pruned, so that samplers can live with it, and return what to raise.

    ``raise nas.search.pruned(trial)``. Without the mark TPE ends with a RuntimeError at the next trial, since it looks
    for the one direction by which to rank a pruned curve; with it TPE takes the trial as a bad one. The mark is a
    violated constraint named ``pruned``; a trial that the caller has marked with a constraint above 0 is left alone.

    Raises:
        ValueError: the caller has used the constraint's name for something that is not violated.
    """
    constraints = trial.constraints
    if all(value <= 0 for value in constraints.values()):
        if MARK in constraints:
            raise ValueError(
                f"the constraint {MARK!r} is set to {constraints[MARK]} and cannot be changed: give yours another name"
            )
        trial.set_constraint(MARK, 1.0)
    return optuna.TrialPruned()


def trial_id(trial: optuna.Trial) -> int:
    # Trial has its id under a private name only; these look-ups are public and take under a millisecond.
    study_id = trial.storage.get_study_id_from_name(trial.study.study_name)
    return trial.storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)


def trial_attributes(
    architecture: Architecture, *, cost: int, seed: int, device: str, threads: int, worker: str
) -> dict[str, Any]:
    """User attributes that every trial of a search has from its begin on, for the dashboard, pruners and samplers.

    Args:
        architecture: the trial's network.
        cost: what the study makes small.
        seed: of its training.
        device, threads, worker: what trains it.
    """
    return {
        "cost": float(cost),
        "params": architecture.params,
        "macs": architecture.macs,
        "key": architecture.key,
        "seed": seed,
        "device": device,
        "threads": threads,
        "worker": worker,
        "architecture": json.dumps(architecture.to_json()),
    }
