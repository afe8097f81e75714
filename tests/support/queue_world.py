"""Rows in the send queue for tests, and their state."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.channels.base import Message
from tests.support.world import NOW, add_alert, add_delivery, lease, query, value


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
    """A daily digest whose items are deliveries of the events. Gives the id."""
    claimed = {
        name: columns.pop(name) for name in ("claimed_by", "claimed_until") if name in columns
    }
    row = {
        "user_id": user_id,
        "channel": channel,
        "period": "daily",
        "window_start": window_end - timedelta(days=1),
        "window_end": window_end,
        "digest_key": f"{user_id}:{channel}:daily:{window_end.isoformat()}",
        "status": "queued" if status == "sending" else status,
        "created_at": window_end,
        **columns,
    }
    names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
    text = f"INSERT INTO user_alert_digests ({names}) VALUES ({marks}) RETURNING id"
    digest_id: int = value(conn, text, *row.values())
    if status == "sending":
        lease(conn, [digest_id], source="digests", **claimed)
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
    """A row of the send queue as it stands, and the lease that holds it."""
    (row,) = query(
        conn,
        f"SELECT q.*, l.run_id AS claimed_by, l.until AS claimed_until FROM {table} AS q"
        f" LEFT JOIN alerts_leased AS l ON l.source = %s AND l.id = q.id WHERE q.id = %s",
        SOURCES[table], row_id,
    )  # fmt: skip
    if row["status"] == "queued" and row["claimed_by"] is not None:
        row["status"] = "sending"
    return row


def statuses(conn: Connection, table: str = "user_alert_deliveries") -> dict[str, int]:
    """How many rows there are by status, told as answers tell it: held by a lease is sending.

    Each queued row to send is in the queue or in one lease.
    """
    found = query(
        conn,
        f"SELECT CASE WHEN status = 'queued' AND held THEN 'sending' ELSE status END AS status,"
        f" count(*) AS n FROM (SELECT *, EXISTS (SELECT FROM alerts_leased AS l WHERE l.source = %s"
        f" AND l.id = q.id) AS held FROM {table} AS q) AS q GROUP BY 1",
        SOURCES[table],
    )
    return {row["status"]: row["n"] for row in found}


SOURCES = {"user_alert_deliveries": "deliveries", "user_alert_digests": "digests"}


def lapse(conn: Connection) -> None:
    """Lets every lease end, as two minutes do that nobody renews it."""
    db.execute(conn, "UPDATE alerts_leases SET until = now() - interval '1 s'")


def slow(seconds: float) -> Callable[[Message], str | None]:
    return lambda message: time.sleep(seconds)


Place = tuple[str, int]


def places(conn: Connection) -> tuple[dict[Place, Any], list[Place]]:
    """What stands in the send queue, with channel, due time and user; and what leases hold."""
    queue = query(conn, "SELECT source, id, channel, due_at, user_id FROM alerts_send_queue")
    held = query(conn, "SELECT source, id FROM alerts_leased ORDER BY source, id")
    return (
        {(r["source"], r["id"]): (r["channel"], r["due_at"], r["user_id"]) for r in queue},
        [(row["source"], row["id"]) for row in held],
    )


def to_send(conn: Connection) -> dict[Place, Any]:
    """What is to be sent by the rows alone, as :func:`places` tells it."""
    found: dict[Place, Any] = {}
    for row in query(conn, "SELECT * FROM user_alert_deliveries WHERE status = 'queued'"):
        if row["delivery_kind"] == "instant":
            due = max(filter(None, (row["created_at"], row["next_retry_at"])))
            found["deliveries", row["id"]] = (row["channel"], due, row["user_id"])
    for row in query(conn, "SELECT * FROM user_alert_digests WHERE status = 'queued'"):
        due = max(filter(None, (row["window_end"], row["next_retry_at"])))
        found["digests", row["id"]] = (row["channel"], due, row["user_id"])
    return found


def assert_each_in_its_place(conn: Connection) -> None:
    """Every row to be sent is in the queue as it is, or held by one lease; nothing else is in the
    queue; and exactly the queued digest deliveries wait."""
    queue, held = places(conn)
    assert len(held) == len(set(held))
    assert queue == {place: row for place, row in to_send(conn).items() if place not in held}
    waiting = query(conn, "SELECT user_id, delivery_id FROM alerts_digest_waiting")
    wanted = query(
        conn,
        "SELECT user_id, id AS delivery_id FROM user_alert_deliveries"
        " WHERE status = 'queued' AND delivery_kind = 'digest'",
    )
    assert sorted(map(str, waiting)) == sorted(map(str, wanted))
    assert value(conn, "SELECT count(*) FROM alerts_queue_differences()") == 0


def let_time_pass(conn: Connection) -> None:
    """Closed channels may be probed now."""
    db.execute(
        conn,
        "UPDATE alerts_channel_state SET closed_until = clock_timestamp()"
        " WHERE closed_until IS NOT NULL",
    )
