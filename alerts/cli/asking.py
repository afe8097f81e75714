"""Asking the database what the admin endpoints answer, without the server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

from alerts import db
from alerts.settings.config import Settings, require_database_url

Question = Callable[[db.Connection], dict[str, Any] | None]
TIMEOUT_MS = 30_000
CLI_KEY_ID = "cli"  # in the audit, where requests have the key id of their token


def ask(settings: Settings, question: Question, *, read_only: bool = True) -> dict[str, Any] | None:
    """The answer from within one transaction of a connection of its own.

    Raises ``psycopg2.Error``.
    """
    with (
        closing(_connect(settings)) as conn,
        db.web_transaction(conn, read_only=read_only, statement_timeout_ms=TIMEOUT_MS),
    ):
        return question(conn)


def ask_directly(settings: Settings, question: Question) -> dict[str, Any] | None:
    """The same with each statement standing alone, on a session of the runner's own.

    Raises :class:`alerts.db.PoolerDetected` too.
    """
    with closing(
        db.open_session(
            require_database_url(settings),
            application_name="alerts-admin",
            statement_timeout_ms=TIMEOUT_MS,
            wait_seconds=db.WAKE_SECONDS,
        )
    ) as conn:
        return question(conn)


def _connect(settings: Settings) -> db.Connection:
    return db.connect(
        require_database_url(settings),
        application_name="alerts-admin",
        wait_seconds=db.WAKE_SECONDS,
    )
