"""Applies the numbered SQL files to the database and reports their status."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg2
from psycopg2.extensions import connection, parse_dsn

from alerts import db
from alerts.migrations.apply import Report, Run, Timeouts
from alerts.migrations.errors import error_summary
from alerts.migrations.files import MigrationError, load_migrations
from alerts.migrations.records import MigrationStatus, compare, read_records

__all__ = [
    "DEFAULT_TIMEOUTS",
    "MIGRATIONS_DIR",
    "MigrationError",
    "MigrationStatus",
    "Timeouts",
    "load_migrations",
    "migrate",
    "status",
    "status_of",
]

MIGRATIONS_DIR = Path(__file__).resolve().parents[2] / "sql"
APPLICATION_NAME = "alerts-migrate"
DEFAULT_TIMEOUTS = Timeouts()
# The same rule as in :mod:`alerts.migrations.apply`.
_WHERE_FILES_GO = """
SELECT set_config('search_path', 'public', TRUE)
FROM pg_settings
WHERE name = 'search_path' AND source <> 'client'
"""


def migrate(
    database_url: str,
    directory: Path = MIGRATIONS_DIR,
    *,
    report: Report = lambda _line: None,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    dry_run: bool = False,
) -> list[str]:
    """Apply the pending files in order and return the names of those this call applied.

    ``report`` receives one line per file. With ``dry_run``, all pending files run in one
    transaction that is rolled back. Raises :class:`MigrationError`; files applied before the error
    stay applied.
    """
    migrations = load_migrations(directory)
    with _connected(database_url) as conn:
        if _status(conn, directory).ok:
            return []
        run = Run(conn, migrations, report, timeouts)
        return run.rehearse() if dry_run else run.apply()


def status(conn: connection, directory: Path = MIGRATIONS_DIR) -> MigrationStatus:
    """Compare the files with the database, read-only and in at most two statements.

    Raises :class:`MigrationError` if the files are out of order or the table belongs to another
    tool, and psycopg2.Error if the database does not answer.
    """
    with conn.cursor() as cur:
        return compare(load_migrations(directory), read_records(cur))


def status_of(database_url: str, directory: Path = MIGRATIONS_DIR) -> MigrationStatus:
    """:func:`status` over a new connection; every failure is a :class:`MigrationError`."""
    with _connected(database_url) as conn:
        return _status(conn, directory)


def _status(conn: connection, directory: Path) -> MigrationStatus:
    """:func:`status` in the schema where the files would be applied, whatever the role default."""
    with db.transaction(conn):
        db.execute(conn, _WHERE_FILES_GO)
        return status(conn, directory)


@contextmanager
def _connected(database_url: str) -> Iterator[connection]:
    conn = _connect(database_url)
    try:
        yield conn
    except psycopg2.Error as error:
        raise MigrationError(error_summary(error)) from None  # its text may contain values
    finally:
        conn.close()


def _connect(database_url: str) -> connection:
    """Raises :class:`MigrationError`, which names host, port and database, never the password."""
    problem = db.problem_of_url(database_url)
    if problem:
        raise MigrationError(f"DATABASE_URL {problem}")
    parts = parse_dsn(database_url)
    try:
        return db.connect(
            database_url, application_name=APPLICATION_NAME, wait_seconds=db.WAKE_SECONDS
        )
    except psycopg2.Error as error:
        text = str(error).strip()
        if any(form in text for form in _forms(parts.get("password", ""))):
            text = "the server's message is not shown because it contains the password"
        raise MigrationError(
            f"cannot connect to the database: {text}\n"
            "Check the host, port, name and user in DATABASE_URL, and that the server is up."
        ) from None


def _forms(password: str) -> tuple[str, ...]:
    """Return the forms in which a server may echo the password: plain, URL-encoded, base64."""
    if not password:
        return ()
    encoded = b64encode(password.encode()).decode().rstrip("=")
    return password, quote(password), quote(password, safe=""), encoded
