"""Connecting to PostgreSQL, and transactions.

Every connection is in autocommit and a transaction is something one opens: a statement of its
own then costs one round trip, not three.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg2
from psycopg2.errors import UndefinedColumn, UndefinedTable
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, connection

Connection = connection
Row = dict[str, Any]
Params = Mapping[str, Any] | Sequence[Any] | None

# A peer that vanished is noticed within about ten seconds even where packets are swallowed:
# keepalives cover waiting for an answer, the user timeout covers unacknowledged data.
_SOCKET_OPTIONS: dict[str, Any] = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 10_000,
}


MIGRATE = "run python scripts/migrate.py"  # what to do where :func:`lacks_migrations`


class PoolerDetected(Exception):
    """The database is reached through a transaction pooler, where session locks do not hold."""

    def __init__(self) -> None:
        super().__init__(
            "DATABASE_URL goes through a connection pooler, where the engine's locks and session "
            "settings do not hold; set it to the database's direct address for the runner"
        )


def lacks_migrations(error: BaseException) -> bool:
    """Whether a statement failed for a table or column that a migration has yet to make."""
    return isinstance(error, (UndefinedTable, UndefinedColumn))


def connect(database_url: str, *, application_name: str, connect_timeout: int = 5) -> Connection:
    """A connection in autocommit without any session setting, as a pooler can serve it.

    Times out after ``connect_timeout`` seconds (libpq takes no less than 2). Raises
    ``psycopg2.OperationalError``.
    """
    conn: Connection = psycopg2.connect(
        database_url,
        application_name=application_name,
        connect_timeout=connect_timeout,
        client_encoding="UTF8",  # texts are, whatever the database or PGCLIENTENCODING says
        **_SOCKET_OPTIONS,
    )
    conn.autocommit = True
    return conn


def open_session(
    database_url: str,
    *,
    application_name: str,
    connect_timeout: int = 5,
    statement_timeout_ms: int = 0,
    lock_timeout_ms: int = 0,
) -> Connection:
    """A connection of the runner's own: UTC whatever the role says, with timeouts (0: none).

    Its working memory lets the set-based statements keep their sets out of temporary files; its
    page cost is that of the SSDs databases live on, or a claim reads small tables from end to end.

    Raises :class:`PoolerDetected` when a pooler stands in front: the backend that answers is
    then not the one the connection was given. The settings are made in the same statement and
    only when the two agree, so nothing is left behind in a pool.
    """
    conn = connect(database_url, application_name=application_name, connect_timeout=connect_timeout)
    try:
        row = fetch_one(
            conn,
            """
            SELECT
                set_config('TimeZone', 'UTC', FALSE),
                set_config('work_mem', '32MB', FALSE),
                set_config('random_page_cost', '1.1', FALSE),
                set_config('statement_timeout', %(statement)s, FALSE),
                set_config('lock_timeout', %(lock)s, FALSE)
            WHERE pg_backend_pid() = %(given)s
            """,
            {
                "statement": str(statement_timeout_ms),
                "lock": str(lock_timeout_ms),
                "given": conn.get_backend_pid(),
            },
        )
        if row is None:
            raise PoolerDetected
    except BaseException:
        conn.close()
        raise
    return conn


def cancel_statement(database_url: str, backend_pid: int) -> None:
    """End the statement that another connection of ours waits for.

    Not by the driver's own cancel: that one keeps the interpreter to itself until the network
    answers. Raises ``psycopg2.Error``.
    """
    conn = connect(database_url, application_name="alerts-cancel", connect_timeout=2)
    try:
        execute(conn, "SELECT pg_cancel_backend(%s)", (backend_pid,))
    finally:
        conn.close()


@contextmanager
def transaction(conn: Connection) -> Iterator[None]:
    """All or nothing: BEGIN and COMMIT, or a savepoint where a transaction is open already.

    So a phase runs unchanged inside the one transaction of a dry run.
    """
    begin, commit, rollback = ("BEGIN", "COMMIT", "ROLLBACK")
    if conn.info.transaction_status != TRANSACTION_STATUS_IDLE:
        begin, commit = ("SAVEPOINT step", "RELEASE SAVEPOINT step")
        rollback = "ROLLBACK TO SAVEPOINT step; RELEASE SAVEPOINT step"
    execute(conn, begin)
    try:
        yield
    except BaseException:
        with suppress(psycopg2.Error):  # a dead connection has rolled back already
            execute(conn, rollback)
        raise
    execute(conn, commit)


@contextmanager
def web_transaction(
    conn: Connection, *, read_only: bool, statement_timeout_ms: int
) -> Iterator[None]:
    """A transaction that carries its own settings, so that it works through a pooler too.

    A reading one sees a single snapshot: figures of several statements belong together.
    """
    mode = "ISOLATION LEVEL REPEATABLE READ READ ONLY" if read_only else "READ WRITE"
    execute(
        conn,
        f"BEGIN {mode}; SET LOCAL TimeZone = 'UTC'; "
        f"SET LOCAL statement_timeout = {statement_timeout_ms:d}; SET LOCAL lock_timeout = 2000",
    )
    try:
        yield
    except BaseException:
        with suppress(psycopg2.Error):
            execute(conn, "ROLLBACK")
        raise
    execute(conn, "COMMIT")


def execute(conn: Connection, query: Any, params: Params = None) -> int:
    """Run a statement; the number of rows it touched."""
    with conn.cursor() as cursor:
        cursor.execute(query, params)
        return cursor.rowcount


def fetch_all(conn: Connection, query: Any, params: Params = None) -> list[Row]:
    """Run a statement; its rows as dictionaries."""
    with conn.cursor() as cursor:  # the driver's dictionary rows cost four times as much
        cursor.execute(query, params)
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def fetch_one(conn: Connection, query: Any, params: Params = None) -> Row | None:
    """Run a statement that gives at most one row."""
    rows = fetch_all(conn, query, params)
    return rows[0] if rows else None
