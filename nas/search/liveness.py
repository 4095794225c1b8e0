"""Which workers live: an OS lock that a dead process cannot hold, and a beat by the database's clock between hosts.

Optuna's heartbeat works neither with ask and tell nor at once. A lock is let go by the kernel however a process ends,
so on one host a killed worker is known dead immediately; a worker on another host is dead after `STALE` seconds
without a beat.
"""

from __future__ import annotations

import fcntl
import os
import socket
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

import sqlalchemy as sa

from nas.errors import StudyError
from nas.outage import repeated
from nas.records import Records, worker_table

BEAT = 10.0
"""Seconds between two beats."""
STALE = 60.0
"""Seconds without a beat after which a worker of another host counts as dead."""
STARTED = "extract(epoch from pg_postmaster_start_time())"
"""When PostgreSQL was started, in seconds since 1970."""


def host() -> str:
    """This machine until its next start: a name alone could be shared by two containers."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{socket.gethostname()}/{boot.read_text().strip() if boot.exists() else uuid.getnode()}"


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker as the database knows it; `age` is seconds since its last beat, by the database's clock.

    After a restart of PostgreSQL it is counted from there, so that an outage makes nobody look dead.
    """

    id: str
    host: str
    lock: str
    age: float

    @property
    def name(self) -> str:
        """The host's name, for a person."""
        return self.host.split("/")[0]

    def is_alive(self) -> bool:
        """On this host: whether its lock is held. On another: whether it beat within `STALE` seconds."""
        if self.host != host():
            return self.age < STALE
        return is_locked(Path(self.lock))


class Worker:
    """This process as a worker of a study, while the context lasts: holds the lock, keeps the beat.

    Args:
        records: the study's records.
        study: its number there.
        folder: where lock files lie; made where missing.

    Raises:
        StudyError: the lock file cannot be made.
    """

    def __init__(self, records: Records, study: int, folder: Path) -> None:
        self.id = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._records = records
        self._study = study
        self._path = folder.absolute() / f"{self.id}.lock"
        self._file: IO[str] | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="nas-beat", daemon=True)

    def __enter__(self) -> Worker:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("w")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StudyError(f"{self._path} cannot be locked ({error.strerror}); allow writing there") from error
        self.beat()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        try:
            with self._records.writing() as connection:
                connection.execute(worker_table.delete().where(worker_table.c.id == self.id))
        except StudyError:  # the row stays, and whoever looks next finds the lock free
            pass
        finally:
            if self._file is not None:
                self._file.close()
            self._path.unlink(missing_ok=True)

    @repeated
    def beat(self) -> None:
        """Say that this worker lives; also after others took it for dead and removed its row.

        Raises:
            StudyError: the database is out of reach.
        """
        with self._records.writing() as connection:
            now = _now(connection.dialect.name)
            beat = worker_table.update().where(worker_table.c.id == self.id).values(beat_at=now)
            if connection.execute(beat).rowcount == 0:
                row = {"id": self.id, "study": self._study, "host": host(), "lock": str(self._path)}
                connection.execute(worker_table.insert().values(**row, beat_at=now))

    def _beat(self) -> None:
        while not self._end.wait(BEAT):
            try:
                self.beat()
            except StudyError:  # a database that is down is met, and told, by the worker's own writes
                continue


def forget(records: Records, worker: str) -> None:
    """Take a worker of another host for dead at once; of one on this host its lock says whether it lives.

    Args:
        worker: its id. Where it lives all the same, its next beat brings it back.

    Raises:
        StudyError: the database is out of reach.
    """
    with records.writing() as connection:
        connection.execute(worker_table.delete().where(worker_table.c.id == worker, worker_table.c.host != host()))


@repeated
def workers(records: Records, study: int) -> list[WorkerRow]:
    """Workers of a study that have not been buried yet."""
    with records.reading() as connection:
        beat_at: sa.ColumnElement[float] = worker_table.c.beat_at
        if connection.dialect.name == "postgresql":  # nobody could beat while the server itself was down
            beat_at = sa.func.greatest(beat_at, sa.literal_column(STARTED, sa.Float))
        age = (_now(connection.dialect.name) - beat_at).label("age")
        query = sa.select(worker_table.c.id, worker_table.c.host, worker_table.c.lock, age)
        found = connection.execute(query.where(worker_table.c.study == study)).mappings()
        return [WorkerRow(row["id"], row["host"], row["lock"], float(row["age"])) for row in found]


def is_locked(path: Path) -> bool:
    """Whether a living process of this machine holds the lock on a file; False where there is no file."""
    try:
        with path.open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _now(dialect: str) -> sa.ColumnElement[float]:
    """Seconds since 1970 by the database's clock."""
    if dialect == "sqlite":
        return sa.literal_column("(julianday('now') - 2440587.5) * 86400.0", sa.Float)
    return sa.literal_column("extract(epoch from clock_timestamp())", sa.Float)
