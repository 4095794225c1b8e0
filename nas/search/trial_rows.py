"""Optuna's tables of trials, read in six queries however many trials are asked for, and written in one transaction.

The tables are Optuna's own description of them, which is not part of its public interface. An `RDBStorage` refuses a
database of another layout, and the tests compare what is read and written here with what it reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

TRIALS: sa.Table = models.TrialModel.__table__
_PARAMS: sa.Table = models.TrialParamModel.__table__
_VALUES: sa.Table = models.TrialValueModel.__table__
_READINGS: sa.Table = models.TrialIntermediateValueModel.__table__
_USER: sa.Table = models.TrialUserAttributeModel.__table__
_SYSTEM: sa.Table = models.TrialSystemAttributeModel.__table__
_Reading = models.TrialIntermediateValueModel

AT_ONCE = 500
"""Trials that one query asks for, at most: databases limit a statement's parameters."""


def read_trials(connection: Connection, ids: Sequence[int]) -> list[FrozenTrial]:
    """Trials by their ids, in that order, equal to what Optuna reads; those that are not there are left out."""
    found: list[FrozenTrial] = []
    for first in range(0, len(ids), AT_ONCE):
        found += _read(connection, ids[first : first + AT_ONCE])
    return found


def _read(connection: Connection, ids: Sequence[int]) -> list[FrozenTrial]:
    # The states first: a trial that has ended by then does not change any more.
    trials = {line.trial_id: line for line in _lines(connection, TRIALS, "trial_id", ids)}
    params = _by_trial(connection, _PARAMS, "param_id", ids)
    values = _by_trial(connection, _VALUES, "objective", ids)
    readings = _by_trial(connection, _READINGS, "trial_intermediate_value_id", ids)
    user = _by_trial(connection, _USER, "trial_user_attribute_id", ids)
    system = _by_trial(connection, _SYSTEM, "trial_system_attribute_id", ids)
    return [
        FrozenTrial(
            number=line.number,
            state=line.state,
            value=None,
            values=[_value(one) for one in values[number]] if number in values else None,
            datetime_start=_here(line.datetime_start),
            datetime_complete=_here(line.datetime_complete),
            params={
                one.param_name: _kind(one.distribution_json).to_external_repr(one.param_value)
                for one in params.get(number, ())
            },
            distributions={one.param_name: _kind(one.distribution_json) for one in params.get(number, ())},
            user_attrs={one.key: json.loads(one.value_json) for one in user.get(number, ())},
            system_attrs={one.key: json.loads(one.value_json) for one in system.get(number, ())},
            intermediate_values={one.step: _reading(one) for one in readings.get(number, ())},
            trial_id=number,
        )
        for number in ids
        if (line := trials.get(number)) is not None
    ]


def _lines(connection: Connection, table: sa.Table, order: str, ids: Sequence[int]) -> sa.CursorResult[Any]:
    # One is the usual case, and a list is written into its statement anew each time.
    mine = table.c.trial_id == ids[0] if len(ids) == 1 else table.c.trial_id.in_(ids)
    return connection.execute(sa.select(table).where(mine).order_by(table.c[order]))


def _by_trial(connection: Connection, table: sa.Table, order: str, ids: Sequence[int]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for line in _lines(connection, table, order, ids):
        found.setdefault(line.trial_id, []).append(line)
    return found


@lru_cache(maxsize=1024)
def _kind(text: str) -> BaseDistribution:
    return json_to_distribution(text)


def _value(line: Any) -> float:
    return float(models.TrialValueModel.stored_repr_to_value(line.value, line.value_type))


def _reading(line: Any) -> float:
    return float(_Reading.stored_repr_to_intermediate_value(line.intermediate_value, line.intermediate_value_type))


def _here(moment: datetime | None) -> datetime | None:
    """Optuna keeps the universal time, and gives trials the local one; neither says so."""
    return None if moment is None else moment.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)


class TrialWriter:
    """What is to be written to one unfinished trial: each part as Optuna writes it, all of them in one transaction.

    Args:
        params: (value as Optuna stores it, distribution) by name; a name that the trial has already is left as it is.
        readings: finite values by step.
        user, system: attributes as JSON text.
    """

    def __init__(self) -> None:
        self.params: dict[str, tuple[float, BaseDistribution]] = {}
        self.readings: dict[int, float] = {}
        self.user: dict[str, str] = {}
        self.system: dict[str, str] = {}

    def write(self, connection: Connection, trial_id: int) -> TrialState | None:
        """Write, unless the trial has ended; its state, None where there is no such trial.

        Args:
            connection: of Optuna's database, no transaction begun; it is committed here.
        """
        if connection.dialect.name == "sqlite":  # a read that turns into a write could find the lock taken
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        query = sa.select(TRIALS.c.state).where(TRIALS.c.trial_id == trial_id)
        state: TrialState | None = connection.execute(query.with_for_update(read=True)).scalar()
        if state is not None and not state.is_finished():
            for statement, lines in self._statements(connection.dialect.name, trial_id):
                if lines:
                    connection.execute(statement, lines)
        connection.commit()
        return state

    def _statements(self, dialect: str, trial_id: int) -> Iterable[tuple[sa.Executable, list[Mapping[str, Any]]]]:
        write = _WRITE[dialect]
        yield (
            write["params"],
            [
                {
                    "trial_id": trial_id,
                    "param_name": name,
                    "param_value": value,
                    "distribution_json": distribution_to_json(kind),
                }
                for name, (value, kind) in self.params.items()
            ],
        )
        yield (
            write["readings"],
            [
                {
                    "trial_id": trial_id,
                    "step": step,
                    "intermediate_value": value,
                    "intermediate_value_type": _Reading.TrialIntermediateValueType.FINITE,
                }
                for step, value in self.readings.items()
            ],
        )
        for name, attributes in (("user", self.user), ("system", self.system)):
            yield (
                write[name],
                [{"trial_id": trial_id, "key": key, "value_json": text} for key, text in attributes.items()],
            )


def _writes(insert: Any) -> dict[str, sa.Executable]:
    def replacing(table: sa.Table, unique: str, columns: Sequence[str]) -> sa.Executable:
        made = insert(table)
        changed: sa.Executable = made.on_conflict_do_update(
            index_elements=["trial_id", unique], set_={column: made.excluded[column] for column in columns}
        )
        return changed

    return {
        "params": insert(_PARAMS).on_conflict_do_nothing(index_elements=["trial_id", "param_name"]),
        "readings": replacing(_READINGS, "step", ["intermediate_value", "intermediate_value_type"]),
        "user": replacing(_USER, "key", ["value_json"]),
        "system": replacing(_SYSTEM, "key", ["value_json"]),
    }


_WRITE = {"sqlite": _writes(sqlite.insert), "postgresql": _writes(postgresql.insert)}
