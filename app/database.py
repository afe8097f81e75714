"""The web app's connections: one kept by each thread, which also works through a pooler."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import psycopg2

from alerts import db

STATEMENT_TIMEOUT_MS = 10_000
PING_SECONDS = 2.0
_GONE = (psycopg2.OperationalError, psycopg2.InterfaceError)


class Database:
    """Transactions for requests. Connects when first needed, so the app starts without one."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._local = threading.local()
        # One thread for pings: while one hangs on a dead network the next ones do not pile up.
        self._pings = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ping")

    @contextmanager
    def transaction(self, *, read_only: bool = True) -> Iterator[db.Connection]:
        """A transaction on this thread's connection. Raises ``psycopg2.Error``.

        A kept connection that the server has dropped meanwhile shows only when it is used: it
        is replaced once, before anything was done on it.
        """
        with ExitStack() as stack:
            try:
                conn = self._connection()
                stack.enter_context(_begin(conn, read_only=read_only))
            except _GONE:
                self._drop()
                conn = self._connection()
                stack.enter_context(_begin(conn, read_only=read_only))
            yield conn

    def answers(self) -> bool:
        """Does the database answer within two seconds?"""
        ping = self._pings.submit(self._ping)
        try:
            return ping.result(timeout=PING_SECONDS)
        except (psycopg2.Error, TimeoutError):
            ping.cancel()  # one that still waits for its turn would only make others wait
            return False

    def _ping(self) -> bool:
        with self.transaction() as conn:
            return db.fetch_one(conn, "SELECT 1 AS one") is not None

    def _connection(self) -> db.Connection:
        conn: db.Connection | None = getattr(self._local, "conn", None)
        if conn is None or conn.closed:
            conn = db.connect(self._database_url, application_name="alerts-web", connect_timeout=3)
            self._local.conn = conn
        return conn

    def _drop(self) -> None:
        conn: db.Connection | None = getattr(self._local, "conn", None)
        self._local.conn = None
        if conn is not None:
            with suppress(psycopg2.Error):
                conn.close()


def _begin(conn: db.Connection, *, read_only: bool) -> ExitStack:
    stack = ExitStack()
    stack.enter_context(
        db.web_transaction(conn, read_only=read_only, statement_timeout_ms=STATEMENT_TIMEOUT_MS)
    )
    return stack
