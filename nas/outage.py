"""A PostgreSQL database that is out of reach for a while: a search waits for it, and does again what was broken off.

Two things are enough for Optuna's tables and ours, since both take their connections from pools of SQLAlchemy, which
try each connection before it is used (``pool_pre_ping``):

- `Patience`: making a connection waits. Nothing has been asked of the database by then, so whatever follows is safe.
- `repeated`: a transaction whose connection broke is done again. The database may have kept it, the answer alone being
  lost, so a function is marked only where it may be done twice, and says why.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect

from nas.database import FULL, scrubbed
from nas.errors import StudyError

EVERY = 2.0
"""Seconds between two tries to reach a database."""
LIMIT = 600.0
"""Seconds for which a search waits for its database."""
TIMES = 20
"""So often in a row a transaction may be broken off and done again, a little later each time."""
NOT_YET = ("starting up", "shutting down", "recovery mode", "not yet accepting connections")
LAST = ("57P", "08")
"""SQLSTATE of a server that is stopped, or stops a session, and of connections that break."""

P = ParamSpec("P")
T = TypeVar("T")


class Patience:
    """While the context lasts, this thread waits where PostgreSQL cannot be reached; other threads fail at once.

    A server without room for another connection, or one that is just starting, is always waited for. One that is not
    there at all is waited for only where it is `known` to have been there, so that a wrong address is said at once.

    Args:
        tell: takes one line when the waiting begins, and None when the database answers again.
        check: called while it waits; what it raises ends the waiting and passes through.
        known: the database has answered before; may be set later.
    """

    def __init__(self, tell: Callable[[str | None], None], check: Callable[[], None], *, known: bool = False) -> None:
        self.known = known
        self._tell = tell
        self._check = check
        self._thread = threading.get_ident()

    def __enter__(self) -> Patience:
        sa.event.listen(Engine, "do_connect", self._connect)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sa.event.remove(Engine, "do_connect", self._connect)

    def _connect(self, dialect: Dialect, _: Any, words: Any, options: Any) -> DBAPIConnection | None:
        if dialect.name != "postgresql" or threading.get_ident() != self._thread:
            return None  # SQLAlchemy's own way
        began: float | None = None
        while True:
            try:
                connection = dialect.connect(*words, **options)
            except dialect.loaded_dbapi.OperationalError as error:
                said = scrubbed(str(error), (value for name, value in options.items() if "password" in name.lower()))
                if not self.known and not any(sign in said for sign in FULL + NOT_YET):
                    raise
                if began is None:
                    began = time.monotonic()
                    self._tell(
                        f"the database is out of reach ({said}); waiting, trying again every {EVERY:g} s, "
                        f"up to {LIMIT / 60:g} min"
                    )
                elif time.monotonic() - began > LIMIT:
                    full = any(sign in said for sign in FULL)
                    mend = "raise its max_connections, or run fewer workers," if full else "make it answer"
                    raise StudyError(
                        f"the database has been out of reach for {LIMIT / 60:g} min ({said}); {mend} and run the same "
                        "command again: nothing finished is lost, running trials are settled then"
                    ) from error
                self._rest()
            else:
                if began is not None:
                    self._tell(None)
                return connection

    def _rest(self) -> None:
        end = time.monotonic() + EVERY
        while time.monotonic() < end:
            self._check()
            time.sleep(0.1)


class Waiting:
    """Which of several workers wait for the database: told when the first of them does, and when none does any more.

    Args:
        tell: takes a line.
        what: of the workers, such as ``the search``.
    """

    def __init__(self, tell: Callable[[str], None], what: str) -> None:
        self._tell = tell
        self._what = what
        self._without: set[int] = set()

    def heard(self, number: int, words: str | None) -> None:
        """Worker `number` said this by its `Patience`."""
        before = bool(self._without)
        if words is None:
            self._without.discard(number)
        else:
            self._without.add(number)
        if words is not None and not before:
            self._tell(words)
        elif before and not self._without:
            self._tell(f"the database answers again; {self._what} goes on")

    def gone(self, number: int) -> None:
        """Worker `number` has ended."""
        self._without.discard(number)


def lost(error: BaseException | None) -> bool:
    """Whether a connection broke in the middle of a transaction, whatever the error was wrapped in."""
    while error is not None:
        if isinstance(error, sa.exc.DBAPIError):
            # After a server's last words the driver may not have seen yet that the connection is closed.
            state = getattr(error.orig, "sqlstate", None) or ""
            return error.connection_invalidated or state.startswith(LAST)
        error = error.__cause__
    return False


def repeated(function: Callable[P, T]) -> Callable[P, T]:
    """Call again where the connection was lost meanwhile; only for what may be done twice."""

    @wraps(function)
    def again(*args: P.args, **kwargs: P.kwargs) -> T:
        for time_before in range(TIMES):
            try:
                return function(*args, **kwargs)
            except Exception as error:
                if not lost(error):
                    raise
            time.sleep(0.05 * time_before)
        return function(*args, **kwargs)

    return again
