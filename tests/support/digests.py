"""Shared by the tests of phase D."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from psycopg2.extensions import connection as Connection

from tests.support.phases import utc
from tests.support.world import add_alert, add_delivery, query

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
# Windows around NOW, 8 March 2022 at 18:00 UTC. In winter, Amsterdam's days begin at 23:00 UTC.
TODAY = utc("2022-03-07 23:00")
YESTERDAY = TODAY - DAY
TOMORROW = TODAY + DAY


def add_waiting(
    conn: Connection,
    user_id: int,
    event_at: datetime,
    channel: str = "email",
    **columns: Any,
) -> int:
    """Insert a digest delivery of an event at that time and return its id."""
    event_id = add_alert(conn, created_at=event_at)
    row: dict[str, Any] = {"kind": "digest", "created_at": event_at} | columns
    return add_delivery(conn, user_id, event_id, channel, **row)


def digests(conn: Connection) -> dict[str, dict[str, Any]]:
    """Return the digests by key; `items` are the sorted ids of their deliveries."""
    rows = query(
        conn,
        "SELECT g.*, (SELECT coalesce(array_agg(i.delivery_id ORDER BY i.delivery_id), '{}')"
        " FROM user_alert_digest_items AS i WHERE i.digest_id = g.id) AS items"
        " FROM user_alert_digests AS g",
    )
    return {row["digest_key"]: row for row in rows}


def items(conn: Connection) -> dict[str, list[int]]:
    """Return the digests' deliveries by digest key."""
    return {key: row["items"] for key, row in digests(conn).items()}


def daily(user_id: int, day: str, channel: str = "email") -> str:
    """Return the key of a daily digest whose window starts at 23:00 UTC on `day`."""
    return f"{user_id}:{channel}:daily:{day}T23:00:00Z"


def batched(conn: Connection) -> set[int]:
    """Return the deliveries that are marked as batched."""
    rows = query(
        conn,
        "SELECT id FROM user_alert_deliveries"
        " WHERE status = 'skipped' AND failure_code = 'batched_into_digest'",
    )
    return {row["id"] for row in rows}
