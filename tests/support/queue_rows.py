"""Rows in the two send queues, for tests of health and requeueing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg2.extensions import connection as Connection

from tests.support.world import NOW, add_alert, add_delivery, add_user, lease, value

DAY = timedelta(hours=24)
TABLES = {"deliveries": "user_alert_deliveries", "digests": "user_alert_digests"}


def add_digest(
    conn: Connection,
    user_id: int,
    channel: str = "email",
    *,
    status: str = "queued",
    window_end: datetime = NOW - timedelta(hours=1),
    created_at: datetime = NOW - timedelta(minutes=5),
    **columns: Any,
) -> None:
    """Insert a digest with the columns that the checks on its status require."""
    needed: dict[str, Any] = {
        "sent": {"sent_at": created_at},
        "failed": {"failed_at": created_at, "failure_code": "network"},
    }.get(status, {})
    claimed = {
        name: columns.pop(name) for name in ("claimed_by", "claimed_until") if name in columns
    }
    row = {
        "user_id": user_id,
        "channel": channel,
        "period": "daily",
        "window_start": window_end - DAY,
        "window_end": window_end,
        "status": "queued" if status == "sending" else status,
        "created_at": created_at,
        **needed,
        **columns,
    }
    names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
    digest_id = value(
        conn,
        f"INSERT INTO user_alert_digests ({names}, digest_key)"
        f" VALUES ({marks}, gen_random_uuid()::text) RETURNING id",
        *row.values(),
    )
    if status == "sending":
        until = {"claimed_until": datetime.now(UTC) + DAY, **claimed}
        lease(conn, [digest_id], source="digests", **until)


class Rows:
    """Inserts rows into one of the two queues, each with its own user and event."""

    def __init__(self, conn: Connection, kind: str = "deliveries") -> None:
        self.conn = conn
        self.kind = kind

    def add(self, status: str = "failed", channel: str = "email", **columns: Any) -> int:
        """Insert a row; by default, a failed one failed a minute ago on its first attempt with a
        transient code."""
        row = {"attempts": 1, "created_at": NOW - timedelta(minutes=2), **columns}
        if status == "failed":
            row = {"failed_at": NOW - timedelta(minutes=1), "failure_code": "network", **row}
        user = add_user(self.conn)
        if status == "sending":
            claimed = {name: row.pop(name) for name in ("claimed_by", "claimed_until")}
            row_id = self.add("queued", channel, **row)
            lease(self.conn, [row_id], source=self.kind, **claimed)
            return row_id
        if self.kind == "deliveries":
            return add_delivery(
                self.conn, user, add_alert(self.conn), channel, status=status, **row
            )
        row = {"window_end": NOW - timedelta(minutes=5), **row}
        row |= {"window_start": row["window_end"] - timedelta(days=1)}
        names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
        row_id: int = value(
            self.conn,
            f"INSERT INTO user_alert_digests (user_id, channel, status, period, digest_key,"
            f" {names}) VALUES (%s, %s, %s, 'daily', gen_random_uuid()::text, {marks})"
            f" RETURNING id",
            user,
            channel,
            status,
            *row.values(),
        )
        return row_id

    def status(self, row_id: int) -> str:
        status: str = value(
            self.conn, f"SELECT status FROM {TABLES[self.kind]} WHERE id = %s", row_id
        )
        return status
