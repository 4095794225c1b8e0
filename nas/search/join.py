"""A study that another command made, for workers that join it: found, or waited for."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from nas.database import masked, parse_url, shown
from nas.errors import StudyError, choices
from nas.records import Records, StudyRecord
from nas.study_folder import StudyFolder

LOOK = 1.0
"""Seconds between two looks for a study that is not there yet."""


def find(folder: StudyFolder, storage: str | None, *, wait: float, say: Callable[[str], None]) -> StudyRecord:
    """The study of a folder's name; nothing is made.

    Args:
        storage: SQLAlchemy URL; None is SQLite in the study's folder.
        wait: seconds to wait for it, at least 0: tasks of a job begin at once, and one of them makes the study. Also a
            database that is out of reach is waited for.
        say: takes a line, where it waits.

    Raises:
        StudyError: it is not there, or its database is out of reach, in all that time.
    """
    end, waiting = time.monotonic() + wait, False
    while True:
        try:
            found, known = _look(folder, storage)
            if found is not None:
                return found
            raise _missing(folder, storage, known)
        except StudyError as error:
            left = end - time.monotonic()
            if left <= 0:
                raise
            if not waiting:
                say(f"Waiting up to {wait:.0f} s: {str(error).partition(';')[0]}.")
                waiting = True
            time.sleep(min(LOOK, left))


def recorded(folder: StudyFolder, storage: str | None) -> StudyRecord | None:
    """The study of a folder's name; None where it has not been made. Nothing is made or changed.

    Raises:
        StudyError: its database is out of reach, damaged, or of a newer nas.
    """
    return _look(folder, storage)[0]


def done(folder: StudyFolder, storage: str | None) -> int:
    """Trials of a study that are complete or pruned.

    Raises:
        StudyError: as for `recorded`, or it is not there.
    """
    with closing(Records(storage or folder.url, read_only=True)) as records:
        return sum(point.state in ("complete", "pruned") for point in records.points(folder.name))


def _look(folder: StudyFolder, storage: str | None) -> tuple[StudyRecord | None, list[str]]:
    """The study, and the names of those that are there."""
    url = parse_url(storage or folder.url)
    # Opening a SQLite file that is not there would make an empty one.
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        return None, sorted(path.parent.name for path in folder.studies_dir.glob("*/study.db") if storage is None)
    with closing(Records(storage or folder.url, read_only=True)) as records:
        with records.reading() as connection:
            if not sa.inspect(connection).has_table("nas_study"):
                return None, []
        records.check_version()
        names = records.studies()
        return records.study(folder.name) if folder.name in names else None, names


def _missing(folder: StudyFolder, storage: str | None, known: list[str]) -> StudyError:
    where, place = str(folder.studies_dir), f"--studies-dir {shlex.quote(str(folder.studies_dir))}"
    if storage is not None:
        url = parse_url(storage)
        where, place = shown(url), f"--storage {shlex.quote(masked(url))}"
    missing = choices("study", folder.name, known) if known else f"no study {folder.name!r}"
    return StudyError(
        f"{missing} (in {where}); make it with `nas search --study {shlex.quote(folder.name)} {place}`, or give "
        "--wait SECONDS where another task makes it"
    )


def keep_total(folder: StudyFolder, storage: str | None, trials: int) -> None:
    """Put on record that the study is to have so many trials, for `nas status` and workers that come later."""
    with closing(Records(storage or folder.url)) as records:
        records.keep_setting(records.study(folder.name).id, "trials", trials)
