"""A real server (waitress) for the dashboard, over a connection that cannot write."""

from __future__ import annotations

import ipaddress
import socket
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from nas.dashboard.read_only import LOOPBACK_NAMES, ReadOnly
from nas.database import engine_options, explained, parse_url
from nas.errors import StudyError

if TYPE_CHECKING:
    from optuna.storages import RDBStorage


class Dashboard:
    """optuna-dashboard, listening from the moment this is made.

    Args:
        url: SQLAlchemy URL of a database that is there.
        artifacts: folder of the study's artifacts; shown where it exists.
        host: address to listen on.
        port: 0 takes a free one.

    Raises:
        StudyError: the database is missing, damaged or not Optuna's, or host and port cannot be listened on.
    """

    def __init__(self, url: str, *, artifacts: Path | None = None, host: str = "127.0.0.1", port: int = 8080) -> None:
        storage = read_only_storage(url)
        import optuna_dashboard
        import waitress
        from optuna.artifacts import FileSystemArtifactStore

        store = FileSystemArtifactStore(artifacts) if artifacts is not None and artifacts.is_dir() else None
        self._storage = storage
        self._socket = _listen(host, port)
        self.local = ipaddress.ip_address(self._socket.getsockname()[0]).is_loopback
        """Only this machine can reach it."""
        hosts = LOOPBACK_NAMES | {self._address} if self.local else None
        application = ReadOnly(optuna_dashboard.wsgi(storage, store), hosts)
        self._open: dict[int, Any] = {}
        self._server = waitress.create_server(application, map=self._open, sockets=[self._socket], threads=4)

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it."""
        return f"http://{self._address}:{self._socket.getsockname()[1]}/"

    @property
    def _address(self) -> str:
        """As a URL and the Host header give it."""
        address: str = self._socket.getsockname()[0]
        return f"[{address}]" if ":" in address else address

    def serve(self) -> None:
        """Answer requests until `close` is called from another thread, or Ctrl-C."""
        try:
            self._server.run()
        finally:
            self._storage.engine.dispose()

    def close(self) -> None:
        """Stop `serve`, dropping connections that browsers keep open; safe from any thread."""
        from waitress import wasyncore

        self._server.trigger.pull_trigger(lambda: wasyncore.close_all(self._open, ignore_all=True))


def read_only_storage(url: str) -> RDBStorage:
    """Optuna's storage over connections that refuse every write, so that no request can change a study.

    Raises:
        StudyError: the database is missing (none is made), damaged, or holds no Optuna study.
    """
    parsed = parse_url(url)
    options: dict[str, Any] = engine_options(parsed)
    if parsed.get_backend_name() == "sqlite":
        path = Path(parsed.database or "")
        if not path.is_file():
            raise StudyError(f"there is no study at {str(path)!r}; start one with `nas search`")
        options = {"creator": lambda: _connect(path)}
    else:
        options["connect_args"] = {**options["connect_args"], "options": "-c default_transaction_read_only=on"}

    with explained(parsed):  # asked first in our own words: Optuna's would hide the reason
        probe = sa.create_engine(parsed, **options)
        try:
            with probe.connect() as connection:
                connection.exec_driver_sql("SELECT 1 FROM version_info").scalar()
        finally:
            probe.dispose()

    from nas.dashboard.known import KnownStorage

    return KnownStorage(url, engine_kwargs=options, skip_compatibility_check=True, skip_table_creation=True)


def _connect(path: Path) -> sqlite3.Connection:
    # mode=rw never makes a file; query_only rather than mode=ro, which cannot open a write-ahead log left by a kill.
    address = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(address, uri=True, timeout=60, check_same_thread=False)
    connection.execute("PRAGMA query_only=ON")
    return connection


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise StudyError(f"--port {port}: it must be in 0..65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        # create_server appends its own words to strerror; the first part says all
        reason = str(error.strerror).split(" (while attempting")[0]
        raise StudyError(f"cannot listen on {host} port {port}: {reason}; choose another --host or --port") from error
