"""Statements and transactions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg2
from psycopg2.errors import (
    FeatureNotSupported,
    ReadOnlySqlTransaction,
    UndefinedColumn,
    UndefinedTable,
)
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, connection

from alerts.db import settings
from alerts.db.errors import WrongServer
from alerts.db.watch import watched

Connection = connection
Row = dict[str, Any]
Params = Mapping[str, Any] | Sequence[Any] | None

MIGRATE = "run python scripts/migrate.py"  # the hint when :func:`lacks_migrations` is true

BEGIN_SECONDS = 2.0
# How much longer than the server's own timeout we wait for the server to report it.
GRACE_SECONDS = 3.0
WEB_LOCK_TIMEOUT_MS = 2000


def lacks_migrations(error: BaseException) -> bool:
    """Whether a statement failed because a table or column has not been migrated yet."""
    return isinstance(error, (UndefinedTable, UndefinedColumn))


@contextmanager
def transaction(conn: Connection) -> Iterator[None]:
    """All or nothing: BEGIN and COMMIT, or a savepoint if a transaction is already open.

    The savepoint lets a phase run unchanged inside a dry run's single transaction.
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
    """A transaction that carries its own settings, so that it also works through a pooler.

    BEGIN is no work for the server, so a hung server is detected there within seconds; the other
    statements get the server's timeout. Raises :class:`NoAnswer`, and :class:`WrongServer` on a
    standby that the address did not ask for.
    """
    try:
        _begin_web(conn, read_only, statement_timeout_ms)
        yield
    except BaseException:
        with suppress(psycopg2.Error):
            execute(conn, "ROLLBACK")
        raise
    execute(conn, "COMMIT")


def _begin_web(conn: Connection, read_only: bool, statement_timeout_ms: int) -> None:
    begin = settings.begin_transaction(
        conn, read_only=read_only, statement_ms=statement_timeout_ms, lock_ms=WEB_LOCK_TIMEOUT_MS
    )
    watched(conn, limit_seconds=BEGIN_SECONDS)
    try:
        row = fetch_one(conn, begin)
    except (ReadOnlySqlTransaction, FeatureNotSupported) as error:  # BEGIN READ WRITE on a standby
        raise WrongServer from error
    watched(conn, limit_seconds=statement_timeout_ms / 1000 + GRACE_SECONDS)
    if row and row["standby"] and not getattr(conn, "standby_ok", False):
        raise WrongServer


def execute(conn: Connection, query: Any, params: Params = None) -> int:
    """Run a statement and return the number of affected rows."""
    with conn.cursor() as cursor:
        cursor.execute(query, params)
        return cursor.rowcount


def fetch_all(conn: Connection, query: Any, params: Params = None) -> list[Row]:
    """Run a statement and return its rows as dictionaries."""
    with conn.cursor() as cursor:  # the driver's dictionary rows cost four times as much
        cursor.execute(query, params)
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def fetch_one(conn: Connection, query: Any, params: Params = None) -> Row | None:
    """Run a statement and return its first row, or None."""
    rows = fetch_all(conn, query, params)
    return rows[0] if rows else None


def json_text(value: Any) -> str:
    """Serialize a JSON parameter without escaping non-ASCII characters: if the database's encoding
    is not UTF-8, the server refuses such escapes."""
    return json.dumps(value, ensure_ascii=False)
