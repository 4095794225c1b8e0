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

import psycopg
import pytest

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


class PostgreSQL:
    """A server of its own, with one empty database.

    Args:
        folder: an empty folder for its files; every folder above it may be entered by the user who runs the server.
        options: settings of the server by their names, for instance ``{"max_connections": 8}``.

    Raises:
        FileNotFoundError: its binaries, or a user other than root to run them, are not on this machine.
    """

    def __init__(self, folder: Path, **options: object) -> None:
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
        self.start()

    @property
    def url(self) -> str:
        """Of the database, as ``--storage`` takes it."""
        return f"postgresql+psycopg://nas@127.0.0.1:{self.port}/postgres"

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

    def say(self, query: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """The answer to a query, by a connection of its own as the superuser."""
        address = f"host=127.0.0.1 port={self.port} user=nas dbname={database}"
        with psycopg.connect(address, autocommit=True) as connection:
            cursor = connection.execute(query)  # type: ignore[call-overload]  (only ours)
            return [] if cursor.description is None else cursor.fetchall()

    def drop_connections(self) -> int:
        """Break off every connection but this one; how many."""
        found = self.say(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        return len(found)

    def close(self) -> None:
        """Stop it, where it runs."""
        if (self._data / "postmaster.pid").exists():
            self.stop()

    def _run(self, binary: str, *words: str) -> None:
        subprocess.run(
            [*self._prefix, str(self._binaries / binary), *words],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self._data,
        )


def user() -> str | None:
    """Who may run the server: PostgreSQL refuses root."""
    if os.getuid():
        return pwd.getpwuid(os.getuid()).pw_name
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else None


@contextmanager
def postgresql(folder: Path, **options: object) -> Iterator[PostgreSQL]:
    """A server while the context lasts, in a folder of the test's own; the test is skipped where there can be none."""
    for parent in (folder, *folder.parents[:3]):
        if parent.stat().st_uid == os.getuid() and parent != Path("/tmp"):
            parent.chmod(0o755)
    try:
        started = PostgreSQL(folder, **options)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    try:
        yield started
    finally:
        started.close()


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of an empty database on loopback."""
    with postgresql(tmp_path_factory.mktemp("postgresql")) as started:
        yield started.url
