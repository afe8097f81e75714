"""A client-side deadline on every statement.

libpq waits for an answer as long as the TCP connection lives. A hung server or proxy keeps it
alive, and no server setting ends the wait. So one thread watches the running statements and shuts
down the socket of a connection that has waited too long, which fails the waiting call. This costs
half a microsecond per statement; the driver's wait callback costs two and disables
``connect_timeout``. The thread sleeps while no statement is running.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import WeakSet

import psycopg2
from psycopg2.extensions import connection, cursor

from alerts.db.errors import NoAnswer

TICK_SECONDS = 0.25
# For a statement that may legitimately take long: when to ask the server about it first, how often
# after that, and after how many failed checks to give up.
FIRST_LOOK_SECONDS = 5.0
NEXT_LOOK_SECONDS = 10.0
SECOND_OPINION_SECONDS = 1.0
MISSES = 2


class WatchedConnection(connection):
    """A connection that gives up on a statement that takes too long.

    It gives up after ``limit_seconds`` (None: never), or earlier if ``still_working`` is set and
    reports twice that the server is not working on the statement. ``standby_ok``: the operator's
    address requests or allows a server that takes no writes.
    """

    limit_seconds: float | None = None
    still_working: Callable[[], bool] | None = None
    standby_ok: bool = False
    _since: float | None = None
    _next_look: float = 0.0
    _misses: int = 0
    _gave_up: float | None = None  # after how many seconds

    def begin_waiting(self) -> None:
        """Call before a statement is sent."""
        self._misses = 0
        self._since = now = time.monotonic()
        self._next_look = now + FIRST_LOOK_SECONDS
        _watcher.wake()

    def end_waiting(self) -> None:
        """Call after the statement was answered or failed."""
        self._since = None

    @property
    def waiting(self) -> bool:
        """Whether a statement is running."""
        return self._since is not None

    def abandon_after(self, seconds: float) -> None:
        """Give up on the running statement if it has already waited ``seconds``."""
        since = self._since
        if since is not None and time.monotonic() - since >= seconds:
            self._give_up(since)

    def look(self, now: float) -> None:
        """Give up if the limit has passed; if a check is due, ask the server in a thread."""
        since = self._since
        if since is None:
            return
        if self.limit_seconds is not None and now - since >= self.limit_seconds:
            self._give_up(since)
        elif self.still_working is not None and now >= self._next_look:
            self._next_look = float("inf")
            thread = threading.Thread(target=self._ask, args=(since,), daemon=True)
            thread.start()

    def _ask(self, since: float) -> None:
        working = self.still_working is not None and self.still_working()
        if self._since != since:
            return
        self._misses = 0 if working else self._misses + 1
        if self._misses >= MISSES:
            self._give_up(since)
        self._next_look = time.monotonic() + (
            NEXT_LOOK_SECONDS if working else SECOND_OPINION_SECONDS
        )

    def _give_up(self, since: float) -> None:
        if self._since == since:
            self._gave_up = time.monotonic() - since
            abandon(self)

    def explained(self, error: psycopg2.Error) -> psycopg2.Error:
        """Return the error itself, or :class:`NoAnswer` if we gave up on the statement."""
        if self._gave_up is None:
            return error
        return NoAnswer(f"the database did not answer within {self._gave_up:.0f} s")


class WatchedCursor(cursor):
    """The cursor of a :class:`WatchedConnection`; every statement has a deadline."""

    connection: WatchedConnection

    def execute(self, query: Any, vars: Any = None) -> None:
        """Like the driver's; raises :class:`NoAnswer` if no answer comes in time."""
        conn = self.connection
        conn.begin_waiting()
        try:
            super().execute(query, vars)
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            explained = conn.explained(error)
            if explained is error:
                raise
            raise explained from error
        finally:
            conn.end_waiting()


def watched(
    conn: connection,
    *,
    limit_seconds: float | None,
    still_working: Callable[[], bool] | None = None,
) -> None:
    """Set the deadline for later statements; does nothing for a connection of another class."""
    if isinstance(conn, WatchedConnection):
        conn.limit_seconds, conn.still_working = limit_seconds, still_working
        _watcher.add(conn)


def abandon(conn: connection) -> None:
    """End a connection from outside, so that a thread waiting on it gets an error at once.

    Safe from any thread. The server notices as soon as it reads from the connection again.
    """
    with (
        suppress(psycopg2.Error, OSError),  # it may just have ended by itself
        socket.socket(fileno=os.dup(conn.fileno())) as wire,
    ):
        wire.shutdown(socket.SHUT_RDWR)


class _Watcher:
    """The process's only watcher thread; it sleeps while no statement is running."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connections: WeakSet[WatchedConnection] = WeakSet()
        self._busy = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, conn: WatchedConnection) -> None:
        with self._lock:
            self._connections.add(conn)
            if self._thread is None or not self._thread.is_alive():  # not in a forked child
                self._thread = threading.Thread(
                    target=self._work, name="alerts-deadlines", daemon=True
                )
                self._thread.start()

    def wake(self) -> None:
        if not self._busy.is_set():
            self._busy.set()

    def _work(self) -> None:
        while True:
            self._busy.wait()
            time.sleep(TICK_SECONDS)
            self._busy.clear()  # before looking: a statement that starts now sets it again
            waiting = [conn for conn in self._all() if conn.waiting]
            if waiting:
                self._busy.set()
            now = time.monotonic()
            for conn in waiting:
                conn.look(now)

    def _all(self) -> list[WatchedConnection]:
        with self._lock:
            return list(self._connections)


_watcher = _Watcher()
