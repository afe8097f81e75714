"""Applying the numbered SQL files to the database, and telling what is applied.

Each file runs in one transaction together with its row in ``schema_migrations``, which is
written first: a second deploy collides there at the latest. Every such transaction begins by
taking one advisory lock and reading the table again, so deploys that run at once take turns
file by file, and each file is applied once. The lock belongs to the transaction, not to the
session: behind a transaction pooler a session's lock is worth nothing and is never given back.
"""

from __future__ import annotations

import re
import time
from base64 import b64encode
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import quote

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_INTRANS, connection, cursor, parse_dsn

from alerts import db
from alerts.migrations.errors import StatementFailed, error_summary
from alerts.migrations.files import Migration, MigrationError, load_migrations
from alerts.migrations.records import (
    MigrationState,
    MigrationStatus,
    add_record,
    adopt_records,
    compare,
    ensure_table,
    read_records,
    select_records,
)
from alerts.migrations.statements import Statement
from alerts.migrations.transaction import (
    DEFAULT_TIMEOUTS,
    Report,
    Timeouts,
    exclusive_transaction,
)

__all__ = [
    "DEFAULT_TIMEOUTS",
    "MIGRATIONS_DIR",
    "MigrationError",
    "MigrationState",
    "MigrationStatus",
    "Timeouts",
    "migrate",
    "status",
    "status_of",
]

MIGRATIONS_DIR = Path(__file__).resolve().parents[2] / "sql"
APPLICATION_NAME = "alerts-migrate"

# Deferred constraints are checked here and not by COMMIT, so that the error has a file.
_END_OF_FILE = "SET CONSTRAINTS ALL IMMEDIATE; SELECT pg_current_xact_id_if_assigned()::text"
_BAD_ADDRESS = (
    "DATABASE_URL is not an address that PostgreSQL's client understands (it is not shown). It "
    "takes postgresql://user:password@host:5432/name; in the password @ : / ? # % must be "
    "percent-encoded (@ is %40)."
)
# IF NOT EXISTS says so of every object that is there already: nothing to act on.
_DULL_NOTICE = re.compile(r"(already exists|does not exist), skipping\s*$")


def _say_nothing(_line: str) -> None:
    return


def migrate(
    database_url: str,
    directory: Path = MIGRATIONS_DIR,
    *,
    report: Report = _say_nothing,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    dry_run: bool = False,
) -> list[str]:
    """Apply the pending files in order; the names of those that this call applied.

    ``report`` gets a line a file. With ``dry_run`` all pending files run in one transaction
    that is rolled back. Raises :class:`MigrationError`; files applied before it stay applied.
    """
    migrations = load_migrations(directory)
    conn = _connect(database_url)
    try:
        found = compare(migrations, read_records(conn))
        found.refuse_unless_consistent()
        for migration in migrations:
            if migration.name in found.pending:
                migration.refuse_what_breaks_the_transaction()
        if found.ok and not found.unchecked:
            return []
        run = _Run(conn, migrations, report, timeouts)
        return run.rehearse() if dry_run else run.apply()
    except psycopg2.Error as error:
        raise MigrationError(error_summary(error)) from None  # its text may hold values
    finally:
        conn.close()


def status(conn: connection, directory: Path = MIGRATIONS_DIR) -> MigrationStatus:
    """How the files and the database compare; reads only, in at most two statements.

    Raises :class:`MigrationError` when the files are out of order, psycopg2.Error when the
    database does not answer.
    """
    return compare(load_migrations(directory), read_records(conn))


def status_of(database_url: str, directory: Path = MIGRATIONS_DIR) -> MigrationStatus:
    """:func:`status` over a connection of its own; every failure is a :class:`MigrationError`."""
    conn = _connect(database_url)
    try:
        return status(conn, directory)
    except psycopg2.Error as error:
        raise MigrationError(error_summary(error)) from None
    finally:
        conn.close()


class _Run:
    """One run over a connection in autocommit mode; every transaction is begun here."""

    def __init__(
        self,
        conn: connection,
        migrations: Sequence[Migration],
        report: Report,
        timeouts: Timeouts,
    ) -> None:
        self._conn = conn
        self._migrations = migrations
        self._report = report
        self._timeouts = timeouts

    def apply(self) -> list[str]:
        """Apply pending files one by one; another run may apply some of them meanwhile."""
        applied: list[str] = []
        while True:
            with self._transaction(keep=True) as cur:
                pending = self._pending(cur)
                duration = self._execute(cur, pending[0]) if pending else 0.0
            if not pending:
                return applied
            # Only now it is committed.
            self._report(f"{pending[0].file_name}  applied in {duration:.0f} ms")
            applied.append(pending[0].name)
            if len(pending) == 1:
                return applied

    def rehearse(self) -> list[str]:
        """Run all pending files in one transaction and roll it back."""
        with self._transaction(keep=False) as cur:
            pending = self._pending(cur)
            for migration in pending:
                duration = self._execute(cur, migration)
                self._report(f"{migration.file_name}  would be applied (took {duration:.0f} ms)")
        return [migration.name for migration in pending]

    def _transaction(self, *, keep: bool) -> AbstractContextManager[cursor]:
        return exclusive_transaction(self._conn, self._timeouts, self._report, keep=keep)

    def _pending(self, cur: cursor) -> list[Migration]:
        """What is pending now that the lock is held; brings the bookkeeping table up to date."""
        ensure_table(cur)
        records = select_records(cur)
        found = compare(self._migrations, records)
        found.refuse_unless_consistent()
        for migration in adopt_records(cur, self._migrations, records):
            self._report(f"{migration.file_name}  recorded by an older tool: taken as applied")
        return [m for m in self._migrations if m.name in found.pending]

    def _execute(self, cur: cursor, migration: Migration) -> float:
        """Record and run one file; the milliseconds it took."""
        started = time.monotonic()
        transaction_id = add_record(cur, migration)
        for statement in migration.statements:
            self._run_statement(cur, migration, statement.text, statement)
        self._run_statement(cur, migration, _END_OF_FILE, None)
        if cur.fetchone() != (transaction_id,):
            raise _left_its_transaction(migration)
        return (time.monotonic() - started) * 1000

    def _run_statement(
        self, cur: cursor, migration: Migration, sql: str, statement: Statement | None
    ) -> None:
        try:
            cur.execute(sql)
        except psycopg2.Error as error:
            raise StatementFailed(migration, statement, error) from None
        finally:
            self._show_notices()
        if self._conn.info.transaction_status != TRANSACTION_STATUS_INTRANS:
            raise _left_its_transaction(migration)

    def _show_notices(self) -> None:
        for notice in self._conn.notices:
            if not _DULL_NOTICE.search(notice):
                self._report(f"  {notice.rstrip()}")
        self._conn.notices.clear()


def _left_its_transaction(migration: Migration) -> MigrationError:
    # Files are searched for such statements before they run; this is the net below that.
    return MigrationError(
        f"{migration.file_name} ended its transaction: part of it may be applied, and its row in "
        "schema_migrations may be kept. Compare the database with the file, and remove what ends "
        "the transaction."
    )


def _connect(database_url: str) -> connection:
    """A connection for migrating.

    Raises :class:`MigrationError`, whose text names host, port and database, never the password.
    """
    try:
        parts = parse_dsn(database_url)
    except psycopg2.ProgrammingError:  # quotes the whole address
        raise MigrationError(_BAD_ADDRESS) from None
    # Where a raw @ or / in the password cuts the address wrongly, pieces of the password land
    # in these, and libpq's messages quote them.
    misplaced = "@" in parts.get("host", "") + parts.get("dbname", "")
    if misplaced or not set(parts.get("port", "")) <= set("0123456789,"):
        raise MigrationError(_BAD_ADDRESS)
    try:
        return db.connect(
            database_url, application_name=APPLICATION_NAME, wait_seconds=db.WAKE_SECONDS
        )
    except psycopg2.Error as error:
        text = str(error).strip()
        if any(form in text for form in _forms(parts.get("password", ""))):
            text = "the server's words are not shown, since they hold the password"
        raise MigrationError(
            f"cannot connect to the database: {text}\n"
            "Check the host, port, name and user in DATABASE_URL, and that the server is up."
        ) from None


def _forms(password: str) -> tuple[str, ...]:
    """How a server may repeat the password: as it is, URL-encoded, in base64."""
    if not password:
        return ()
    encoded = b64encode(password.encode()).decode().rstrip("=")
    return password, quote(password), quote(password, safe=""), encoded
