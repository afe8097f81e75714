"""Rows in the send queue for tests, and their state."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.channels.base import Message
from tests.support.world import NOW, add_alert, add_delivery, query, value


def add_digest(
    conn: Connection,
    user_id: int,
    event_ids: Iterable[int] = (),
    channel: str = "email",
    *,
    window_end: datetime = NOW - timedelta(hours=1),
    status: str = "queued",
    **columns: Any,
) -> int:
    """Insert a daily digest whose items are deliveries of the events, and return its id."""
    row = {
        "user_id": user_id,
        "channel": channel,
        "period": "daily",
        "window_start": window_end - timedelta(days=1),
        "window_end": window_end,
        "digest_key": f"{user_id}:{channel}:daily:{window_end.isoformat()}",
        "status": status,
        "created_at": window_end,
        **columns,
    }
    names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
    text = f"INSERT INTO user_alert_digests ({names}) VALUES ({marks}) RETURNING id"
    digest_id: int = value(conn, text, *row.values())
    for event_id in event_ids:
        item = add_delivery(
            conn,
            user_id,
            event_id,
            channel,
            kind="digest",
            status="skipped",
            failure_code="batched_into_digest",
        )
        db.execute(
            conn,
            "INSERT INTO user_alert_digest_items (digest_id, delivery_id) VALUES (%s, %s)",
            (digest_id, item),
        )
    return digest_id


def queue_instants(
    conn: Connection,
    count: int,
    channel: str = "email",
    *,
    created_at: datetime = NOW - timedelta(minutes=5),
) -> list[int]:
    """Insert due instant deliveries of one alert, each to its own user, and return their ids."""
    rows = query(
        conn,
        "WITH u AS (INSERT INTO users (email, telegram_chat_id, phone_number, email_verified)"
        " SELECT gen_random_uuid() || '@example.com', (5000000 + n)::text, '+316' || 10000000 + n,"
        " TRUE FROM generate_series(1, %s) AS n RETURNING id)"
        " INSERT INTO user_alert_deliveries"
        " (user_id, alert_event_id, channel, delivery_kind, status, created_at)"
        " SELECT id, %s, %s, 'instant', 'queued', %s FROM u RETURNING id",
        count,
        add_alert(conn),
        channel,
        created_at,
    )
    return sorted(row["id"] for row in rows)


def row_of(message: Message) -> int:
    """Return the id of the delivery or digest that a message was rendered for."""
    return int(message.key.split("-")[1])


def delivery(conn: Connection, row_id: int, table: str = "user_alert_deliveries") -> dict[str, Any]:
    """Return the current state of a row in the send queue."""
    return query(conn, f"SELECT * FROM {table} WHERE id = %s", row_id)[0]


def statuses(conn: Connection, table: str = "user_alert_deliveries") -> dict[str, int]:
    """Return the number of rows by status."""
    found = query(conn, f"SELECT status, count(*) AS n FROM {table} GROUP BY status")
    return {row["status"]: row["n"] for row in found}


def slow(seconds: float) -> Callable[[Message], str | None]:
    return lambda message: time.sleep(seconds)
