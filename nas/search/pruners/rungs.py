"""Learning curves read from a study into plain arrays, so that a rule is arithmetic and can be tested as such."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

FloatArray = NDArray[np.float64]

# A failed trial says nothing about its network; a waiting one has said nothing yet.
PEERS = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)


@dataclass(frozen=True)
class Curves:
    """What a study has seen, one row a trial in no particular order; of values, larger is always better.

    Args:
        costs: (n,), finite, >= 0.
        steps: the K rungs below the last step that some completed trial reported, rising.
        values: (n, K), NaN where a trial did not reach (or skipped) a rung.
        finals: (n,), objective 0 of the completed trials, NaN for all others.
        keys: (n,), what makes two trials the same network.
        numbers: (n,), the trials' numbers.
        row: where the asking trial stands.
    """

    costs: FloatArray
    steps: tuple[int, ...]
    values: FloatArray
    finals: FloatArray
    keys: tuple[str, ...]
    numbers: tuple[int, ...]
    row: int


def is_rung(step: int) -> bool:
    """Whether trials are compared at a step where nothing else is asked for: at 1, 3, 9, 27, ..."""
    while step > 1 and step % 3 == 0:
        step //= 3
    return step == 1


def check(study: Study) -> None:
    """Refuse a study that is not (something seen in training, a minimised cost).

    Raises:
        ValueError: one objective, three, or a second one that is maximised.
    """
    directions = study.directions
    if len(directions) != 2:
        raise ValueError(
            f"this pruner needs two objectives, this study has {len(directions)}: create it with "
            'directions=["maximize", "minimize"], what training shows first and a cost known before it second'
        )
    if directions[1] != StudyDirection.MINIMIZE:
        raise ValueError(
            "this pruner needs objective 1 to be a minimised cost, here it is maximised: create the study with "
            'directions=["maximize", "minimize"], or ["minimize", "minimize"] for a loss'
        )


def cost_of(trial: FrozenTrial) -> float:
    """The trial's cost, from its user attribute `cost`.

    Raises:
        ValueError: there is none, or it is no finite number >= 0.
    """
    if "cost" not in trial.user_attrs:
        raise ValueError(
            f"trial {trial.number} has no cost to compare by: call trial.set_user_attr('cost', cost) before its "
            "training, with the value that objective 1 will have"
        )
    cost = trial.user_attrs["cost"]
    if not _is_cost(cost):
        raise ValueError(
            f"trial {trial.number} has cost {cost!r}: set the user attribute 'cost' to a finite number >= 0"
        )
    return float(cost)


def last_of(trial: FrozenTrial) -> tuple[int, float] | None:
    """The last step that the trial reported, and its value there; None where it reported nothing.

    Raises:
        ValueError: the value is NaN or infinite.
    """
    step = trial.last_step
    if step is None:
        return None
    value = trial.intermediate_values[step]
    if not math.isfinite(value):
        raise ValueError(
            f"trial {trial.number} reported {value} at step {step}: a training that is not finite has failed, "
            "raise an error in place of reporting it"
        )
    return step, value


def key_of(trial: FrozenTrial) -> str:
    """What makes two trials the same network: the user attribute `key`, or else a hash of all parameters."""
    key = trial.user_attrs.get("key")
    if isinstance(key, str):
        return key
    return hashlib.sha256(json.dumps(trial.params, sort_keys=True, default=repr).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Line:
    """What `read` takes from a trial that it does not leave out.

    Args:
        last: the last step that was reported; -1 where there is none.
        values: what was reported at rungs, by step.
        final: objective 0 of a completed trial, else NaN.
    """

    cost: float
    key: str
    number: int
    complete: bool
    last: int
    values: Mapping[int, float]
    final: float


Kept = dict[int, tuple[FrozenTrial, TrialState, dict[int, float], Line | None]]
"""By a trial's number: the trial, its state and values when it was read, and its line; None where it is left out."""


def read(
    study: Study,
    trial: FrozenTrial | None,
    is_rung: Callable[[int], bool],
    last_step: int | None,
    *,
    unfinished: bool = False,
    kept: Kept | None = None,
) -> Curves | None:
    """All curves of the study at its rungs, the asking trial's among them.

    Trials that are left out: failed and waiting ones; those without a usable cost, which can be placed nowhere; and
    those that break a constraint of the study, since a network that is not allowed is no evidence against one that is
    (a pruned trial's constraints say no more than that it was pruned). A value that is not finite was not reached.

    Args:
        trial: the asking trial; what it holds here counts, not what the study holds under its number. None: nobody
            asks, and `row` is the last one.
        is_rung: whether trials are compared at a step.
        last_step: the step at which trainings end; None learns it as the last that a completed trial reported.
        unfinished: rungs are what any trial has reported, not only a completed one.
        kept: of the calls before with the same `is_rung`, for the caller to pass on; saves time only.

    Returns:
        None while the last step is not known.
    """
    kept = {} if kept is None else kept
    others: list[Line] = []
    for other in study.get_trials(deepcopy=False, states=PEERS):
        if trial is not None and other.number == trial.number:
            continue
        before = kept.get(other.number)
        # Some storages change a trial in place until it has ended.
        if (
            before is not None
            and before[0] is other
            and before[1] == other.state
            and before[2] == other.intermediate_values
        ):
            line = before[3]
        else:
            line = _line(other, is_rung) if _is_cost(other.user_attrs.get("cost")) and _is_allowed(other) else None
            kept[other.number] = other, other.state, dict(other.intermediate_values), line
        if line is not None:
            others.append(line)
    rows = others if trial is None else [*others, _line(trial, is_rung)]
    last = max((other.last for other in others if other.complete), default=-1) if last_step is None else last_step
    if last < 0:
        return None
    reported = {
        step for other in (rows if unfinished else others) if unfinished or other.complete for step in other.values
    }
    steps = tuple(sorted(step for step in reported if step < last))
    sign = 1.0 if study.directions[0] == StudyDirection.MAXIMIZE else -1.0
    values = np.array(
        [[other.values.get(step, math.nan) for step in steps] for other in rows], dtype=np.float64
    ).reshape(len(rows), len(steps))
    finals = np.array([other.final for other in rows])
    return Curves(
        costs=np.array([other.cost for other in rows]),
        steps=steps,
        values=sign * np.where(np.isfinite(values), values, math.nan),
        finals=sign * np.where(np.isfinite(finals), finals, math.nan),
        keys=tuple(other.key for other in rows),
        numbers=tuple(other.number for other in rows),
        row=len(rows) - 1,
    )


def _line(trial: FrozenTrial, is_rung: Callable[[int], bool]) -> Line:
    complete = trial.state == TrialState.COMPLETE
    return Line(
        cost=float(trial.user_attrs["cost"]),
        key=key_of(trial),
        number=trial.number,
        complete=complete,
        last=max(trial.intermediate_values, default=-1),
        values={step: value for step, value in trial.intermediate_values.items() if is_rung(step)},
        final=trial.values[0] if complete else math.nan,
    )


def _is_cost(cost: object) -> bool:
    # NumPy's numbers reach here as they are where the storage is in memory.
    numbers = (int, float, np.integer, np.floating)
    return isinstance(cost, numbers) and not isinstance(cost, bool) and math.isfinite(cost) and bool(cost >= 0)


def _is_allowed(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.PRUNED or all(value <= 0 for value in trial.constraints.values())
