"""Every evaluation as a row beside Optuna's tables: what front, show, report and export read, without Optuna.

The tables are named ``nas_*``. `nas_version` holds the number of the layout; Optuna keeps its own elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from nas.architecture import Architecture
from nas.context import Context, canonical
from nas.database import engine_options, explained, parse_url, prepare_sqlite, sealed, shown
from nas.errors import ArchitectureError, StudyError
from nas.migrations import VERSION, bring_up_to_date, check_layout
from nas.outage import repeated
from nas.tables import claim_table, evaluation_table, study_table, version_table, worker_table

__all__ = [
    "VERSION",
    "Point",
    "Records",
    "Row",
    "State",
    "StudyRecord",
    "claim_table",
    "evaluation_table",
    "row_of",
    "study_table",
    "version_table",
    "worker_table",
]

State = Literal["complete", "pruned", "paused", "failed"]
_OBJECTS = ("stopped", "coordinates", "versions")
_MOMENTS = ("started_at", "finished_at")


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
        coordinates: the numbers in 0..1 that were proposed, by their names in the space; None where they are not known.
        versions: of nas, python, torch and so on, while it was trained.
        source: ``STUDY trial N`` where the cache answered and nothing was trained; else None.
        confusion: validation images by true class (rows) and answer (columns) at the last reading of a complete one, in
            the order of the study's classes; None where it was not taken, and where `Records.rows` left it out.
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
    coordinates: Mapping[str, float] | None = None
    versions: Mapping[str, str] | None = None
    source: str | None = None
    confusion: tuple[tuple[int, ...], ...] | None = None


class Point(NamedTuple):
    """One evaluation without its network and curve: see `Row`. A tenth of a row's time to read."""

    trial: int
    state: State
    cost: int
    val_accuracy: float | None


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
        read_only: never write to a SQLite file, not even to tidy it up when the last connection closes.
        wait: seconds, for a SQLite file that another program has locked.

    Raises:
        StudyError: here and in every method, where the database is out of reach, damaged, read-only or full.
    """

    def __init__(self, url: str, *, read_only: bool = False, wait: float = 60) -> None:
        self.url = parse_url(url)
        self._contexts: dict[int, Context] = {}
        address = self.url
        if address.get_backend_name() == "sqlite" and address.database and sealed(Path(address.database)):
            # The write-ahead log wants to make files even for a reader; nobody can be writing here.
            address = address.set(database=f"file:{quote(address.database)}", query={"immutable": "1", "uri": "true"})
        elif address.get_backend_name() == "sqlite" and address.database and read_only:
            address = address.set(database=f"file:{quote(address.database)}", query={"mode": "ro", "uri": "true"})
        with explained(self.url):
            self.engine = sa.create_engine(address, **engine_options(self.url, wait))
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
        """Make the tables where there are none, and bring older ones to this layout: whole, or not at all.

        Raises:
            StudyError: the layout is newer than this program's.
        """
        with self.writing() as connection:
            bring_up_to_date(connection, shown(self.url))

    @repeated
    def check_version(self) -> None:
        """Refuse a database whose layout is newer than this program's."""
        with self.reading() as connection:
            number = connection.execute(sa.select(sa.func.max(version_table.c.number))).scalar()
        check_layout(number, shown(self.url))

    @repeated
    def add_study(self, name: str, identity: Mapping[str, Any], settings: Mapping[str, Any]) -> StudyRecord:
        """Keep what a new study is; a study of this name that is there already is returned as it stands."""
        with self.writing() as connection:
            there = connection.execute(sa.select(study_table.c.id).where(study_table.c.name == name)).first()
            if there is None:
                values = {
                    "name": name,
                    "identity": canonical(identity),
                    "settings": canonical(settings),
                    "exhausted": False,
                }
                connection.execute(study_table.insert().values(**values))
        return self.study(name)

    @repeated
    def keep_setting(self, study: int, name: str, value: Any) -> None:
        """Add one setting to the study with this number, or replace it; `value` is JSON data."""
        mine = study_table.c.id == study
        with self.writing() as connection:
            query = sa.select(study_table.c.settings).where(mine).with_for_update()
            settings = json.loads(connection.execute(query).scalar_one())
            if settings.get(name) != value:
                changed = canonical({**settings, name: value})
                connection.execute(study_table.update().where(mine).values(settings=changed))

    @repeated
    def studies(self) -> list[str]:
        """Names of the studies in this database, sorted."""
        with self.reading() as connection:
            return sorted(connection.execute(sa.select(study_table.c.name)).scalars())

    @repeated
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
        try:
            identity, settings = json.loads(found["identity"]), json.loads(found["settings"])
        except ValueError as error:
            raise StudyError(
                f"{shown(self.url)} is damaged (what study {name!r} is cannot be read: {error}); restore it from a copy"
            ) from error
        return StudyRecord(found["id"], name, identity, settings, found["exhausted"])

    @repeated
    def points(self, study: str) -> list[Point]:
        """All evaluations of a study as points, in the order of their trials."""
        number = self.study(study).id
        columns = [evaluation_table.c[name] for name in Point._fields]
        query = sa.select(*columns).where(evaluation_table.c.study == number).order_by(evaluation_table.c.trial)
        with self.reading() as connection:
            return [Point(*line) for line in connection.execute(query)]

    @repeated
    def rows(self, study: str, trials: Collection[int] | None = None, *, confusions: bool = False) -> list[Row]:
        """The evaluations of a study, all or those of these trials, in the order of their trials.

        Args:
            confusions: with their matrices: of 100 classes these are 10,000 numbers a trial, and few ask for them.
        """
        number = self.study(study).id
        with self.reading() as connection:
            columns = [one for one in _columns(connection) if confusions or one.name != "confusion"]
            query = sa.select(*columns).where(evaluation_table.c.study == number)
            if trials is not None:
                query = query.where(evaluation_table.c.trial.in_(trials))
            found = connection.execute(query.order_by(evaluation_table.c.trial)).mappings().all()
        try:
            return [row_of(row) for row in found]
        except (ArchitectureError, ValueError) as error:
            raise StudyError(f"{shown(self.url)} is damaged ({error}); restore it from a copy") from error

    def row(self, study: int, trial: int, connection: Connection) -> Row | None:
        """The evaluation of one trial of the study with this number, in the caller's transaction."""
        mine = sa.and_(evaluation_table.c.study == study, evaluation_table.c.trial == trial)
        found = connection.execute(sa.select(evaluation_table).where(mine)).mappings().first()
        return None if found is None else row_of(found)

    @repeated
    def complete(self, study: int) -> list[tuple[str, int, float]]:
        """(key, cost, validation accuracy) of the complete evaluations of the study with this number."""
        columns = (evaluation_table.c.key, evaluation_table.c.cost, evaluation_table.c.val_accuracy)
        query = sa.select(*columns).where(evaluation_table.c.study == study, evaluation_table.c.state == "complete")
        with self.reading() as connection:
            return [(str(key), int(cost), float(accuracy)) for key, cost, accuracy in connection.execute(query)]

    def add(self, study: int, row: Row, connection: Connection | None = None) -> None:
        """Write one evaluation, in the caller's transaction where a connection is given.

        Raises:
            sqlalchemy.exc.IntegrityError: its trial has one already.
        """
        if connection is None:
            with self.writing() as own:
                self.add(study, row, own)
            return
        if study not in self._contexts:
            query = sa.select(study_table.c.identity).where(study_table.c.id == study)
            self._contexts[study] = Context.of(json.loads(connection.execute(query).scalar() or "{}"))
        context = self._contexts[study].columns
        connection.execute(evaluation_table.insert().values(study=study, **context, **_values(row)))


def _columns(connection: Connection) -> list[sa.Column[Any]]:
    """The columns of an evaluation that this database has: a reader does not bring older tables up to date."""
    there = {column["name"] for column in sa.inspect(connection).get_columns(evaluation_table.name)}
    return [column for column in evaluation_table.c if column.name in there]


def _values(row: Row) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in Row.__dataclass_fields__}
    values["architecture"] = canonical(row.architecture.to_json())
    values["curve"] = canonical([list(point) for point in row.curve])
    values["confusion"] = None if row.confusion is None else canonical([list(line) for line in row.confusion])
    for name in _OBJECTS:
        values[name] = None if values[name] is None else canonical(dict(values[name]))
    for name in _MOMENTS:
        values[name] = values[name].timestamp()
    return values


def row_of(found: Mapping[Any, Any]) -> Row:
    """The evaluation in a line of the table; columns that an older layout lacks are None.

    Raises:
        ArchitectureError, ValueError: it is damaged.
    """
    given: dict[str, Any] = {name: found.get(name) for name in Row.__dataclass_fields__}
    given["architecture"] = Architecture.from_json(found["architecture"])
    given["curve"] = _curve(json.loads(found["curve"]))
    if given["confusion"] is not None:
        given["confusion"] = tuple(tuple(map(int, line)) for line in json.loads(given["confusion"]))
    for name in _OBJECTS:
        given[name] = None if given[name] is None else json.loads(given[name])
    for name in _MOMENTS:
        given[name] = datetime.fromtimestamp(found[name], UTC)
    return Row(**given)


def _curve(points: Sequence[Sequence[float]]) -> tuple[tuple[int, float, float], ...]:
    return tuple((int(epoch), float(accuracy), float(loss)) for epoch, accuracy, loss in points)
