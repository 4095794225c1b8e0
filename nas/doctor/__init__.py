"""What of a study is whole: its database, each evaluation against Optuna's trial, its places and its files.

Looking changes nothing. What can be repaired is repaired after a copy of the database was made.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy as sa

from nas.database import parse_url, shown
from nas.doctor import files, sqlite_file
from nas.doctor.findings import Finding, Problem
from nas.doctor.sides import DAMAGED
from nas.doctor.trials import Trials
from nas.errors import StudyError
from nas.records import VERSION, Records, version_table
from nas.search.liveness import is_locked
from nas.studies import trainer
from nas.study_folder import StudyFolder, aside

PASSES = 8
"""So often what is wrong is mended and looked at again: mending one thing may bring another to light."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair did.

    Args:
        backup: a copy of the database as it was; None where nothing was to be done, or the user has one.
        done: one line a repair.
        findings: what is so afterwards.
    """

    backup: Path | None
    done: tuple[str, ...]
    findings: tuple[Finding, ...]


def examine(folder: StudyFolder, url: str) -> tuple[Finding, ...]:
    """Look a study over; nothing is changed. Beside a living search what is only under way is not taken for wrong.

    Args:
        folder: the study's, where its files lie.
        url: of its database.

    Raises:
        StudyError: the database is out of reach, or has no study of this name.
    """
    found, busy = _look(folder, url)
    if busy and any(finding.problems for finding in found):
        # Files are looked at after the database; what is wrong both times was not just being written.
        before = {problem.words for finding in found for problem in finding.problems}
        again, _ = _look(folder, url)
        found = tuple(
            replace(one, problems=tuple(problem for problem in one.problems if problem.words in before))
            for one in again
        )
    return found


def repair(folder: StudyFolder, url: str, *, backed_up: bool = False) -> Repaired:
    """Mend what can be mended, after a copy of the database.

    Args:
        folder, url: as for `examine`.
        backed_up: the user has a copy, which there has to be of a database on a server.

    Raises:
        StudyError: workers of the study live, or its networks are refined or known ones trained beside it; the database
            is on a server and there is no copy; another repair is at work; and as for `examine`.
        OSError: the disk is full or refuses.
    """
    address = parse_url(url)
    path = Path(address.database or "") if address.get_backend_name() == "sqlite" else None
    with aside(folder, "repaired"):
        trains = trainer(folder)
        if trains is not None:
            raise StudyError(
                f"study {folder.name!r} is in use: {trains} runs on it; wait for its end, or stop it, then repair"
            )
        found, busy = _look(folder, url)
        if busy:
            raise StudyError(
                f"study {folder.name!r} is being searched by {', '.join(sorted(busy))}: stop that search, then repair"
            )
        if not any(problem.mend for finding in found for problem in finding.problems):
            return Repaired(None, (), found)
        if path is None and not backed_up:
            raise StudyError(
                f"{shown(address)} is on a server: copy it with pg_dump first, then give --repair --backed-up"
            )
        copy = None if path is None else sqlite_file.back_up(path)
        done: list[str] = []
        for _ in range(PASSES):
            mends = _mends(found)
            if not mends:
                break
            done += [mend() for mend in mends]
            found, _ = _look(folder, url)
    return Repaired(copy, tuple(done), found)


def _mends(found: tuple[Finding, ...]) -> list[Callable[[], str]]:
    """Of the first kind of thing that is wrong: what comes after it may be wrong only because of that."""
    for finding in found:
        # Several problems may have one mend.
        mends = list(dict.fromkeys(problem.mend for problem in finding.problems if problem.mend is not None))
        if mends:
            return mends
    return []


def _look(folder: StudyFolder, url: str) -> tuple[tuple[Finding, ...], set[str]]:
    """What is so, and which workers live."""
    address = parse_url(url)
    found = []
    if address.get_backend_name() == "sqlite":
        found.append(sqlite_file.look_over(Path(address.database or "")))
        if found[0].problems:  # who lives is not to be read then
            return tuple(found), {path.stem for path in folder.workers.glob("*.lock") if is_locked(path)}
    else:
        found.append(Finding("database", f"{shown(address)}, whose pages its server looks after"))
    with closing(Records(url)) as records:
        records.check_version()
        try:
            trials = Trials.of(records, url, folder.name)
        except KeyError:
            known = ", ".join(records.studies()) or "none"
            raise StudyError(f"no study {folder.name!r} in {shown(address)}: it holds {known}") from None
        except DAMAGED as error:
            said = f"what the study is cannot be read ({error}); restore the database from a copy"
            return (*found, Finding("study", "its identity and settings", (Problem(said),))), set()
        found.append(_layout(records))
        found += trials.look_over()
        found += files.look_over(folder, records, trials.sides)
        return tuple(found), trials.living()


def _layout(records: Records) -> Finding:
    with records.reading() as connection:
        number = connection.execute(sa.select(sa.func.max(version_table.c.number))).scalar()
    notes = () if number == VERSION else (f"layout {number} of the records; the next search brings it to {VERSION}",)
    return Finding("layout", f"{number}, this nas writes {VERSION}", (), notes)
