"""A real server (waitress) for the dashboard, over a connection that cannot write unless it is asked to."""

from __future__ import annotations

import ipaddress
import secrets
import socket
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from nas.dashboard.guard import LOOPBACK_NAMES, Guard
from nas.database import engine_options, explained, parse_url, sealed, shown
from nas.errors import StudyError
from nas.records import Records

if TYPE_CHECKING:
    from nas.dashboard.storage import DashboardStorage

THREADS = 4
"""Requests answered at once."""


class Dashboard:
    """optuna-dashboard, listening from the moment this is made.

    Args:
        url: SQLAlchemy URL of a database that is there.
        artifacts: folder of the study's artifacts.
        host: address to listen on. Open to other machines, it asks for a token, which `url` holds.
        port: 0 takes a free one.
        writable: notes and artifacts may be written, see `nas.dashboard.guard.WRITABLE`; on this machine only.

    Raises:
        StudyError: the database is missing, damaged, not Optuna's, or cannot be written though it is to be; host and
            port cannot be listened on; `writable` together with an address that other machines reach.
    """

    def __init__(
        self,
        url: str,
        *,
        artifacts: Path | None = None,
        host: str = "127.0.0.1",
        port: int = 8080,
        writable: bool = False,
    ) -> None:
        self._socket = _listen(host, port)
        self.local = ipaddress.ip_address(self._socket.getsockname()[0]).is_loopback
        """Only this machine can reach it."""
        try:
            if writable and not self.local:
                raise StudyError(
                    f"--writable serves this machine only, and --host {host} is open to others: leave one of them out"
                )
            self._storage = dashboard_storage(url, writable=writable)
        except BaseException:
            self._socket.close()
            raise
        import optuna_dashboard
        import waitress

        from nas.dashboard.artifacts import Artifacts
        from nas.dashboard.narrow import narrow
        from nas.dashboard.style import Styled

        narrow()
        self._token = None if self.local else secrets.token_urlsafe(24)
        application = Guard(
            Styled(optuna_dashboard.wsgi(self._storage, Artifacts(self._storage.artifact, artifacts))),
            LOOPBACK_NAMES | {self._address, *(() if self.local else _names(host))},
            addresses=not self.local,
            writable=writable,
            token=self._token,
        )
        self._open: dict[int, Any] = {}
        self._server = waitress.create_server(application, map=self._open, sockets=[self._socket], threads=THREADS)

    @property
    def url(self) -> str:
        """Where a browser finds it, with the token where one is asked for."""
        address = self._address
        if address in ("0.0.0.0", "[::]"):  # noqa: S104  (every address of this machine: its name is one of them)
            address = socket.gethostname()
        token = "" if self._token is None else f"?token={self._token}"
        return f"http://{address}:{self._socket.getsockname()[1]}/{token}"

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
            self._storage.close()

    def close(self) -> None:
        """Stop `serve`, dropping connections that browsers keep open; safe from any thread."""
        from waitress import wasyncore

        self._server.trigger.pull_trigger(lambda: wasyncore.close_all(self._open, ignore_all=True))


def dashboard_storage(url: str, *, writable: bool = False) -> DashboardStorage:
    """Optuna's storage, over connections that refuse every write unless it is to be writable.

    Raises:
        StudyError: the database is missing (none is made), damaged, of a newer nas, holds no Optuna study, or refuses
            to be written though it is to be.
    """
    parsed = parse_url(url)
    options: dict[str, Any] = engine_options(parsed)
    if parsed.get_backend_name() == "sqlite":
        path = Path(parsed.database or "")
        if not path.is_file():
            raise StudyError(f"there is no study at {str(path)!r}; start one with `nas search`")
        if not writable:
            options = {"creator": lambda: _connect(path)}
    elif not writable:
        options["connect_args"] = {**options["connect_args"], "options": "-c default_transaction_read_only=on"}

    with explained(parsed):  # asked first in our own words: Optuna's would hide the reason
        probe = sa.create_engine(parsed, **options)
        try:
            with probe.connect() as connection:
                connection.exec_driver_sql("SELECT 1 FROM version_info").scalar()
                has_records = sa.inspect(connection).has_table("nas_version")
                if writable:  # changes nothing, and is refused where anything would be
                    connection.exec_driver_sql("UPDATE studies SET study_name = study_name WHERE 1 = 0")
        finally:
            probe.dispose()

    from optuna.storages import RDBStorage

    from nas.dashboard.storage import DashboardStorage

    records = Records(url)
    try:
        if has_records:
            records.check_version()
        tables = RDBStorage(url, engine_kwargs=options, skip_table_creation=True)
    except RuntimeError as error:  # its word for tables of another version of itself
        records.close()
        raise StudyError(f"{shown(parsed)}: {' '.join(str(error).split())}") from error
    except BaseException:
        records.close()
        raise
    return DashboardStorage(tables, records)


def _connect(path: Path) -> sqlite3.Connection:
    # mode=rw never makes a file; query_only rather than mode=ro, which cannot open a write-ahead log left by a kill.
    # In a folder that cannot be written nobody writes, and the log's own files cannot be made.
    mode = "mode=ro&immutable=1" if sealed(path) else "mode=rw"
    address = f"{path.absolute().as_uri()}?{mode}"
    connection = sqlite3.connect(address, uri=True, timeout=60, check_same_thread=False)
    connection.execute("PRAGMA query_only=ON")
    return connection


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise StudyError(f"--port {port}: it must be in 0..65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        # create_server appends its own words to strerror; the first part says all
        reason = str(getattr(error, "strerror", None) or error).split(" (while attempting")[0]
        raise StudyError(f"cannot listen on {host} port {port}: {reason}; choose another --host or --port") from error


def _names(host: str) -> set[str]:
    """Names by which other machines may call this one: the one given, and its own."""
    return {host.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}
