"""Every evaluation as a row beside Optuna's tables: what front, show, report and export read, without Optuna.

The tables are named ``nas_*``. `nas_version` holds the number of the layout; Optuna keeps its own elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from nas.architecture import Architecture
from nas.database import engine_options, explained, parse_url, prepare_sqlite, sealed, shown
from nas.errors import ArchitectureError, StudyError

VERSION = 1
"""Layout of the ``nas_*`` tables; a database with a higher number was written by a newer nas and is refused."""

State = Literal["complete", "pruned", "failed"]

_tables = sa.MetaData()
version_table = sa.Table("nas_version", _tables, sa.Column("number", sa.Integer, primary_key=True))
study_table = sa.Table(
    "nas_study",
    _tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(200), nullable=False, unique=True),
    sa.Column("identity", sa.Text, nullable=False),
    sa.Column("settings", sa.Text, nullable=False),
    sa.Column("exhausted", sa.Boolean, nullable=False, default=False),
)
evaluation_table = sa.Table(
    "nas_evaluation",
    _tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study", sa.ForeignKey("nas_study.id"), nullable=False, index=True),
    sa.Column("trial", sa.Integer, nullable=False),
    sa.Column("key", sa.String(64), nullable=False),
    sa.Column("architecture", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("killed", sa.Boolean, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("val_accuracy", sa.Float),
    sa.Column("curve", sa.Text, nullable=False),
    sa.Column("stopped", sa.Text),
    sa.Column("params", sa.BigInteger, nullable=False),
    sa.Column("macs", sa.BigInteger, nullable=False),
    sa.Column("cost", sa.BigInteger, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("device", sa.String(100), nullable=False),
    sa.Column("threads", sa.Integer, nullable=False),
    sa.Column("worker", sa.String(200), nullable=False),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("finished_at", sa.Float, nullable=False),
    sa.UniqueConstraint("study", "trial"),
)
claim_table = sa.Table(
    "nas_claim",
    _tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study", sa.ForeignKey("nas_study.id"), nullable=False, index=True),
    sa.Column("key", sa.String(64)),
    sa.Column("trial", sa.Integer),
    sa.Column("worker", sa.String(200), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.UniqueConstraint("study", "key"),
)
worker_table = sa.Table(
    "nas_worker",
    _tables,
    sa.Column("id", sa.String(200), primary_key=True),
    sa.Column("study", sa.ForeignKey("nas_study.id"), nullable=False, index=True),
    sa.Column("host", sa.String(200), nullable=False),
    sa.Column("lock", sa.Text, nullable=False),
    sa.Column("beat_at", sa.Float, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One evaluation.

    Args:
        trial: Optuna's trial number.
        killed: ended from outside (worker killed, search interrupted), so it says nothing of the network.
        reason: why it failed or was pruned; None for a complete one.
        val_accuracy: the last reading, 0..1; None where none was taken.
        curve: (epoch from 1, validation accuracy 0..1, training loss) of each reading.
        cost: params or macs, as the study searches.
        seconds: wall-clock seconds of the evaluation.
        started_at, finished_at: UTC.
        stopped: for a pruned one its rung, deficit, margin and the trial that dominates it; else None.
    """

    trial: int
    key: str
    architecture: Architecture
    state: State
    reason: str | None
    val_accuracy: float | None
    curve: tuple[tuple[int, float, float], ...]
    params: int
    macs: int
    cost: int
    seconds: float
    seed: int
    device: str
    threads: int
    worker: str
    started_at: datetime
    finished_at: datetime
    killed: bool = False
    stopped: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """What a study is (`identity`, compared on a resume) and how it was first run (`settings`, told, not compared)."""

    id: int
    name: str
    identity: dict[str, Any]
    settings: dict[str, Any]
    exhausted: bool


class Records:
    """The ``nas_*`` tables of one database. Opening it reads nothing and makes nothing; `create` makes the tables.

    Args:
        url: SQLAlchemy URL, for instance ``sqlite:///study.db`` or ``postgresql+psycopg://host/name``.

    Raises:
        StudyError: here and in every method, where the database is out of reach, damaged, read-only or full.
    """

    def __init__(self, url: str) -> None:
        self.url = parse_url(url)
        address = self.url
        if address.get_backend_name() == "sqlite" and address.database and sealed(Path(address.database)):
            # The write-ahead log wants to make files even for a reader; nobody can be writing here.
            address = address.set(database=f"file:{quote(address.database)}", query={"immutable": "1", "uri": "true"})
        with explained(self.url):
            self.engine = sa.create_engine(address, **engine_options(self.url))
        if self.url.get_backend_name() == "sqlite":
            prepare_sqlite(self.engine)

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection to read from; database errors become StudyError."""
        with explained(self.url), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction that holds the database's write lock (SQLite) from its start; committed at the end."""
        with explained(self.url), self.engine.connect() as connection:
            sqlite = connection.dialect.name == "sqlite"
            with connection.begin():
                if sqlite:  # a read that turns into a write could find the lock taken and fail at once
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection

    def create(self) -> None:
        """Make the tables where they are missing, and check the layout's number where they are there."""
        with explained(self.url):
            _tables.create_all(self.engine)
        with self.writing() as connection:
            if connection.execute(sa.select(version_table.c.number)).first() is None:
                connection.execute(version_table.insert().values(number=VERSION))
        self.check_version()

    def check_version(self) -> None:
        """Refuse a database whose layout is newer than this program's."""
        with self.reading() as connection:
            number = connection.execute(sa.select(sa.func.max(version_table.c.number))).scalar()
        if number is None or number > VERSION:
            raise StudyError(f"{shown(self.url)} has records of layout {number}, this nas reads {VERSION}; update nas")

    def add_study(self, name: str, identity: Mapping[str, Any], settings: Mapping[str, Any]) -> StudyRecord:
        """Keep what a new study is; a study of this name that is there already is returned as it stands."""
        with self.writing() as connection:
            there = connection.execute(sa.select(study_table.c.id).where(study_table.c.name == name)).first()
            if there is None:
                values = {"name": name, "identity": _dump(identity), "settings": _dump(settings), "exhausted": False}
                connection.execute(study_table.insert().values(**values))
        return self.study(name)

    def studies(self) -> list[str]:
        """Names of the studies in this database, sorted."""
        with self.reading() as connection:
            return sorted(connection.execute(sa.select(study_table.c.name)).scalars())

    def study(self, name: str) -> StudyRecord:
        """The study of this name.

        Raises:
            StudyError: there is none.
        """
        with self.reading() as connection:
            found = connection.execute(sa.select(study_table).where(study_table.c.name == name)).mappings().first()
        if found is None:
            known = ", ".join(self.studies()) or "none"
            raise StudyError(f"no study {name!r} in {shown(self.url)}: it holds {known}; start one with `nas search`")
        return StudyRecord(
            found["id"], name, json.loads(found["identity"]), json.loads(found["settings"]), found["exhausted"]
        )

    def rows(self, study: str) -> list[Row]:
        """All evaluations of a study in the order of their trials."""
        number = self.study(study).id
        query = sa.select(evaluation_table).where(evaluation_table.c.study == number).order_by(evaluation_table.c.trial)
        with self.reading() as connection:
            found = connection.execute(query).mappings().all()
        try:
            return [_row(row) for row in found]
        except (ArchitectureError, ValueError) as error:
            raise StudyError(f"{shown(self.url)} is damaged ({error}); restore it from a copy") from error

    def complete(self, study: int) -> list[tuple[str, int, float]]:
        """(key, cost, validation accuracy) of the complete evaluations of the study with this number."""
        columns = (evaluation_table.c.key, evaluation_table.c.cost, evaluation_table.c.val_accuracy)
        query = sa.select(*columns).where(evaluation_table.c.study == study, evaluation_table.c.state == "complete")
        with self.reading() as connection:
            return [(str(key), int(cost), float(accuracy)) for key, cost, accuracy in connection.execute(query)]

    def add(self, study: int, row: Row, connection: Connection | None = None) -> None:
        """Write one evaluation, in the caller's transaction where a connection is given."""
        if connection is None:
            with self.writing() as own:
                self.add(study, row, own)
            return
        connection.execute(evaluation_table.insert().values(study=study, **_values(row)))


def _values(row: Row) -> dict[str, Any]:
    return {
        "trial": row.trial,
        "key": row.key,
        "architecture": _dump(row.architecture.to_json()),
        "state": row.state,
        "killed": row.killed,
        "reason": row.reason,
        "val_accuracy": row.val_accuracy,
        "curve": _dump([list(point) for point in row.curve]),
        "stopped": None if row.stopped is None else _dump(row.stopped),
        "params": row.params,
        "macs": row.macs,
        "cost": row.cost,
        "seconds": row.seconds,
        "seed": row.seed,
        "device": row.device,
        "threads": row.threads,
        "worker": row.worker,
        "started_at": row.started_at.timestamp(),
        "finished_at": row.finished_at.timestamp(),
    }


def _row(found: sa.RowMapping) -> Row:
    given = {name: found[name] for name in Row.__dataclass_fields__}
    given["architecture"] = Architecture.from_json(found["architecture"])
    given["curve"] = _curve(json.loads(found["curve"]))
    given["stopped"] = None if found["stopped"] is None else json.loads(found["stopped"])
    for moment in ("started_at", "finished_at"):
        given[moment] = datetime.fromtimestamp(found[moment], UTC)
    return Row(**given)


def _curve(points: Sequence[Sequence[float]]) -> tuple[tuple[int, float, float], ...]:
    return tuple((int(epoch), float(accuracy), float(loss)) for epoch, accuracy, loss in points)


def _dump(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
