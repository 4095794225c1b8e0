"""One database, SQLite or PostgreSQL: how it is opened, and what its errors mean, said in one line."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.pool import ConnectionPoolEntry

from nas.errors import StudyError

FULL = ("too many clients", "too many connections", "connection slots are reserved")
"""What a PostgreSQL says that has no room for another connection."""


def parse_url(url: str) -> URL:
    """A storage's URL, checked without connecting.

    Raises:
        StudyError: not a URL, or a database that is neither SQLite nor PostgreSQL. A password is never repeated.
    """
    try:
        url.encode()  # a name of bytes that are no text reaches Python as half characters
        parsed = make_url(url)
    except (sa.exc.ArgumentError, ValueError) as error:  # ValueError: a port that is no number, too
        raise StudyError(
            "--storage is not a database URL; use sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
        ) from error
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise StudyError("--storage: a study is kept in a file; use sqlite:///FILE")
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise StudyError(
            f"--storage {shown(parsed)}: {parsed.get_backend_name()} is not supported; use sqlite or postgresql"
        )
    return parsed


def shown(url: URL | str) -> str:
    """A storage's URL as it may be printed: a file's path for SQLite, no password elsewhere."""
    parsed = make_url(url) if isinstance(url, str) else url
    if parsed.get_backend_name() == "sqlite":
        return parsed.database or ":memory:"
    return masked(parsed)


def masked(url: URL) -> str:
    """A storage's URL, still a URL, without its password, which may also be among the options after ``?``."""
    return url.difference_update_query(_secret(url)).render_as_string(hide_password=True)


def sqlite_url(path: Path) -> str:
    """SQLAlchemy's URL of a SQLite file.

    Raises:
        StudyError: the path has characters that this version of SQLAlchemy would read as something else.
    """
    text = str(path.absolute())
    try:
        url = URL.create("sqlite", database=text).render_as_string()
        kept = make_url(url).database == text
    except ValueError:  # bytes that are no text
        kept = False
    if not kept:
        raise StudyError(f"{text!r} cannot be named in a database's URL: choose another --studies-dir")
    return url


def _secret(url: URL) -> list[str]:
    return [name for name in url.query if "password" in name.lower()]


def engine_options(url: URL, wait: float = 60) -> dict[str, Any]:
    """Options for `create_engine`, ours and Optuna's: seconds to wait for a lock, and noticing dropped connections.

    Of PostgreSQL each engine keeps one connection; what is needed beside it for a moment is closed again, where
    SQLAlchemy would keep five. A worker has two engines and kept four: a server as it comes had room for 24 workers.
    """
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": wait}}
    # Of a server that was cut off, rather than stopped, nothing comes back: a query would wait for that for hours.
    gone = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 60_000}
    pool = {"pool_pre_ping": True, "pool_size": 1, "max_overflow": 14}  # at most 15 at once, as SQLAlchemy's own
    return {**pool, "connect_args": {"connect_timeout": 10, **gone}}


def prepare_sqlite(engine: Engine) -> None:
    """Commits that survive a killed process without a disk flush each (write-ahead log, synchronous NORMAL).

    A power cut may lose the last trials, never damage the file: https://sqlite.org/pragma.html#pragma_synchronous.
    """

    @sa.event.listens_for(engine, "connect")
    def set_up(connection: Any, _: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    engine.dispose()  # connections made before this have the old settings


@contextmanager
def explained(url: URL) -> Iterator[None]:
    """Turn a database's errors into one line that names it and says what to do."""
    try:
        yield
    except sa.exc.NoSuchModuleError as error:
        raise StudyError(f"{shown(url)}: its driver is unknown; use postgresql+psycopg://") from error
    except ModuleNotFoundError as error:
        raise StudyError(
            f"{shown(url)}: the driver {error.name!r} is missing; pip install 'nas[postgresql]'"
        ) from error
    except sa.exc.IntegrityError:
        raise
    except sa.exc.DBAPIError as error:
        raise StudyError(_explanation(url, str(error.orig))) from error


def scrubbed(said: str, secrets: Iterable[object]) -> str:
    """A driver's words in one line, without these passwords, which it may repeat; None among them is none."""
    for secret in secrets:
        said = said.replace(str(secret), "***") if secret else said
    return " ".join(said.split())


def _explanation(url: URL, said: str) -> str:
    said = scrubbed(said, (url.password, *(url.query[name] for name in _secret(url))))
    where = shown(url)
    low = said.lower()
    if "unable to open" in low and url.database and sealed(Path(url.database)):
        return (
            f"{where} cannot be written: its folder is read-only; allow writing there, or choose another --studies-dir"
        )
    if "not a database" in low or "malformed" in low or "decode to utf-8" in low:
        return f"{where} is damaged ({said}); restore it from a copy, or see what `nas doctor` can mend"
    if "disk is full" in low or "disk full" in low or "disk i/o" in low:
        return f"{where} cannot be written ({said}); free space on the disk and run the same command again"
    if "readonly" in low or "read-only" in low:
        return f"{where} cannot be written ({said}); allow writing there, or choose another --studies-dir"
    if "no such table" in low or ("does not exist" in low and "relation" in low):
        return f"{where} has no records of nas ({said}); was it made by another program?"
    if "locked" in low:
        return (
            f"{where} is locked by another program ({said}); wait for it or stop it, and on a network disk use "
            "PostgreSQL: --storage postgresql+psycopg://"
        )
    if any(sign in low for sign in FULL):
        return f"{where} has no room for another connection ({said}); raise its max_connections, or run fewer workers"
    return f"{where} is out of reach ({said}); check that it is there, running, and yours to open"


def sealed(path: Path) -> bool:
    """Whether a file is there in a folder that cannot be written."""
    return path.is_file() and not os.access(path.parent, os.W_OK)


def check_sqlite(path: Path) -> None:
    """Look a SQLite file over before it is written to.

    Raises:
        StudyError: it is damaged or cannot be read.
    """
    if path.stat().st_size == 0:
        raise StudyError(f"{path} is empty: restore it from a copy, or remove it to start anew")
    url = parse_url(sqlite_url(path))
    engine = sa.create_engine(url, **engine_options(url))
    try:
        with explained(url), engine.connect() as connection:
            said = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    finally:
        engine.dispose()
    if said != "ok":
        raise StudyError(f"{path} is damaged ({said}); restore it from a copy, or see what `nas doctor` can mend")
