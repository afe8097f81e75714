"""Answers the admin endpoints' questions directly from the database, without the web server."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from alerts import db
from alerts.clock import Clock
from alerts.questions import Answer, Caller, Question
from alerts.settings.config import Settings, require_database_url

TIMEOUT_MS = 30_000
KEY_ID = "cli"  # shown in the audit, where requests show their token's key id


def ask(question: Question, settings: Settings, **values: Any) -> Answer:
    """Answer the question on a new connection; raises what the question raises."""
    with (
        closing(connect(settings)) as conn,
        db.web_transaction(conn, read_only=not question.writes, statement_timeout_ms=TIMEOUT_MS),
    ):
        return question.ask(conn, caller(settings), **values)


def caller(settings: Settings) -> Caller:
    """The command line as a caller."""
    return Caller(settings, Clock(settings.clock).now(), KEY_ID)


def connect(settings: Settings) -> db.Connection:
    """Open a connection. Raises ``psycopg2.Error``."""
    return db.connect(
        require_database_url(settings),
        application_name="alerts-admin",
        wait_seconds=db.WAKE_SECONDS,
    )


def open_session(settings: Settings) -> db.Connection:
    """Open a session for statements outside a transaction.

    Raises ``psycopg2.Error`` and :class:`alerts.db.PoolerDetected`.
    """
    return db.open_session(
        require_database_url(settings),
        application_name="alerts-admin",
        statement_timeout_ms=TIMEOUT_MS,
        wait_seconds=db.WAKE_SECONDS,
    )
