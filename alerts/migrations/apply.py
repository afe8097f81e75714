"""Applies migration files, each in its own transaction, one run at a time, with fixed settings.

A file's row in ``schema_migrations`` is written first, in the file's own transaction, so a second
deploy collides there at the latest. Every transaction begins by taking one advisory lock and
rereading the table, so concurrent deploys take turns file by file and each file is applied once.
The lock belongs to the transaction, not to the session: a session lock does not work behind a
transaction pooler, and a file could release it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psycopg2
import psycopg2.errors
from psycopg2.extensions import TRANSACTION_STATUS_INTRANS, connection, cursor

from alerts.migrations.errors import StatementFailed, explain_failure, lock_holders
from alerts.migrations.files import Migration, MigrationError
from alerts.migrations.records import add_record, compare, read_records

# The first 64 bits of SHA-256("alerts_v2_migrations"), signed. All deployed versions must take the
# same lock.
LOCK_KEY = 1784885692844659965

# The equivalent of DISCARD ALL within a transaction: whatever a file did to its session ends with
# its transaction, even if a pooler then gives the session to another client. Then the settings for
# migrations, since role or database defaults must not decide how a migration ends. The join skips
# settings that this server version does not have.
_FRESH_SESSION = """
CLOSE ALL; RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL; DEALLOCATE ALL; UNLISTEN *;
DISCARD PLANS; DISCARD TEMP; DISCARD SEQUENCES; SELECT pg_advisory_unlock_all();
SELECT set_config(known.name, wanted.value, true)
FROM (VALUES
    ('lock_timeout', %s),
    ('statement_timeout', '0'),
    ('transaction_timeout', '0'),
    ('idle_in_transaction_session_timeout', '0'),
    ('timezone', 'UTC'),
    ('client_encoding', 'UTF8'),
    ('standard_conforming_strings', 'on'),  -- splitting files into statements relies on it
    ('search_path', 'public'),  -- where the engine looks, unless the address sets another
    ('client_min_messages', 'notice')
) AS wanted (name, value)
JOIN pg_settings AS known ON lower(known.name) = wanted.name
WHERE known.name <> 'search_path' OR known.source <> 'client'
"""
# Check deferred constraints here rather than at COMMIT, so the error can name the file.
_END_OF_FILE = "SET CONSTRAINTS ALL IMMEDIATE; SELECT pg_current_xact_id_if_assigned()::text"
# IF [NOT] EXISTS raises this notice for every skipped object; it needs no action.
_DULL_NOTICE = re.compile(r"(already exists|does not exist), skipping\s*$")

Report = Callable[[str], None]


@dataclass(frozen=True)
class Timeouts:
    """How many seconds a statement waits for a locked table, and a run for another run."""

    table_lock: float = 5.0
    other_run: float = 60.0


@dataclass
class Run:
    """One run over a connection in autocommit mode; it begins every transaction itself.

    Raises :class:`MigrationError`, or psycopg2.Error if a statement outside the files failed.
    """

    conn: connection
    migrations: Sequence[Migration]
    report: Report
    timeouts: Timeouts

    def apply(self) -> list[str]:
        """Apply pending files one by one; another run may apply some of them in the meantime."""
        applied: list[str] = []
        while True:
            with self._transaction(end="COMMIT") as cur:
                pending = self._pending(cur)
                duration = self._execute(cur, pending[0]) if pending else 0.0
            if pending:  # and committed by now
                self.report(f"{pending[0].file_name}  applied in {duration:.0f} ms")
                applied.append(pending[0].name)
            if len(pending) <= 1:
                return applied

    def rehearse(self) -> list[str]:
        """Run all pending files in one transaction and roll it back."""
        with self._transaction(end="ROLLBACK") as cur:
            pending = self._pending(cur)
            for migration in pending:
                duration = self._execute(cur, migration)
                self.report(f"{migration.file_name}  would be applied (took {duration:.0f} ms)")
        return [migration.name for migration in pending]

    @contextmanager
    def _transaction(self, *, end: str) -> Iterator[cursor]:
        with self.conn.cursor() as cur:
            # Under a stricter isolation level, what another run recorded would remain invisible
            # even after waiting for it.
            cur.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
            try:
                _freshen_session(cur, self.timeouts.table_lock)
                self._take_lock(cur)
                yield cur
                cur.execute(end)
            except BaseException as error:
                with suppress(psycopg2.Error):  # a lost connection has already rolled back
                    self.conn.cursor().execute("ROLLBACK")
                if isinstance(error, StatementFailed):  # not chained: its text may quote rows
                    raise explain_failure(error, self.conn) from None
                raise

    def _take_lock(self, cur: cursor) -> None:
        cur.execute("SELECT pg_try_advisory_xact_lock(%s)", (LOCK_KEY,))
        if cur.fetchone() == (True,):
            return
        seconds = f"{self.timeouts.other_run:g} s"
        holders = lock_holders(self.conn, LOCK_KEY)
        self.report(f"waiting up to {seconds} for another migration run.{holders}")
        try:
            _freshen_session(cur, self.timeouts.other_run)
            cur.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK_KEY,))
            _freshen_session(cur, self.timeouts.table_lock)
        except psycopg2.errors.LockNotAvailable:
            cur.execute("ROLLBACK")  # otherwise the holders could not be queried
            raise MigrationError(
                f"another migration run has held the lock for more than {seconds}; this run "
                "applied nothing. Wait until the other has ended, then run again."
                f"{lock_holders(self.conn, LOCK_KEY)}"
            ) from None

    def _pending(self, cur: cursor) -> list[Migration]:
        """Return what is pending under the lock, after checking every file before any runs."""
        found = compare(self.migrations, read_records(cur, create=True))
        found.refuse_unless_consistent()
        pending = [m for m in self.migrations if m.name in found.pending]
        for migration in pending:
            migration.refuse_what_breaks_the_transaction()
        return pending

    def _execute(self, cur: cursor, migration: Migration) -> float:
        """Record and run one file, then clean up its session; returns its milliseconds."""
        started = time.monotonic()
        transaction_id = add_record(cur, migration)
        for statement in (*migration.statements, None):
            try:
                cur.execute(statement.text if statement else _END_OF_FILE)
            except psycopg2.Error as error:
                raise StatementFailed(migration, statement, error) from None
            finally:
                self._show_notices()
            ended = self.conn.info.transaction_status != TRANSACTION_STATUS_INTRANS
            if ended or (statement is None and cur.fetchone() != (transaction_id,)):
                # A safety net behind the check for such statements.
                raise MigrationError(
                    f"{migration.file_name} ended its transaction: part of it may be applied, and "
                    "its row in schema_migrations may remain. Compare the database with the "
                    "file, and remove the statement that ends the transaction."
                )
        _freshen_session(cur, self.timeouts.table_lock)
        return (time.monotonic() - started) * 1000

    def _show_notices(self) -> None:
        for notice in self.conn.notices:
            if not _DULL_NOTICE.search(notice):
                self.report(f"  {notice.rstrip()}")
        self.conn.notices.clear()


def _freshen_session(cur: cursor, lock_timeout: float) -> None:
    milliseconds = max(1, round(lock_timeout * 1000))  # 0 would mean no timeout
    cur.execute(_FRESH_SESSION, (f"{milliseconds}ms",))
