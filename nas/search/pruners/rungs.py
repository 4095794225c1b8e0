"""Learning curves read from a study into plain arrays, so that a rule is arithmetic and can be tested as such."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
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


class Kept:
    """What `read` took from the trials that have ended, so that each is looked at once.

    Args of its arrays: one row a trial that is not left out, in the order in which they were seen to have ended; more
    rows than that are allocated.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all of it."""
        self.trials: dict[int, FrozenTrial] = {}
        """Those that have ended, by number; the ones that are left out too."""
        self.keys: list[str] = []
        self.numbers: list[int] = []
        self.steps: dict[int, int] = {}
        """The column of each rung that any of them reported."""
        self.completed: set[int] = set()
        """The rungs that a completed one reported."""
        self.last = -1
        """The last step that a completed one reported."""
        self.costs: FloatArray = np.empty(0)
        self.finals: FloatArray = np.empty(0)
        self.values: FloatArray = np.empty((0, 0))

    def add(self, trial: FrozenTrial, line: Line | None) -> None:
        """A trial that has ended; None leaves it out."""
        self.trials[trial.number] = trial
        if line is None:
            return
        row = len(self.keys)
        for step in line.values:
            self.steps.setdefault(step, len(self.steps))
        rows, columns = self.values.shape
        if row == rows or len(self.steps) > columns:
            rows = max(64, 2 * row) if row == rows else rows
            grown = np.full((rows, len(self.steps)), math.nan)
            grown[:row, :columns] = self.values[:row]
            self.values = grown
            self.costs, self.finals = (np.resize(old, rows) for old in (self.costs, self.finals))
        self.keys.append(line.key)
        self.numbers.append(line.number)
        self.costs[row], self.finals[row] = line.cost, line.final
        for step, value in line.values.items():
            self.values[row, self.steps[step]] = value
        if line.complete:
            self.completed.update(line.values)
            self.last = max(self.last, line.last)


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
    kept = Kept() if kept is None else kept
    trials = study.get_trials(deepcopy=False, states=PEERS)
    running = _add_ended(kept, trials, trial, is_rung)
    if running is None:  # another study, or a storage that hands out copies
        kept.clear()
        running = _add_ended(kept, trials, trial, is_rung)
        assert running is not None
    rows = [line for other in running if (line := _line_of(other, is_rung)) is not None]
    if trial is not None:
        rows.append(_line(trial, is_rung))
    last = kept.last if last_step is None else last_step
    if last < 0:
        return None
    reported = {*kept.steps, *(step for row in rows for step in row.values)} if unfinished else kept.completed
    steps = tuple(sorted(step for step in reported if step < last))
    sign = 1.0 if study.directions[0] == StudyDirection.MAXIMIZE else -1.0
    ended = len(kept.keys)
    values = np.full((ended + len(rows), len(steps)), math.nan)
    for column, step in enumerate(steps):
        if step in kept.steps:
            values[:ended, column] = kept.values[:ended, kept.steps[step]]
        values[ended:, column] = [row.values.get(step, math.nan) for row in rows]
    finals = np.array([*kept.finals[:ended], *(row.final for row in rows)])
    return Curves(
        costs=np.array([*kept.costs[:ended], *(row.cost for row in rows)]),
        steps=steps,
        values=sign * np.where(np.isfinite(values), values, math.nan),
        finals=sign * np.where(np.isfinite(finals), finals, math.nan),
        keys=(*kept.keys, *(row.key for row in rows)),
        numbers=(*kept.numbers, *(row.number for row in rows)),
        row=ended + len(rows) - 1,
    )


def _add_ended(
    kept: Kept, trials: Sequence[FrozenTrial], asking: FrozenTrial | None, is_rung: Callable[[int], bool]
) -> list[FrozenTrial] | None:
    """Those that have not ended, without the asking one; None, and nothing added, where `kept` is of other trials."""
    running: list[FrozenTrial] = []
    new: list[FrozenTrial] = []
    found = 0
    for other in trials:
        number = other.number
        before = kept.trials.get(number)
        if asking is not None and number == asking.number:
            if before is not None:
                return None
        elif before is not None:
            if before is not other:
                return None
            found += 1
        else:
            # Some storages change a trial in place until it has ended.
            (new if other.state.is_finished() else running).append(other)
    if found != len(kept.trials):
        return None
    for other in new:
        kept.add(other, _line_of(other, is_rung))
    return running


def _line_of(trial: FrozenTrial, is_rung: Callable[[int], bool]) -> Line | None:
    """None where it is left out."""
    return _line(trial, is_rung) if _is_cost(trial.user_attrs.get("cost")) and _is_allowed(trial) else None


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
