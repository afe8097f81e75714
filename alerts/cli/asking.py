"""Asking the database what the admin endpoints answer, without the server."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from alerts import db
from alerts.clock import Clock
from alerts.questions import Answer, Caller, Question
from alerts.settings.config import Settings, require_database_url

TIMEOUT_MS = 30_000
KEY_ID = "cli"  # in the audit, where requests have the key id of their token


def ask(question: Question, settings: Settings, **values: Any) -> Answer:
    """The answer, on a connection of its own; raises what the question raises."""
    with (
        closing(connect(settings)) as conn,
        db.web_transaction(conn, read_only=not question.writes, statement_timeout_ms=TIMEOUT_MS),
    ):
        return question.ask(conn, caller(settings), **values)


def caller(settings: Settings) -> Caller:
    """The command line."""
    return Caller(settings, Clock(settings.clock).now(), KEY_ID)


def connect(settings: Settings) -> db.Connection:
    """A connection of its own. Raises ``psycopg2.Error``."""
    return db.connect(
        require_database_url(settings),
        application_name="alerts-admin",
        wait_seconds=db.WAKE_SECONDS,
    )


def open_session(settings: Settings) -> db.Connection:
    """A session of its own, for statements that stand alone.

    Raises ``psycopg2.Error`` and :class:`alerts.db.PoolerDetected`.
    """
    return db.open_session(
        require_database_url(settings),
        application_name="alerts-admin",
        statement_timeout_ms=TIMEOUT_MS,
        wait_seconds=db.WAKE_SECONDS,
    )
