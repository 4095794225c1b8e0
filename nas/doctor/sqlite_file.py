"""A study's SQLite file: whether it is whole, a copy of it, and what can be read of a damaged one in a new file."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from nas.database import sqlite_url
from nas.doctor.findings import Finding, Problem
from nas.errors import StudyError, written
from nas.records import Records
from nas.search.study import rdb_storage

UNREADABLE = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What reading a damaged file raises; the second where the name of a column is no text."""
_MAGIC = b"SQLite format 3\x00"
_MADE = ("alembic_version", "version_info", "nas_version", "sqlite_sequence")
"""Tables that say of which layout the others are: a new file has its own."""
_MISSED = 5_000
"""After so many line numbers in a row without a line nothing more is looked for in a table."""
_SHOWN = 3
_LONGEST = 10**11
"""Bytes up to which a length in a header is believed."""


def look_over(path: Path) -> Finding:
    """SQLite's own full check, of pages, indexes and references; and that the file can be opened at all."""
    problems: list[Problem] = []
    try:
        with closing(_opened(path)) as connection:
            said = [str(line) for (line,) in connection.execute("PRAGMA integrity_check(100)")]
            found = [] if said == ["ok"] else said
            lost = connection.execute("PRAGMA foreign_key_check").fetchall()
            spoilt = [] if found else _spoilt_text(connection)
    except UNREADABLE as error:
        found, lost, spoilt = [str(error)], [], []
    if found or lost:
        many = f", and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        words = "; ".join(" ".join(line.split()) for line in found[:_SHOWN]) + many
        if not found:
            words = f"{len(lost)} lines refer to lines that are gone, first in {lost[0][0]}"
        problems.append(Problem(f"{path} is damaged ({words})", lambda: salvage(path)))
    elif spoilt:
        words = ", ".join(f"{table}.{column} in line {line}" for table, column, line in spoilt[:_SHOWN])
        words = f"{len(spoilt)} texts of {path} are no text any more: {words}"
        problems.append(Problem(words, lambda: _mend_text(path, spoilt)))
    size = path.stat().st_size / 1e6
    return Finding("database", f"{path}, {size:,.1f} MB, every page and index", tuple(problems))


def back_up(path: Path) -> Path:
    """A copy beside it, ``study-20260504-120000.db.bak``; an earlier one is never overwritten.

    By SQLite's own backup, with what lies in its write-ahead log; of a file that SQLite cannot read, byte for byte,
    with the log as ``….bak-wal``.

    Raises:
        StudyError: no copy can be made.
        OSError: the disk is full or refuses.
    """
    target = _free(path)
    with written(target):
        try:
            # Nobody else opens a name that is not there yet: SQLite would make it, or we do.
            target.touch(exist_ok=False)
            with closing(_opened(path)) as source, closing(sqlite3.connect(target)) as copy:
                source.backup(copy)
                copy.execute("PRAGMA journal_mode=DELETE")
        except sqlite3.DatabaseError:
            target.unlink()
            _copy_bytes(path, target)
    return target


def salvage(path: Path) -> str:
    """Put a new file with every line that can still be read in the place of a damaged one, which is kept.

    Raises:
        StudyError: no evaluation can be read; nothing is changed.
        OSError: the disk is full or refuses; nothing is changed.
    """
    with TemporaryDirectory(prefix=".repaired-", dir=path.parent) as room:
        source, new = Path(room) / "damaged.db", Path(room) / path.name
        _copy_bytes(path, source)
        _make_readable(source)
        url = sqlite_url(new)
        with closing(Records(url)) as records:
            records.create()
        storage = rdb_storage(url)
        storage.engine.dispose()
        counts = _copy_lines(source, new, path)
        if not counts.get("nas_study") or not (counts.get("nas_evaluation") or counts.get("trials")):
            raise StudyError(f"{path}: no evaluation can be read of it; restore it from a copy")
        kept = _free(path)
        _copy_bytes(path, kept)
        for log in (path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            log.unlink(missing_ok=True)  # of the damaged one; its copy is beside `kept`
        new.replace(path)
    gone = ", ".join(table for table, count in counts.items() if count is None)
    read = f"{counts.get('nas_evaluation') or 0:,} evaluations and {counts.get('trials') or 0:,} trials of Optuna's"
    read += f", nothing of {gone}" if gone else ""
    return f"{path} is made anew of what could be read: {read}; the damaged file is {kept.name}"


def _spoilt_text(connection: sqlite3.Connection) -> list[tuple[str, str, int]]:
    """(table, column, line) of each text that is not UTF-8: reading it breaks the whole query."""
    found = []
    connection.text_factory = bytes
    try:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for table in (_decoded(name) for (name,) in names):
            columns = [_decoded(line[1]) for line in connection.execute(f'PRAGMA table_info("{table}")')]
            for line in connection.execute(f'SELECT rowid, * FROM "{table}"'):  # noqa: S608  (as the file has it)
                for column, cell in zip(columns, line[1:], strict=True):
                    if isinstance(cell, bytes) and not _is_text(cell):
                        found.append((table, column, int(line[0])))
    finally:
        connection.text_factory = _decoded
    return found


def _is_text(cell: bytes) -> bool:
    try:
        cell.decode()
    except UnicodeDecodeError:
        return False
    return True


def _decoded(content: bytes) -> str:
    return content.decode("utf-8", "replace")


def _mend_text(path: Path, spoilt: Sequence[tuple[str, str, int]]) -> str:
    """Make them text that can be read; what they say is then found wrong by what they are compared with."""
    with closing(_opened(path)) as connection, connection:
        for table, column, line in spoilt:
            query = f'SELECT "{column}" FROM "{table}" WHERE rowid = ?'  # noqa: S608  (as the file has it)
            (text,) = connection.execute(query, (line,)).fetchone()
            connection.execute(f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = ?', (text, line))  # noqa: S608
    return f"{len(spoilt)} texts of {path} can be read again, with a mark in place of each damaged letter"


def _make_readable(source: Path) -> None:
    """Mend the first bytes of a copy, and its length where the end is lost: else SQLite would not read a single page.

    Places in the header: https://sqlite.org/fileformat2.html#the_database_header.
    """
    with source.open("r+b") as file:
        header = file.read(100)
        page = int.from_bytes(header[16:18], "big")
        length = int.from_bytes(header[28:32], "big") * (65_536 if page == 1 else page)
        if source.stat().st_size < length <= _LONGEST:
            file.truncate(length)  # with zeros at the end, which are damaged pages like others
        file.seek(0)
        file.write(_MAGIC)


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=10)
    connection.text_factory = _decoded
    return connection


def _free(path: Path) -> Path:
    """A name for a copy that is not taken."""
    stem = f"{path.stem}-{datetime.now():%Y%m%d-%H%M%S}"
    for more in ("", *(f"-{number}" for number in range(2, 1000))):
        target = path.with_name(f"{stem}{more}{path.suffix}.bak")
        if not target.exists():
            return target
    raise StudyError(f"{path.parent} holds a thousand copies of this second: remove some")


def _copy_bytes(path: Path, target: Path) -> None:
    shutil.copyfile(path, target)
    log = path.with_name(f"{path.name}-wal")
    if log.exists():
        shutil.copyfile(log, target.with_name(f"{target.name}-wal"))


def _copy_lines(source: Path, new: Path, path: Path) -> dict[str, int | None]:
    """Lines by table that could be read and are in the new file; None of a table that cannot be read at all."""
    counts: dict[str, int | None] = {}
    with closing(_opened(source)) as old, closing(sqlite3.connect(new)) as made:
        made.execute("PRAGMA foreign_keys=OFF")
        old.execute("PRAGMA writable_schema=ON")  # read what it can though the description of a table is damaged
        try:
            there = {str(name) for (name,) in old.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        except sqlite3.DatabaseError as error:
            raise StudyError(f"{path}: nothing can be read of it ({error}); restore it from a copy") from error
        tables = [str(name) for (name,) in made.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            if table in _MADE or table not in there:
                continue
            columns = _columns(made, table)
            try:
                columns = [name for name in columns if name in _columns(old, table)]
            except UNREADABLE:
                columns = []
            if not columns:
                counts[table] = None
                continue
            names = ", ".join(f'"{name}"' for name in columns)
            marks = ", ".join("?" * len(columns))
            insert = f'INSERT OR IGNORE INTO "{table}" ({names}) VALUES ({marks})'  # noqa: S608  (names of our own tables)
            for line in _lines(old, table, names).values():
                made.execute(insert, line)
            counts[table] = int(made.execute(f'SELECT COUNT(*) FROM "{table}"').fetchone()[0])  # noqa: S608
        made.commit()
        # What refers to a line that is lost would be taken for another's.
        while lost := made.execute("PRAGMA foreign_key_check").fetchall():
            for table, line, _, _ in lost:
                made.execute(f'DELETE FROM "{table}" WHERE rowid = ?', (line,))  # noqa: S608
        made.commit()
    return counts


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [str(line[1]) for line in connection.execute(f'PRAGMA table_info("{table}")')]


def _lines(old: sqlite3.Connection, table: str, names: str) -> dict[int, tuple[object, ...]]:
    """By line number: from the first one up to a damaged page, from the last one down to one, and each in between."""
    found: dict[int, tuple[object, ...]] = {}
    ends: list[int] = []
    for order in ("ASC", "DESC"):
        try:
            query = f'SELECT rowid, {names} FROM "{table}" NOT INDEXED ORDER BY rowid {order}'  # noqa: S608
            for line in old.execute(query):
                found[line[0]] = line[1:]
            return found
        except UNREADABLE:
            ends.append(max(found, default=0) if order == "ASC" else 0)
    number, last = ends[0], min((line for line in found if line > ends[0]), default=None)
    missed = 0
    while number + 1 != last and missed < _MISSED:
        number, missed = number + 1, missed + 1
        try:
            line = old.execute(f'SELECT rowid, {names} FROM "{table}" WHERE rowid = ?', (number,)).fetchone()  # noqa: S608
        except UNREADABLE:
            continue
        if line is not None:
            found[number], missed = line[1:], 0
    return found
