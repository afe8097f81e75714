"""Phase locks: only one runner at a time executes a phase, on any machine.

These are session advisory locks on a dedicated connection. They end with that connection, so a
killed runner leaves none behind and no engine transaction can release them by accident.
"""

from __future__ import annotations

import hashlib
import select
from collections.abc import Callable
from contextlib import suppress

import psycopg2

from alerts import db

UNLOCK_SECONDS = 1.0
LOCK_NOT_ACQUIRED = "lock_not_acquired"  # why a phase was skipped: somebody else does it

# Who holds a lock, as far as the role may see it: another role's application is NULL.
_HOLDER = """
SELECT l.pid, a.application_name, a.backend_start
FROM pg_locks AS l
LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory'
  AND l.granted
  AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (l.classid::bigint << 32) | l.objid::bigint = %(number)s
LIMIT 1
"""


class LockLost(Exception):
    """The lock's connection ended; another runner may hold the lock by now."""


def lock_number(key: str) -> int:
    """Hash the key to the signed 64-bit number that an advisory lock takes."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big", signed=True)


def holder(conn: db.Connection, key: str) -> db.Row | None:
    """``pid``, ``application_name`` and ``backend_start`` of who holds the lock now."""
    return db.fetch_one(conn, _HOLDER, {"number": lock_number(key)})


class PhaseLocks:
    """Takes and checks the locks; connects with ``open_connection`` when first needed."""

    def __init__(self, open_connection: Callable[[], db.Connection]) -> None:
        self._open_connection = open_connection
        self._conn: db.Connection | None = None
        self._held: list[int] = []

    def acquire(self, key: str, *, keep_others: bool = False) -> bool:
        """Try to take a lock without waiting; False if another runner holds it.

        Releases the locks taken earlier in the same round trip, unless ``keep_others`` is set.
        Raises ``psycopg2.Error`` if the database fails.
        """
        if self._conn is None or self._conn.closed:
            self._conn, self._held = self._open_connection(), []
        released = [] if keep_others else self._held
        number = lock_number(key)
        row = db.fetch_one(
            self._conn,
            """
            SELECT
                (SELECT count(pg_advisory_unlock(n)) FROM unnest(%s::bigint[]) AS held (n)),
                pg_try_advisory_lock(%s) AS acquired
            """,
            (released, number),
        )
        acquired = bool(row and row["acquired"])
        kept = self._held if keep_others else []
        self._held = [*kept, number] if acquired else kept
        return acquired

    def ensure_held(self) -> None:
        """Raise :class:`LockLost` if the lock's connection has ended.

        Normally costs no round trip: an idle connection has data to read only when the server
        announces the end of the session or sends a notice.
        """
        conn = self._conn
        if conn is None or conn.closed:
            raise LockLost
        readable, _, _ = select.select([conn], [], [], 0)
        if readable:
            try:
                db.execute(conn, "SELECT 1")  # fails if the session ended, not after a notice
            except psycopg2.Error as error:
                raise LockLost from error

    def close(self) -> None:
        """Release every lock and close the connection.

        Closing alone releases the locks only once the server notices it, so a run that starts
        immediately afterwards would find them taken.
        """
        if self._conn is None:
            return
        with suppress(psycopg2.Error):
            if self._held and not self._conn.closed:
                db.watched(self._conn, limit_seconds=UNLOCK_SECONDS)
                db.execute(self._conn, "SELECT pg_advisory_unlock_all()")
        with suppress(psycopg2.Error):
            self._conn.close()
