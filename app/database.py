"""The web app's small pool of connections, which also works through a pooler.

A hung database must not take the app down. Each request waits at most a few seconds, and no more
requests wait at once than there are connections, so a thread is always free to report the problem.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from typing import TypeVar

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE

from alerts import db

CONNECTIONS = 4  # per process; gunicorn.conf.py sets twice as many threads
STATEMENT_TIMEOUT_MS = 10_000
CONNECT_SECONDS = 3
# The least that libpq takes. After a failover a request finds a kept connection silent, then the
# host that has gone, and still answers from the new primary within five seconds.
CONNECT_SECONDS_OF_SEVERAL = 2
PING_SECONDS = 2.0
# How long a request waits for a connection while no running request completes.
STALLED_SECONDS = 0.8
T = TypeVar("T")
_GONE = (psycopg2.OperationalError, psycopg2.InterfaceError)


class Database:
    """Transactions for requests. Connects when first used, so the app starts without a database."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        several = db.names_several_hosts(database_url)
        self._connect_seconds = CONNECT_SECONDS_OF_SEVERAL if several else CONNECT_SECONDS
        self._kept: deque[db.Connection] = deque()  # idle connections
        self._turns = _Turns(CONNECTIONS)
        # A single thread, so that pings do not pile up while one hangs on a dead network.
        self._pings = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ping")
        self._readers = ThreadPoolExecutor(max_workers=CONNECTIONS, thread_name_prefix="read")
        # Since when no request of this process has had an answer; None: the last one had.
        self.failing_since: datetime | None = None

    @contextmanager
    def transaction(self, *, read_only: bool = True) -> Iterator[db.Connection]:
        """A transaction on an idle connection or a new one. Raises ``psycopg2.Error``."""
        try:
            with self._turns.one(), self._transaction(read_only=read_only) as conn:
                yield conn
        except _GONE:
            self._note_failure()
            raise
        self.failing_since = None

    def within(self, seconds: float, work: Callable[[db.Connection], T]) -> T:
        """What ``work`` brings from a read-only transaction, if it does so in time.

        A database that hangs is given up by this caller only; the thread that waits for it goes on
        until the connection's own limits. Raises ``psycopg2.Error``.
        """
        answer = self._readers.submit(self._read, work)
        try:
            return answer.result(timeout=seconds)
        except TimeoutError:
            answer.cancel()
            self._note_failure()
            raise psycopg2.OperationalError("no answer within the time limit") from None

    def _read(self, work: Callable[[db.Connection], T]) -> T:
        with self.transaction() as conn:
            return work(conn)

    def _note_failure(self) -> None:
        self.failing_since = self.failing_since or datetime.now(UTC)

    def answers(self) -> bool:
        """Whether the database answers within two seconds."""
        ping = self._pings.submit(self._ping)
        try:
            return ping.result(timeout=PING_SECONDS)
        except (psycopg2.Error, TimeoutError):
            ping.cancel()  # if it is still queued, it would only delay the next ones
            return False

    def _ping(self) -> bool:
        with self._transaction(read_only=True) as conn:
            return db.fetch_one(conn, "SELECT 1 AS one") is not None

    @contextmanager
    def _transaction(self, *, read_only: bool) -> Iterator[db.Connection]:
        with ExitStack() as stack:
            conn = self._begin(stack, read_only=read_only)
            yield conn

    def _begin(self, stack: ExitStack, *, read_only: bool) -> db.Connection:
        """Begin a transaction on a connection that is returned when ``stack`` ends.

        Only BEGIN reveals that an idle connection was dropped, is hung or now leads to a standby.
        It is then replaced once, before anything was done on it.
        """
        kept = self._take()
        if kept is not None:
            try:
                return self._begin_on(kept, stack, read_only=read_only)
            except _GONE:
                self._forget()
        try:
            return self._begin_on(self._connect(), stack, read_only=read_only)
        except _GONE as error:
            if kept is not None or not db.dropped(error):
                raise
        return self._begin_on(self._connect(), stack, read_only=read_only)

    def _begin_on(self, conn: db.Connection, stack: ExitStack, *, read_only: bool) -> db.Connection:
        with ExitStack() as attempt:
            attempt.callback(self._give_back, conn)
            attempt.enter_context(
                db.web_transaction(
                    conn, read_only=read_only, statement_timeout_ms=STATEMENT_TIMEOUT_MS
                )
            )
            stack.push(attempt.pop_all())
        return conn

    def _connect(self) -> db.Connection:
        return db.connect(
            self._database_url,
            application_name="alerts-web",
            connect_timeout=self._connect_seconds,
        )

    def _take(self) -> db.Connection | None:
        """Return the most recently used idle connection, or None."""
        with suppress(IndexError):
            return self._kept.pop()
        return None

    def _give_back(self, conn: db.Connection) -> None:
        if conn.closed or conn.info.transaction_status != TRANSACTION_STATUS_IDLE:
            _close(conn)
        else:
            self._kept.append(conn)

    def _forget(self) -> None:
        """Close all idle connections: if one has gone bad, the others probably have too."""
        while (conn := self._take()) is not None:
            _close(conn)


class _Turns:
    """Limits concurrent requests; another one waits only while the running ones make progress."""

    def __init__(self, free: int) -> None:
        self._free = free
        self._changed = threading.Condition()
        self._moved_at = 0.0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Take a turn. Raises ``psycopg2.OperationalError`` if none becomes free."""
        with self._changed:
            while not self._free:
                left = self._moved_at + STALLED_SECONDS - time.monotonic()
                if left <= 0:
                    raise psycopg2.OperationalError("every connection waits for the database")
                self._changed.wait(left)
            self._free -= 1
            self._moved_at = max(self._moved_at, time.monotonic())
        moved = True
        try:
            yield
        except _GONE:
            moved = False  # the request gave up, so this is no progress
            raise
        finally:
            with self._changed:
                self._free += 1
                if moved:
                    self._moved_at = time.monotonic()
                self._changed.notify()


def _close(conn: db.Connection) -> None:
    with suppress(psycopg2.Error):
        conn.close()
