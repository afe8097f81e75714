"""Phase locks: only one runner at a time executes a phase, on any machine.

A phase that several hosts may run at once has a lock for each of them, its slots. The locks are
session advisory locks on a dedicated connection. They end with that connection, so a killed runner
leaves none behind and no engine transaction can release them by accident.
"""

from __future__ import annotations

import hashlib
import select
from collections.abc import Callable, Sequence
from contextlib import suppress

import psycopg2

from alerts import db

UNLOCK_SECONDS = 1.0
LOCK_NOT_ACQUIRED = "lock_not_acquired"  # why a phase was skipped: somebody else does it

# Takes the first lock that is free and tries none behind it: each row of the recursion is computed
# from the one before, where a LIMIT leaves open how many rows are tried.
_ACQUIRE = """
WITH RECURSIVE released AS MATERIALIZED (
    SELECT count(pg_advisory_unlock(n)) AS locks FROM unnest(%(released)s::bigint[]) AS held (n)
),
tried AS (
    SELECT 0 AS slot, FALSE AS acquired FROM released
    UNION ALL
    SELECT slot + 1, pg_try_advisory_lock((%(numbers)s::bigint[])[slot + 1])
    FROM tried
    WHERE NOT acquired AND slot < cardinality(%(numbers)s::bigint[])
)
SELECT coalesce(max(slot) FILTER (WHERE acquired), 0) AS slot FROM tried
"""

# Who holds locks, as far as the role may see it: another role's application is NULL.
_HOLDERS = """
SELECT l.pid, a.application_name, a.backend_start
FROM pg_locks AS l
LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory'
  AND l.granted
  AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (l.classid::bigint << 32) | l.objid::bigint = ANY (%(numbers)s)
ORDER BY a.backend_start, l.pid
"""


class LockLost(Exception):
    """The lock's connection ended; another runner may hold the lock by now."""


def lock_number(key: str) -> int:
    """Hash the key to the signed 64-bit number that an advisory lock takes."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big", signed=True)


def holders(conn: db.Connection, keys: Sequence[str]) -> list[db.Row]:
    """``pid``, ``application_name`` and ``backend_start`` of each session that holds one of the
    locks now, the longest connected first."""
    return db.fetch_all(conn, _HOLDERS, {"numbers": [lock_number(key) for key in keys]})


class PhaseLocks:
    """Takes and checks the locks; connects with ``open_connection`` when first needed."""

    def __init__(self, open_connection: Callable[[], db.Connection]) -> None:
        self._open_connection = open_connection
        self._conn: db.Connection | None = None
        self._held: list[int] = []

    def acquire(self, *keys: str, keep_others: bool = False) -> int:
        """Try to take one of the locks without waiting: the first that is free.

        Returns its number, from 1; 0 if other runners hold them all. Releases the locks taken
        earlier in the same round trip, unless ``keep_others`` is set. Raises ``psycopg2.Error`` if
        the database fails.
        """
        if self._conn is None or self._conn.closed:
            self._conn, self._held = self._open_connection(), []
        released = [] if keep_others else self._held
        numbers = [lock_number(key) for key in keys]
        values = {"released": released, "numbers": numbers}
        slot = int(db.fetch_all(self._conn, _ACQUIRE, values)[0]["slot"])
        kept = self._held if keep_others else []
        self._held = [*kept, numbers[slot - 1]] if slot else kept
        return slot

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
