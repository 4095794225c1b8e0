"""PostgreSQL as the tests start it: from the system's own binaries, on loopback, stopped and started again at will."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry, Pool

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))

_OTHERS = "FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name NOT IN ('tests', 'crowd')"
CONNECTIONS = f"SELECT count(*) {_OTHERS}"
"""How many there are, but those of `PostgreSQL.address`."""
TERMINATE = f"SELECT pg_terminate_backend(pid) {_OTHERS}"


class PostgreSQL:
    """A server of its own, with one empty database.

    Args:
        folder: an empty folder for its files; the user who runs the server may enter it.
        rules: who may connect how, as in its file pg_hba.conf; None lets everyone in.
        options: settings of the server by their names, for instance ``{"max_connections": 8}``.

    Raises:
        FileNotFoundError: its binaries, or a user other than root to run them, are not on this machine.
    """

    def __init__(self, folder: Path, *, rules: str | None = None, **options: object) -> None:
        found = shutil.which("initdb") or (BINARIES and str(BINARIES[-1]))
        who = user()
        if not found or who is None:
            raise FileNotFoundError(
                "PostgreSQL's server binaries, or a user other than root to run them, are not on this machine"
            )
        self._binaries = Path(found).parent
        self._prefix = [] if os.getuid() else ["runuser", "-u", who, "--"]
        self._options = {"fsync": "off", **options}
        self._data = folder / "data"
        self._data.mkdir(mode=0o700)
        shutil.chown(self._data, who)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._run("initdb", "-D", str(self._data), "-U", "nas", "--auth=trust", "--no-sync")
        if rules is not None:
            (self._data / "pg_hba.conf").write_text(rules)
        self.start()

    @property
    def url(self) -> str:
        """Of the database, as ``--storage`` takes it."""
        return f"postgresql+psycopg://nas@127.0.0.1:{self.port}/postgres"

    def named(self, database: str) -> str:
        """The same of another database there."""
        return self.url.rpartition("/")[0] + f"/{database}"

    def address(self, name: str = "tests") -> str:
        """Of the database, as psycopg takes it, for a program of this name."""
        return f"host=127.0.0.1 port={self.port} user=nas dbname=postgres application_name={name}"

    @property
    def log(self) -> str:
        """What the server said."""
        return (self._data / "log").read_text()

    def start(self, **options: object) -> None:
        """Start it, on the port that it had before; `options` replace those it was made with."""
        self._options |= options
        words = f"-p {self.port} -k {self._data} -c listen_addresses=127.0.0.1 " + " ".join(
            f"-c {name}={value}" for name, value in self._options.items()
        )
        self._run("pg_ctl", "-D", str(self._data), "-w", "-o", words, "-l", str(self._data / "log"), "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop it: ``immediate`` as in a crash, ``fast`` by breaking off what is connected."""
        self._run("pg_ctl", "-D", str(self._data), "-m", mode, "-w", "stop")

    def say(self, query: str) -> list[tuple[Any, ...]]:
        """The answer to a query, by a connection of its own as the superuser."""
        with psycopg.connect(self.address(), autocommit=True) as connection:
            cursor = connection.execute(query.encode())
            return [] if cursor.description is None else cursor.fetchall()

    def drop_connections(self, by: psycopg.Connection[Any] | None = None) -> int:
        """Break off every connection but those of `address`, by one that is there or one of its own; how many."""
        if by is None:
            with psycopg.connect(self.address(), autocommit=True) as own:
                return self.drop_connections(own)
        return len(by.execute(TERMINATE).fetchall())

    def close(self) -> None:
        """Stop it, where it runs."""
        if (self._data / "postmaster.pid").exists():
            self.stop()

    def _run(self, binary: str, *words: str) -> None:
        done = subprocess.run(
            [*self._prefix, str(self._binaries / binary), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self._data,
        )
        assert done.returncode == 0, f"{done.stderr}\n{self.log if (self._data / 'log').exists() else ''}"


def user() -> str | None:
    """Who may run the server: PostgreSQL refuses root."""
    if os.getuid():
        return pwd.getpwuid(os.getuid()).pw_name
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else None


@contextmanager
def postgresql(*, rules: str | None = None, **options: object) -> Iterator[PostgreSQL]:
    """A server while the context lasts; the test is skipped where there can be none."""
    # Not in pytest's own folder: each session closes that of all sessions to other users.
    with TemporaryDirectory(prefix="nas-postgresql-") as folder:
        Path(folder).chmod(0o755)
        try:
            started = PostgreSQL(Path(folder), rules=rules, **options)
        except FileNotFoundError as error:
            pytest.skip(str(error))
        try:
            yield started
        finally:
            started.close()


@contextmanager
def all_closed() -> Iterator[None]:
    """Close every connection that SQLAlchemy opens meanwhile, whoever forgets it: psycopg warns of those left open."""
    opened: list[DBAPIConnection] = []

    def keep(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        opened.append(connection)

    sa.event.listen(Pool, "connect", keep)
    try:
        yield
    finally:
        sa.event.remove(Pool, "connect", keep)
        for connection in opened:
            connection.close()


@pytest.fixture
def server() -> Iterator[str]:
    """URL of an empty database on loopback."""
    with postgresql() as started:
        yield started.url
