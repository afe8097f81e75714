"""Calls to the requeue for tests, and the codes they use."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.failures import FailureClass, codes_of
from alerts.repair import requeue
from alerts.repair.requeue import RetryRequest
from tests.support.queue_rows import TABLES
from tests.support.world import NOW, settings_for

HOUR = timedelta(hours=1)
MICROSECOND = timedelta(microseconds=1)
MAX_ATTEMPTS = 5
TRANSIENT = codes_of(FailureClass.TRANSIENT)
UNKNOWN = codes_of(FailureClass.UNKNOWN)
NEVER = (*codes_of(FailureClass.RECIPIENT), *codes_of(FailureClass.PAYLOAD))
KINDS = pytest.mark.parametrize("kind", list(TABLES))


def retry(
    conn: Connection,
    kind: str = "deliveries",
    *,
    now: datetime = NOW,
    environ: dict[str, str] | None = None,
    **request: Any,
) -> dict[str, Any]:
    """Make one call in its own transaction."""
    settings = settings_for("postgresql://unused", **(environ or {}))
    with db.transaction(conn):
        return requeue.retry_failed(
            conn, settings, RetryRequest(kind, **request), now=now, token_key_id="0123abcd"
        )


def outcome(answer: dict[str, Any]) -> tuple[int, int, dict[str, int]]:
    return answer["eligible"], answer["requeued"], answer["excluded"]
