"""What dead workers left behind: their running trials are failed at once, their places and networks given back.

A trial whose evaluation was written before its worker died is told to Optuna as it ended, so nothing finished is lost.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import IntegrityError

from nas.architecture import Architecture
from nas.errors import ArchitectureError
from nas.records import Row
from nas.search.claims import Claims
from nas.search.liveness import workers
from nas.search.loop import STATES
from nas.search.study import OpenStudy

KILLED = "the worker was killed"


@dataclass(frozen=True, slots=True)
class Recovered:
    """How many trials were found open: `told` had ended in the records, `failed` had not."""

    told: int = 0
    failed: int = 0


def recover(opened: OpenStudy) -> Recovered:
    """Settle what dead workers of the study left open; harmless beside living workers and other recoveries."""
    study, records, number = opened.study, opened.records, opened.record.id
    # The order matters: whoever held a place when the claims were read, and lives when the living are counted after
    # that, may own any trial that was running before.
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    claims = Claims(records, number, worker="")
    held = claims.all()
    known = workers(records, number)
    alive = {worker.id for worker in known if worker.is_alive()}
    owners = {claim.trial: claim.worker for claim in held if claim.trial is not None}
    aside = {claim.trial for claim in held if claim.state == "paused"}
    asking = any(claim.trial is None and claim.state == "held" and claim.worker in alive for claim in held)
    # First of all they lose their claims: one on another host that was only slow finds that out when it wants to write
    # its result (`TakenAway`), and what is told below stays as it is.
    open_claims = {claim.worker for claim in held if claim.state == "held"}
    for dead in sorted((open_claims | {worker.id for worker in known}) - alive):
        claims.bury(dead)
    told = failed = 0
    for trial in running:  # one that its worker has not entered with its place yet
        if "worker" in trial.user_attrs:
            owners.setdefault(trial.number, str(trial.user_attrs["worker"]))
    if any(trial.number not in aside and owners.get(trial.number) not in alive for trial in running):
        rows = {row.trial: row for row in records.rows(study.study_name)}
        for trial in running:
            owner, row = owners.get(trial.number), rows.get(trial.number)
            if trial.number in aside or owner in alive:
                continue
            if row is not None and row.state == "paused":
                continue  # a dead worker had taken it up again: `bury` has set it aside as it was
            if row is not None and row.worker in alive:
                continue
            if row is not None:
                told += _tell(study, trial, row)
            elif owner is not None or not asking:  # else perhaps the trial that a living worker has just asked for
                failed += _fail(opened, trial, owner or "")
    return Recovered(told, failed)


def _tell(study: optuna.Study, trial: FrozenTrial, row: Row) -> bool:
    values = None
    if row.state == "complete":
        values = [float(row.val_accuracy or 0.0), float(row.cost)]
    return _end(study, trial, STATES[row.state], values)


def _fail(opened: OpenStudy, trial: FrozenTrial, worker: str) -> bool:
    try:
        opened.set_attr(trial.number, "reason", KILLED)
    except optuna.exceptions.UpdateFinishedTrialError:
        return False  # another recovery was first
    try:
        opened.records.add(opened.record.id, _killed_row(trial, worker))
    except (KeyError, ArchitectureError, IntegrityError):
        pass  # killed before its network was known, or another recovery was first
    return _end(opened.study, trial, TrialState.FAIL, None)


def _end(study: optuna.Study, trial: FrozenTrial, state: TrialState, values: list[float] | None) -> bool:
    try:
        study.tell(trial.number, values, state)
    except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
        return False  # another recovery was first
    return True


def _killed_row(trial: FrozenTrial, worker: str) -> Row:
    attrs = trial.user_attrs
    started = (trial.datetime_start or datetime.now()).astimezone(UTC)
    now = datetime.now(UTC)
    return Row(
        trial=trial.number,
        key=attrs["key"],
        architecture=Architecture.from_json(json.loads(attrs["architecture"])),
        state="failed",
        reason=KILLED,
        val_accuracy=None,
        curve=(),  # its readings are in Optuna; their training losses died with the worker
        params=attrs["params"],
        macs=attrs["macs"],
        cost=int(attrs["cost"]),
        seconds=max(0.0, (now - started).total_seconds()),  # the clock may have been set back
        seed=attrs["seed"],
        device=attrs["device"],
        threads=attrs["threads"],
        worker=worker,
        started_at=started,
        finished_at=now,
        killed=True,
    )
