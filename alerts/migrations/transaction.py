"""The transaction that a migration runs in: alone, with its own settings, for a bounded time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psycopg2
import psycopg2.errors
from psycopg2.extensions import connection, cursor

from alerts.migrations.errors import (
    StatementFailed,
    explain_failure,
    explain_lock_wait,
    lock_holders,
)

# The first 64 bits of SHA-256("alerts_v2_migrations"), signed: every version deployed must
# take the same lock.
LOCK_KEY = 1784885692844659965

# A role's or database's own settings must not decide how a migration ends. The join leaves out
# what this version of the server does not know.
_SETTINGS = """
SELECT set_config(known.name, wanted.value, true)
FROM (VALUES
    ('lock_timeout', %(table_lock)s),
    ('statement_timeout', '0'),
    ('transaction_timeout', '0'),
    ('idle_in_transaction_session_timeout', '0'),
    ('timezone', 'UTC'),
    ('standard_conforming_strings', 'on'),  -- how a file is cut into statements assumes it
    ('client_min_messages', 'notice')
) AS wanted (name, value)
JOIN pg_settings AS known ON lower(known.name) = wanted.name
"""

Report = Callable[[str], None]


@dataclass(frozen=True)
class Timeouts:
    """Seconds: how long a statement waits for a locked table, and a run for another run."""

    table_lock: float = 5.0
    other_run: float = 60.0


DEFAULT_TIMEOUTS = Timeouts()


class _OtherRunStays(Exception):
    """Another migration run kept the lock until the end of our patience."""


@contextmanager
def exclusive_transaction(
    conn: connection, timeouts: Timeouts, report: Report, *, keep: bool
) -> Iterator[cursor]:
    """A cursor in a transaction that holds the migration lock; kept or rolled back at its end.

    Raises :class:`~alerts.migrations.files.MigrationError` for a failed statement and for a lock
    that does not come, after the rollback, when the server can be asked who stands in the way.
    """
    try:
        with conn.cursor() as cur, _transaction(conn, cur, keep=keep):
            cur.execute(_SETTINGS, {"table_lock": _milliseconds(timeouts.table_lock)})
            _take_lock(conn, cur, timeouts, report)
            yield cur
    # Neither is chained: the driver's text may quote rows.
    except StatementFailed as failed:
        raise explain_failure(failed, conn) from None
    except _OtherRunStays:
        raise explain_lock_wait(conn, LOCK_KEY, timeouts.other_run) from None


@contextmanager
def _transaction(conn: connection, cur: cursor, *, keep: bool) -> Iterator[None]:
    # The isolation level is given: under a stricter one, what another run recorded would stay
    # invisible after waiting for it.
    cur.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
    try:
        yield
        cur.execute("COMMIT" if keep else "ROLLBACK")
    except BaseException:
        with suppress(psycopg2.Error):  # a lost connection has rolled back
            conn.cursor().execute("ROLLBACK")
        raise


def _take_lock(conn: connection, cur: cursor, timeouts: Timeouts, report: Report) -> None:
    cur.execute("SELECT pg_try_advisory_xact_lock(%s)", (LOCK_KEY,))
    if cur.fetchone() == (True,):
        return
    report(
        f"waiting up to {timeouts.other_run:g} s for another migration run."
        f"{lock_holders(conn, LOCK_KEY)}"
    )
    _set_lock_timeout(cur, timeouts.other_run)
    try:
        cur.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK_KEY,))
    except psycopg2.errors.LockNotAvailable:
        raise _OtherRunStays from None
    _set_lock_timeout(cur, timeouts.table_lock)


def _set_lock_timeout(cur: cursor, seconds: float) -> None:
    cur.execute("SELECT set_config('lock_timeout', %s, true)", (_milliseconds(seconds),))


def _milliseconds(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"  # 0 would mean: wait for ever
