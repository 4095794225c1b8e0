"""A study in its database: Optuna's side and the records', made together, and what it is compared on a resume."""

from __future__ import annotations

import fcntl
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection

from nas.database import check_sqlite, engine_options, explained, parse_url, prepare_sqlite, shown
from nas.errors import StudyError
from nas.metric import metric_of
from nas.outage import repeated
from nas.records import Records, StudyRecord, claim_table, evaluation_table
from nas.search.optuna_tables import OptunaTables
from nas.search.storage import SearchStorage
from nas.search.worker_storage import WorkerStorage

MAKING = 0x6E6173
"""Number of PostgreSQL's advisory lock under which tables and studies are made."""
MADE_BETWEEN = 20
"""So often another program may make one of Optuna's tables while they are being made here."""

DIRECTIONS = (StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE)


@dataclass(frozen=True, slots=True)
class OpenStudy:
    """A study as both sides of its database know it."""

    study: optuna.Study
    storage: BaseStorage
    records: Records
    record: StudyRecord

    def set_attr(self, trial: int, name: str, value: Any) -> None:
        """Set a user attribute of a trial by its number; UpdateFinishedTrialError where it has ended."""
        number = self.storage.get_study_id_from_name(self.study.study_name)
        self.storage.set_trial_user_attr(
            self.storage.get_trial_id_from_study_id_trial_number(number, trial), name, value
        )


@repeated
def create_study(url: str, name: str, identity: Mapping[str, Any], settings: Mapping[str, Any]) -> OpenStudy:
    """Open the study of this name, or make it where there is none; what was made before is found there.

    Args:
        url: SQLAlchemy URL; a SQLite file's folder is made where missing.
        name: the study's name in the database.
        identity: what the study is (JSON data): a study that is there already must be the same.
        settings: how it was first run; kept when it is made, not compared.

    Raises:
        StudyError: the database is out of reach or damaged; the study was made from another identity (the first
            difference is named, both values); the file is Optuna's but not ours.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        path = Path(parsed.database)
        if path.exists():
            check_sqlite(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StudyError(
                f"{path.parent} cannot be made ({error.strerror}); choose another --studies-dir"
            ) from error
    records = Records(url)
    with _one_at_a_time(records):
        _refuse_foreign(url, name)
        records.create()
        record = records.add_study(name, identity, settings)
        storage = _storage(url, records, record, WorkerStorage)
        _compare(name, record.identity, identity)
        with optuna_explained(url):
            if name not in optuna.get_all_study_names(storage):
                make_optuna_study(storage, name, identity)
            study = optuna.load_study(study_name=name, storage=storage)
    return OpenStudy(study, storage, records, record)


def make_optuna_study(storage: BaseStorage, name: str, identity: Mapping[str, Any]) -> optuna.Study:
    """Optuna's side of a new study."""
    study = optuna.create_study(study_name=name, storage=storage, directions=DIRECTIONS)
    with warnings.catch_warnings():  # the names are a convenience; if they go, the axes lose their labels
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([_metric_name(identity), str(identity["space"]["cost"])])
    return study


@repeated
def open_study(url: str, name: str) -> OpenStudy:
    """Open a study that is there.

    Raises:
        StudyError: it is not there, or the database is out of reach or damaged.
    """
    records = Records(url)
    records.check_version()
    record = records.study(name)
    storage = _storage(url, records, record, SearchStorage)
    with optuna_explained(url):
        study = optuna.load_study(study_name=name, storage=storage)
    return OpenStudy(study, storage, records, record)


def trials_done(url: str, name: str, identity: Mapping[str, Any]) -> int:
    """Complete and pruned trials of the study of this name; 0 where there is none. Nothing is made or changed.

    Raises:
        StudyError: as for `create_study`.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        if not Path(parsed.database).exists():
            return 0
        check_sqlite(Path(parsed.database))
    _refuse_foreign(url, name)
    records = Records(url)
    try:
        with records.reading():
            tables = sa.inspect(records.engine).get_table_names()
        if "nas_study" not in tables:
            return 0
        records.check_version()
        if name not in records.studies():
            return 0
        _compare(name, records.study(name).identity, identity)
        return sum(row.state in ("complete", "pruned") for row in records.rows(name))
    finally:
        records.close()


@contextmanager
def optuna_explained(url: str) -> Iterator[None]:
    """`explained`, for Optuna's own reading and writing, which wraps the database's errors in one of its own."""
    with explained(parse_url(url)):
        try:
            yield
        except optuna.exceptions.StorageInternalError as error:
            if isinstance(error.__cause__, sa.exc.DBAPIError):
                raise error.__cause__ from error
            raise


def _refuse_foreign(url: str, name: str) -> None:
    """Leave a database alone that holds a study of this name which nas did not make.

    Raises:
        StudyError: it does.
    """
    parsed = parse_url(url)
    engine = sa.create_engine(parsed, **engine_options(parsed))
    try:
        with explained(parsed), engine.connect() as connection:
            tables = set(sa.inspect(connection).get_table_names())
            found = [
                table in tables
                and connection.execute(
                    sa.text(f"SELECT 1 FROM {table} WHERE {column} = :name"),  # noqa: S608  (both are ours)
                    {"name": name},
                ).first()
                is not None
                for table, column in (("studies", "study_name"), ("nas_study", "name"))
            ]
    finally:
        engine.dispose()
    if found == [True, False]:
        raise StudyError(f"study {name!r} in {shown(parsed)} was not made by nas: choose another --study")


@contextmanager
def _one_at_a_time(records: Records) -> Iterator[None]:
    """Two commands that make the same tables at once would both find them missing; the second waits here."""
    if records.url.get_backend_name() == "postgresql":
        with records.reading() as connection:  # the lock ends with the connection, whatever happens
            connection.execute(sa.select(sa.func.pg_advisory_lock(MAKING)))
            try:
                yield
            finally:
                connection.execute(sa.select(sa.func.pg_advisory_unlock(MAKING)))
        return
    folder = os.open(Path(records.url.database or ".").parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _storage(url: str, records: Records, record: StudyRecord, kind: type[SearchStorage]) -> BaseStorage:
    return kind(rdb_storage(url), partial(set_aside, records, record.id))


@repeated
def set_aside(records: Records, study: int) -> Mapping[int, object]:
    """When each paused trial was set aside, by number; a trial that is taken up again is not among them."""
    row, claim = evaluation_table.c, claim_table.c
    both = sa.and_(claim.study == row.study, claim.trial == row.trial)
    query = sa.select(row.trial, row.finished_at).join(claim_table, both)
    with records.reading() as connection:
        found = connection.execute(query.where(row.study == study, row.state == "paused", claim.state == "paused"))
        return {int(trial): moment for trial, moment in found}


def rdb_storage(url: str) -> RDBStorage:
    """Optuna's tables of a database, made where missing, without the cache that Optuna wraps around them."""
    parsed = parse_url(url)
    with optuna_explained(url):
        try:
            storage = _with_tables(url, engine_options(parsed))
        except RuntimeError as error:  # its word for tables of another version of itself
            raise StudyError(f"{shown(parsed)}: {' '.join(str(error).split())}") from error
        if parsed.get_backend_name() == "sqlite":
            # Readers and one writer at once; kept in the file, so it is set once by whoever comes first.
            with storage.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            prepare_sqlite(storage.engine)
    return storage


def _with_tables(url: str, options: dict[str, Any]) -> RDBStorage:
    """Optuna looks for its tables and then makes them, heedless of other programs.

    Those that do not know of our lock, such as a dashboard that is opened at this moment, may make one in between. Each
    time fewer are missing.
    """
    for _ in range(MADE_BETWEEN):
        try:
            return OptunaTables(url, engine_kwargs=options)
        except (sa.exc.OperationalError, sa.exc.ProgrammingError, sa.exc.IntegrityError) as error:
            if not isinstance(error, sa.exc.IntegrityError) and "already exists" not in str(error):
                raise
    return OptunaTables(url, engine_kwargs=options)


def _metric_name(identity: Mapping[str, Any]) -> str:
    """Of objective 0 in optuna-dashboard."""
    return "val_" + metric_of(identity).replace("-", "_")


def _compare(name: str, made: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    before, now = (dict(_flat({**identity, "metric": metric_of(identity)})) for identity in (made, asked))
    # The shallow first: another cost changes the budget as well, and the cost is what the user said.
    for path in sorted(before.keys() | now.keys(), key=lambda path: (path.count("."), path)):
        if before.get(path) != now.get(path):
            raise StudyError(
                f"study {name!r} was made with {path} = {before.get(path)!r}, this command says {now.get(path)!r}: "
                "repeat the first command's options to go on, or give --study another name"
            )


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested JSON with dotted names, so that the first difference can be named."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _flat(inner, f"{path}[{number}]")
    else:
        yield path, value
