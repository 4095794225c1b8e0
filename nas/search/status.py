"""How a study stands while it is searched: who lives, what trains, how fast it goes; read by SQL without Optuna."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from nas.records import Records, claim_table, evaluation_table
from nas.search.liveness import WorkerRow, workers

RECENT = 50
"""So many of the last trials say how fast the search goes."""
RUNNING = sa.text(
    """
    SELECT trials.number AS trial, trials.datetime_start AS began,
        (SELECT value_json FROM trial_user_attributes AS attribute
            WHERE attribute.trial_id = trials.trial_id AND attribute.key = 'params') AS params,
        (SELECT MAX(step) FROM trial_intermediate_values AS reading
            WHERE reading.trial_id = trials.trial_id) AS epoch,
        (SELECT COUNT(*) FROM nas_evaluation AS evaluation JOIN nas_study ON nas_study.id = evaluation.study
            WHERE nas_study.name = :study AND evaluation.trial = trials.number) AS before
    FROM trials JOIN studies ON studies.study_id = trials.study_id
    WHERE studies.study_name = :study AND trials.state = 'RUNNING'
    """
)
"""Of Optuna's tables; `before` is 1 where the trial was set aside."""


@dataclass(frozen=True, slots=True)
class Running:
    """A trial in a worker's hands.

    Args:
        trial: its number; None while its worker asks for a network.
        params: parameters of its network; None where they are not known yet.
        epoch: the last one read, 0 before the first.
        seconds: since it was begun; None before that, and of one that was set aside and taken up again.
    """

    worker: str
    trial: int | None
    params: int | None
    epoch: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Status:
    """A study at a moment.

    Args:
        states: evaluations by how they ended, ``paused`` among them.
        total: trials that the last command asked for; None where it is not on record.
        epochs: of a whole training.
        alive: workers that live, in the order in which they began.
        dead: workers that ended without a word and that nobody has buried yet; the next search does.
        running: what the living hold, by trial.
        hourly: trials an hour, those set aside included, over the last `RECENT`; None of fewer than two.
        over: seconds that `hourly` is taken over.
    """

    study: str
    states: Counter[str]
    total: int | None
    epochs: int
    alive: tuple[WorkerRow, ...]
    dead: tuple[WorkerRow, ...]
    running: tuple[Running, ...]
    hourly: float | None
    over: float

    @property
    def done(self) -> int:
        """Complete and pruned: what counts to the total."""
        return self.states["complete"] + self.states["pruned"]

    @property
    def left(self) -> float | None:
        """Seconds until the last trial has begun, at the present rate; None where nobody works or it is not known.

        What is paused counts as done, since most of it stays as it is.
        """
        if self.total is None or not self.hourly or not self.alive:
            return None
        return max(0, self.total - self.done - self.states["paused"]) / self.hourly * 3600


def status(records: Records, study: str) -> Status:
    """Look at a study; nothing is changed, and no dead worker is buried.

    Raises:
        StudyError: there is no such study, or its database is out of reach.
    """
    record = records.study(study)
    mine = evaluation_table.c.study == record.id
    held = sa.select(claim_table.c.worker, claim_table.c.trial)
    times = sa.select(evaluation_table.c.started_at, evaluation_table.c.finished_at)
    with records.reading() as connection:
        counted = sa.select(evaluation_table.c.state, sa.func.count()).where(mine).group_by(evaluation_table.c.state)
        states = Counter({str(state): int(number) for state, number in connection.execute(counted)})
        claims = connection.execute(held.where(claim_table.c.study == record.id, claim_table.c.state == "held")).all()
        recent = connection.execute(
            times.where(mine, evaluation_table.c.killed.is_(False))
            .order_by(evaluation_table.c.finished_at.desc())
            .limit(RECENT)
        ).all()
        has_optuna = sa.inspect(connection).has_table("trial_intermediate_values")
        found = connection.execute(RUNNING, {"study": study}).mappings().all() if has_optuna else []
    everyone = workers(records, record.id)
    alive = tuple(worker for worker in everyone if worker.is_alive())
    now = datetime.now(UTC).timestamp()
    over = now - min((began for began, _ in recent), default=now)
    total = record.settings.get("trials")
    return Status(
        study=study,
        states=states,
        total=None if total is None else int(total),
        epochs=int(record.settings["epochs"]),
        alive=alive,
        dead=tuple(worker for worker in everyone if worker not in alive),
        running=_running(claims, found, {worker.id for worker in alive}),
        hourly=len(recent) / over * 3600 if len(recent) > 1 and over > 0 else None,
        over=over,
    )


def _running(claims: Any, found: Any, alive: set[str]) -> tuple[Running, ...]:
    by_trial = {int(row["trial"]): row for row in found}
    lines = []
    for worker, trial in claims:
        if worker not in alive:
            continue
        row = by_trial.get(trial)
        if row is None:
            lines.append(Running(worker, trial, None, 0, None))
            continue
        # Optuna keeps the universal time and does not say so.
        began = row["began"]
        began = datetime.fromisoformat(began) if isinstance(began, str) else began
        began = None if began is None or row["before"] else began.replace(tzinfo=UTC)
        seconds = None if began is None else max(0.0, (datetime.now(UTC) - began).total_seconds())
        params = None if row["params"] is None else int(row["params"])
        lines.append(Running(worker, trial, params, int(row["epoch"] or 0), seconds))
    return tuple(sorted(lines, key=lambda one: (one.trial is None, one.trial)))
