"""Both sides of a study at one moment: its records, and Optuna's trials, line by line as the database holds them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from nas.architecture import Architecture
from nas.context import Context, canonical
from nas.errors import ArchitectureError
from nas.records import Records, Row, claim_table, evaluation_table, row_of, study_table
from nas.search.evidence import LOSSES
from nas.search.loop import INTERRUPTED
from nas.search.recovery import KILLED

STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "paused"}
DAMAGED = (ArchitectureError, ValueError, TypeError, KeyError, AttributeError, OverflowError)
"""What reading a damaged line may raise."""
_ATTRIBUTES = ("key", "params", "macs", "cost", "seed")


@dataclass(slots=True)
class Trial:
    """One of Optuna's trials, as far as a record says the same.

    Args:
        attributes: its user attributes; one that is no JSON is None.
        values: by objective.
        readings: validation accuracy by epoch.
    """

    id: int
    number: int
    state: str
    started_at: Any
    finished_at: Any
    attributes: dict[str, Any] = field(default_factory=dict)
    values: dict[int, float | None] = field(default_factory=dict)
    readings: dict[int, Any] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Line:
    """One claim."""

    id: int
    key: str | None
    trial: int | None
    worker: str
    state: str


@dataclass(frozen=True, slots=True)
class Sides:
    """What the database says of a study.

    Args:
        number: the study's among the records.
        rows: evaluations by trial.
        unreadable: why a trial's evaluation cannot be read.
        trials: Optuna's by number; None where Optuna has no study of this name.
        twice: numbers that several of Optuna's trials have.
    """

    number: int
    identity: Mapping[str, Any]
    settings: Mapping[str, Any]
    rows: Mapping[int, Row]
    unreadable: Mapping[int, str]
    claims: tuple[Line, ...]
    trials: Mapping[int, Trial] | None
    twice: tuple[int, ...]


@contextmanager
def moment(records: Records) -> Iterator[Connection]:
    """A connection that sees the database as it is now, whatever is written meanwhile; bytes that are no text too."""
    with records.reading() as connection:
        if connection.dialect.name == "sqlite":
            driver: Any = connection.connection.driver_connection
            before, driver.text_factory = driver.text_factory, lambda content: content.decode("utf-8", "replace")
            connection.exec_driver_sql("BEGIN")
            try:
                yield connection
            finally:
                connection.rollback()
                driver.text_factory = before
        else:
            yield connection.execution_options(isolation_level="REPEATABLE READ")


def read(records: Records, study: str) -> Sides:
    """Both sides of a study.

    Raises:
        StudyError: the database cannot be read.
        KeyError: the records have no study of this name.
        ValueError: what the study is cannot be read.
    """
    with moment(records) as connection:
        there = connection.execute(sa.select(study_table).where(study_table.c.name == study)).mappings().first()
        if there is None:
            raise KeyError(study)
        identity, settings = _object(there["identity"]), _object(there["settings"])
        number = int(there["id"])
        rows, unreadable = _rows(connection, number, Context.of(identity).columns)
        claims = _claims(connection, number)
        trials, twice = _trials(connection, study)
    return Sides(number, identity, settings, rows, unreadable, claims, trials, twice)


def number_of(records: Records, study: str) -> int:
    """The study's among the records.

    Raises:
        KeyError: they have no study of this name.
    """
    with records.reading() as connection:
        found = connection.execute(sa.select(study_table.c.id).where(study_table.c.name == study)).scalar()
    if found is None:
        raise KeyError(study)
    return int(found)


def _object(text: str) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found


def _rows(
    connection: Connection, number: int, context: Mapping[str, str | None]
) -> tuple[dict[int, Row], dict[int, str]]:
    there = {column["name"] for column in sa.inspect(connection).get_columns(evaluation_table.name)}
    # Untyped, so that a line with a letter in a number is one damaged line and no error of the whole query.
    columns: list[sa.ColumnElement[Any]] = [
        sa.literal_column(f"{column.name}") for column in evaluation_table.c if column.name in there
    ]
    query = sa.select(*columns).select_from(evaluation_table).where(sa.literal_column("study") == number)
    rows, unreadable = {}, {}
    for line in connection.execute(query).mappings():
        found = dict(line)
        trial = found["trial"]
        try:
            found["killed"] = bool(found["killed"])
            row = row_of(found)
            for name, true in context.items():  # what the cache looks for, the same in all
                if found.get(name) not in (None, true):
                    raise ValueError(f"{name} is {found[name]}, the study's is {true}")
            rows[int(trial)] = row
        except DAMAGED as error:
            unreadable[trial if isinstance(trial, int) else -1] = " ".join(str(error).split())[:200]
    return rows, unreadable


def _claims(connection: Connection, number: int) -> tuple[Line, ...]:
    names = ("id", "key", "trial", "worker", "state")
    query = sa.select(*(claim_table.c[name] for name in names)).where(claim_table.c.study == number)
    return tuple(Line(*line) for line in connection.execute(query.order_by(claim_table.c.id)))


def _trials(connection: Connection, study: str) -> tuple[dict[int, Trial] | None, tuple[int, ...]]:
    if not sa.inspect(connection).has_table("trials"):
        return None, ()
    ids = connection.execute(sa.text("SELECT study_id FROM studies WHERE study_name = :study"), {"study": study}).all()
    if not ids:
        return None, ()
    mine = {"study": ids[0][0]}
    query = sa.text(
        "SELECT trial_id, number, state, datetime_start, datetime_complete FROM trials WHERE study_id = :study "
        "ORDER BY trial_id"
    )
    by_id = {line[0]: Trial(*line) for line in connection.execute(query, mine)}

    def each(table: str, columns: str) -> Iterator[tuple[Trial, Any, Any]]:
        found = sa.text(
            f"SELECT {table}.trial_id, {columns} FROM {table} "  # noqa: S608  (names of Optuna's tables, from below)
            f"JOIN trials ON trials.trial_id = {table}.trial_id WHERE trials.study_id = :study"
        )
        for line, name, value in connection.execute(found, mine):
            yield by_id[line], name, value

    for trial, objective, value in each("trial_values", "objective, value"):
        trial.values[objective] = value
    for trial, step, value in each("trial_intermediate_values", "step, intermediate_value"):
        trial.readings[step] = value
    for trial, name, value in each("trial_params", "param_name, param_value"):
        trial.params[name] = value
    for trial, name, value in each("trial_user_attributes", "key, value_json"):
        try:
            trial.attributes[name] = json.loads(value)
        except (ValueError, TypeError):
            trial.attributes[name] = None
    trials: dict[int, Trial] = {}
    twice = []
    for trial in by_id.values():
        if trial.number in trials:
            twice.append(trial.number)
        trials[trial.number] = trial
    return trials, tuple(twice)


def has_network(trial: Trial) -> bool:
    """Whether a worker had a network for it, so that it has an evaluation."""
    return "key" in trial.attributes or "architecture" in trial.attributes


def rebuilt(trial: Trial) -> Row:
    """The evaluation that Optuna's side tells; without versions, confusion matrix and what a pruner was moved by.

    Raises:
        One of `DAMAGED`: it does not tell all, or contradicts itself.
    """
    attributes, state = trial.attributes, STATES[trial.state]
    architecture = Architecture.from_json(json.loads(attributes["architecture"]))
    if (state == "complete") != bool(trial.values):
        raise ValueError(f"a {state} trial has the values {trial.values}")
    reason = None if state == "complete" else "set aside" if state == "paused" else attributes["reason"]
    killed = state == "failed" and reason in (KILLED, INTERRUPTED)
    readings, losses = sorted(trial.readings.items()), attributes.get(LOSSES)
    if reason == KILLED and losses is None:
        readings, losses = [], []  # they died with the worker
    points = zip(readings, losses or [], strict=True)
    curve = tuple((int(epoch), float(value), float(loss)) for (epoch, value), loss in points)
    cost = attributes["cost"]
    if cost != int(cost):
        raise ValueError(f"cost is {cost}")
    if state == "complete" and trial.values != {0: curve[-1][1], 1: cost}:
        raise ValueError(f"its values are {trial.values}, its last reading {curve[-1][1]} and its cost {cost}")
    started = _utc(trial.started_at)
    finished = started if trial.finished_at is None else _utc(trial.finished_at)
    return Row(
        trial=trial.number,
        key=attributes["key"],
        architecture=architecture,
        state=state,  # type: ignore[arg-type]
        reason=reason,
        val_accuracy=curve[-1][1] if curve else None,
        curve=curve,
        params=attributes["params"],
        macs=attributes["macs"],
        cost=int(cost),
        seconds=float(attributes.get("seconds") or (finished - started).total_seconds()),
        seed=attributes["seed"],
        device=attributes["device"],
        threads=attributes["threads"],
        worker=attributes["worker"],
        started_at=started,
        finished_at=finished,
        killed=killed,
        coordinates={name: float(value) for name, value in trial.params.items()} or None,
    )


def _utc(moment: Any) -> datetime:
    found = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return found.replace(tzinfo=UTC)


def differences(row: Row, trial: Trial) -> list[str]:
    """What the two sides say differently of one trial, such as ``val_accuracy at epoch 3 (0.5, Optuna 0.625)``."""
    said: list[tuple[str, Any, Any]] = [("state", row.state, STATES.get(trial.state, trial.state))]
    given = trial.attributes
    said += [(name, getattr(row, name), given.get(name)) for name in _ATTRIBUTES]
    said.append(("architecture", canonical(row.architecture.to_json()), _again(given.get("architecture"))))
    if "seconds" in given and row.state != "paused":
        said.append(("seconds", row.seconds, given["seconds"]))
    if row.state == "complete":
        said += [("val_accuracy", row.val_accuracy, trial.values.get(0)), ("cost", row.cost, trial.values.get(1))]
    if not (row.killed and not row.curve):  # a killed one's readings are in Optuna alone
        readings = {epoch: accuracy for epoch, accuracy, _ in row.curve}
        theirs = trial.readings
        if row.state == "paused":  # a worker that had taken it up may have died since
            theirs = {epoch: value for epoch, value in theirs.items() if epoch in readings}
        for epoch in sorted(readings.keys() | theirs.keys()):
            said.append((f"accuracy at epoch {epoch}", readings.get(epoch), theirs.get(epoch)))
        if row.state != "paused" and LOSSES in given:
            said.append(("training losses", [loss for _, _, loss in row.curve], given[LOSSES]))
    if row.coordinates is not None:
        said.append(("coordinates", dict(row.coordinates), trial.params))
    return [f"{name} ({_short(ours)}, Optuna {_short(others)})" for name, ours, others in said if ours != others]


def _again(text: Any) -> str:
    try:
        return canonical(json.loads(text))
    except (ValueError, TypeError):
        return "unreadable"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
