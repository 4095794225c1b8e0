"""Whole studies: which there are, one copied under another name, one removed. Without Optuna."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from nas import pareto
from nas.context import canonical
from nas.database import explained, parse_url
from nas.errors import StudyError
from nas.files import OF_ONE_FOLDER, WANTED, Files
from nas.records import Records, State
from nas.search.liveness import is_locked, workers
from nas.study_folder import StudyFolder, aside
from nas.tables import evaluation_table, study_table, test_reading_table, worker_table

WAIT = 2.0
"""Seconds that a locked database is waited for; a search's own writes take milliseconds."""
NOT_COPIED = ("report.html", "workers", "refine.lock", "folder.id")
"""Of a study's folder: the page names the study, locks are those of living processes, and the mark is its own."""


@dataclass(frozen=True)
class Listed:
    """A study as its folder, or its line in a database, shows it.

    Args:
        problem: why nothing more is known than size and change; None where all is.
        states: evaluations by how they ended.
        front: networks on it.
        best: highest value of the metric among the complete, 0..1; None of none.
        cost: ``params`` or ``macs``.
        dataset: as `nas search` was told.
        readings: of its networks on the test images.
        workers: that live.
        size: bytes on disk, links not followed; None without a folder.
        files: URL where its files are as well; None of none.
        changed: the newest file's time, or the last evaluation's where the database is elsewhere; None of none.
    """

    name: str
    problem: str | None = None
    states: Mapping[State, int] = field(default_factory=dict)
    front: int = 0
    best: float | None = None
    cost: str | None = None
    dataset: str | None = None
    metric: str | None = None
    readings: int = 0
    workers: int = 0
    size: int | None = None
    files: str | None = None
    changed: datetime | None = None


def studies_in(studies_dir: Path) -> list[Listed]:
    """The folders with a database, by name; one that is damaged, locked or not of nas with its problem.

    Raises:
        StudyError: there is no such folder.
        OSError: it cannot be read.
    """
    if not studies_dir.exists():
        raise StudyError(f"no folder {str(studies_dir)!r}: check --studies-dir, or start a study with `nas search`")
    names = sorted(path.parent.name for path in studies_dir.glob("*/study.db"))
    return [look(StudyFolder(studies_dir, name)) for name in names if _is_name(studies_dir, name)]


def studies_at(url: str, studies_dir: Path) -> list[Listed]:
    """The studies of one database, by name.

    Raises:
        StudyError: it is out of reach, damaged, of a newer nas, or has no records.
    """
    with closing(Records(url, read_only=True)) as records:
        records.check_version()
        listed = []
        for name in records.studies():
            size, _ = _disk(studies_dir / name) if _is_name(studies_dir, name) else (None, None)
            listed.append(_listed(records, name, size=size, changed=_last(records, name)))
    return listed


def look(folder: StudyFolder) -> Listed:
    """What is known of the study in a folder."""
    size, changed = _disk(folder.path)
    try:
        with _opened(folder) as records:
            return _listed(records, folder.name, size=size, changed=changed)
    except StudyError as error:
        problem = str(error)
    except (ValueError, KeyError) as error:
        problem = f"{folder.database} is damaged ({error}); restore it from a copy"
    return Listed(folder.name, problem=problem, size=size, changed=changed)


def copy(source: StudyFolder, target: StudyFolder) -> None:
    """Make a study of another name with all that this one has, whole or not at all.

    A search that runs on it goes on undisturbed; of its running trials the copy's next search makes an end, as of those
    of a killed one.

    Args:
        target: nothing may be there.

    Raises:
        StudyError: something is there; the database is damaged, locked, or does not hold the study.
        OSError: a folder cannot be written, or the disk is full.
    """
    _refuse_existing(target)
    with _opened(source) as records, aside(target, "copied") as place:
        made = StudyFolder(place, target.name)
        made.path.mkdir()
        files = Files(source, records.study(source.name).settings)
        for part in WANTED:  # the copy has a folder of its own, and no URL
            for name in sorted(files.names(part)):
                files.fetch(source.path / part / name)
        _copy_files(source.path, made.path)
        _copy_database(records, source, made)
        _copy_files(source.path, made.path)  # what a running search wrote between the two
        _refuse_existing(target)
        made.path.rename(target.path)


def users(folder: StudyFolder) -> str | None:
    """Who works on the study, for a person; None where nobody does.

    Raises:
        StudyError: the database is locked, so that somebody may.
    """
    trains = trainer(folder)
    if trains is not None:
        return trains
    found = sum(is_locked(path) for path in folder.workers.glob("*.lock"))
    try:
        with _opened(folder) as records:
            for name in records.studies():
                found = max(found, sum(one.is_alive() for one in workers(records, records.study(name).id)))
    except StudyError as error:
        if _is_lock(error):
            raise
    return f"a search with {found} worker{'s' * (found != 1)}" if found else None


def trainer(folder: StudyFolder) -> str | None:
    """The command, no search, that trains networks of the study here; None where there is none."""
    if is_locked(folder.path / "refine.lock"):
        return "nas refine or nas baselines line"
    if any(is_locked(path) for path in (folder.path / "baselines").glob("*.lock")):
        return "nas baselines train"
    return None


def delete(folder: StudyFolder) -> None:
    """Remove a study's folder whole; of a link the link alone.

    Raises:
        StudyError: somebody works on it.
        OSError: it may not be removed.
    """
    who = users(folder)
    if who is not None:
        raise StudyError(f"study {folder.name!r} is in use: {who} runs on it; wait for its end, or stop it")
    if folder.path.is_symlink():
        folder.path.unlink()
        return
    with aside(folder, "deleted") as place:
        folder.path.rename(place / folder.name)  # from here on nobody finds it, whole or in parts
        shutil.rmtree(place / folder.name)


@contextmanager
def _opened(folder: StudyFolder) -> Iterator[Records]:
    """The folder's records, read only, that hold its study."""
    with closing(Records(folder.url, read_only=True, wait=WAIT)) as records:
        records.check_version()
        held = records.studies()
        if folder.name not in held:
            names = " and ".join(map(repr, held)) or "no study"
            raise StudyError(f"{folder.database} holds {names}, not {folder.name!r}: was its folder renamed?")
        yield records


def _listed(records: Records, name: str, *, size: int | None, changed: datetime | None) -> Listed:
    record, points = records.study(name), records.points(name)
    complete = [point for point in points if point.state == "complete"]
    accuracies = [float("nan") if point.val_accuracy is None else point.val_accuracy for point in complete]
    with records.reading() as connection:
        readings = 0
        if sa.inspect(connection).has_table(test_reading_table.name):
            mine = test_reading_table.c.study == record.id
            readings = connection.execute(sa.select(sa.func.count()).where(mine)).scalar_one()
    return Listed(
        name,
        states=Counter(point.state for point in points),
        front=len(pareto.front([point.cost for point in complete], accuracies)),
        best=max(accuracies, default=None),
        cost=record.settings.get("cost"),
        dataset=record.settings.get("dataset"),
        metric=record.settings.get("metric", "accuracy"),
        files=record.settings.get("files"),
        readings=readings,
        workers=sum(worker.is_alive() for worker in workers(records, record.id)),
        size=size,
        changed=changed,
    )


def _last(records: Records, name: str) -> datetime | None:
    mine = evaluation_table.c.study == records.study(name).id
    with records.reading() as connection:
        last = connection.execute(sa.select(sa.func.max(evaluation_table.c.finished_at)).where(mine)).scalar()
    return None if last is None else datetime.fromtimestamp(last, UTC)


def _is_name(studies_dir: Path, name: str) -> bool:
    try:
        StudyFolder(studies_dir, name)
    except StudyError:
        return False
    return True


def _disk(path: Path) -> tuple[int | None, datetime | None]:
    """Bytes of all files and the newest one's time, UTC; what vanishes or may not be read is left out."""
    if not path.is_dir():
        return None, None
    size, newest = 0, 0.0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                found = os.lstat(os.path.join(folder, name))
                size += found.st_size
                by_a_reader = name.endswith("-shm") or (name.endswith("-wal") and not found.st_size)
                if not by_a_reader:
                    newest = max(newest, found.st_mtime)
    return size, datetime.fromtimestamp(newest, UTC) if newest else None


def _is_lock(error: StudyError) -> bool:
    cause = error.__cause__
    said = getattr(cause.orig, "sqlite_errorname", "") if isinstance(cause, sa.exc.DBAPIError) else ""
    return said.startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def _refuse_existing(folder: StudyFolder) -> None:
    if os.path.lexists(folder.path):
        raise StudyError(f"{str(folder.path)!r} is there already and is left alone: choose another name")


def _copy_files(source: Path, target: Path, left_out: tuple[str, ...] = NOT_COPIED) -> None:
    """All but the database, `left_out` and hidden files, which are being written; what is there unchanged stays."""
    for path in sorted(source.iterdir()):
        to = target / path.name
        if path.name.startswith((".", "study.db")) or path.name in left_out:
            continue
        try:
            if path.is_dir() and not path.is_symlink():
                to.mkdir(exist_ok=True)
                _copy_files(path, to, ())
            elif not os.path.lexists(to) or os.lstat(to).st_mtime_ns != os.lstat(path).st_mtime_ns:
                to.unlink(missing_ok=True)
                shutil.copy2(path, to, follow_symlinks=False)
        except FileNotFoundError:  # a search removes the weights of what has left its front
            continue


def _copy_database(records: Records, source: StudyFolder, made: StudyFolder) -> None:
    """SQLite's online backup, which takes the write-ahead log of a running search in, renamed in both halves."""
    with records.reading() as connection, closing(sqlite3.connect(made.database)) as copied:
        connection.exec_driver_sql("BEGIN")
        # A lock is met here, within `WAIT`; the backup would wait for ever.
        connection.execute(sa.select(sa.func.count()).select_from(study_table)).scalar()
        driver = connection.connection.driver_connection
        if not isinstance(driver, sqlite3.Connection):
            raise TypeError(f"a folder's database is SQLite, not {driver!r}")
        try:
            driver.backup(copied)
        except sqlite3.Error as error:
            raise StudyError(f"{source.database} cannot be copied ({error}); is the disk full, or damaged?") from error
    with closing(Records(made.url)) as records, explained(parse_url(source.url)), records.engine.begin() as connection:
        said = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        if said != "ok":
            raise StudyError(f"{source.database} is damaged ({said}); restore it from a copy")
        names = {"old": source.name, "new": made.name}
        try:
            connection.execute(sa.text("UPDATE nas_study SET name = :new WHERE name = :old"), names)
            if sa.inspect(connection).has_table("studies"):
                connection.execute(sa.text("UPDATE studies SET study_name = :new WHERE study_name = :old"), names)
        except sa.exc.IntegrityError as error:
            raise StudyError(
                f"{source.database} holds a study {made.name!r} beside {source.name!r}: choose another name"
            ) from error
        connection.execute(worker_table.delete())  # they work on the other one
        for number, settings in connection.execute(sa.select(study_table.c.id, study_table.c.settings)).all():
            own = {name: value for name, value in json.loads(settings).items() if name not in OF_ONE_FOLDER}
            mine = study_table.update().where(study_table.c.id == number)
            connection.execute(mine.values(settings=canonical(own)))
