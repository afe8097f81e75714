"""The counts that the database stores for health, and their expected values."""

from __future__ import annotations

import math
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from alerts import db
from tests.support.world import add_alert, add_user, query, value

SIZES = {
    "minute": timedelta(minutes=1),
    "ten_minutes": timedelta(minutes=10),
    "hour": timedelta(hours=1),
    "six_hours": timedelta(hours=6),
}
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
# Every kind of write, bulk and single, on both tables, as an ordinary client would run it.
WRITES = (
    "INSERT INTO {schema}user_alert_deliveries"
    " (user_id, alert_event_id, channel, risk_at, created_at)"
    " SELECT u.id, e.id, c.channel,"
    " CASE WHEN e.id % 3 > 0 THEN '2022-03-08 05:55+00'::timestamptz + e.id * interval '9 s' END,"
    " '2022-03-08 05:59:30+00'::timestamptz + e.id * interval '1 m'"
    " FROM {schema}users AS u, {schema}alert_events AS e,"
    " (VALUES ('email'), ('sms')) AS c (channel)",
    "INSERT INTO {schema}user_alert_digests (user_id, channel, period, window_start, window_end,"
    " digest_key, created_at) SELECT u.id, 'email', 'daily', '2022-03-07', '2022-03-08 06:00+00',"
    " e.id, '2022-03-08 05:00+00' FROM {schema}users AS u, {schema}alert_events AS e",
    "UPDATE {schema}user_alert_deliveries SET status = 'sent',"
    " sent_at = created_at + id * interval '7 s' WHERE id % 2 = 0",
    "UPDATE {schema}user_alert_digests SET status = 'sent',"
    " sent_at = window_end + id * interval '7 s' WHERE id % 2 = 0",
    "UPDATE {schema}user_alert_deliveries SET status = 'failed', failed_at = created_at,"
    " failure_code = 'network', attempts = 2 WHERE id % 3 = 0",
    "DELETE FROM {schema}user_alert_deliveries WHERE id % 5 = 0",
    "DELETE FROM {schema}user_alert_digests WHERE id % 5 = 0",
)


def statements(schema: str = "") -> list[str]:
    """Return :data:`WRITES` with every table name prefixed by ``schema`` (with its dot)."""
    return [text.replace("{schema}", schema) for text in WRITES]


def fill(conn: Connection, events: int = 20) -> None:
    """Insert what deliveries and digests refer to: a user and some events."""
    add_user(conn)
    for _ in range(events):
        add_alert(conn)


def kept(conn: Connection) -> Counter[tuple[Any, ...]]:
    """Return all counts after folding."""
    db.execute(conn, "SELECT alerts_health_fold()")
    assert value(conn, "SELECT count(*) FROM alerts_health_changes") == 0
    rows = query(conn, "SELECT * FROM alerts_health_counts WHERE amount <> 0")
    return Counter({tuple(row.values())[:-1]: row["amount"] for row in rows})


def recounted(conn: Connection) -> Counter[tuple[Any, ...]]:
    """Compute the expected counts from the rows alone."""
    found: Counter[tuple[Any, ...]] = Counter()
    for source, waits, table in (
        ("deliveries", "delivery_waits", "user_alert_deliveries"),
        ("digests", "digest_waits", "user_alert_digests"),
    ):
        for row in query(conn, f"SELECT * FROM {table}"):
            for level, size in SIZES.items():
                bucket = EPOCH + (utc(row["created_at"]) - EPOCH) // size * size
                place = (level, bucket, row["channel"], row.get("delivery_kind", "digest"))
                state = (row["status"], row["failure_code"] or "")
                again = row["attempts"] > (0 if row["status"] == "queued" else 1)
                found[(source, *place, *state, again, -1)] += 1
                if row["status"] == "sent":
                    found[(waits, *place, "", "", False, seconds_of(row))] += 1
                    if row.get("risk_at"):
                        since_risk = rounded_up(row["sent_at"], row["risk_at"])
                        found[("risk_waits", *place, "", "", False, since_risk)] += 1
    return found


def utc(moment: datetime) -> datetime:
    """Old deployments have plain timestamps in UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def seconds_of(row: dict[str, Any]) -> int:
    """How long a message took from queued to sent."""
    queued = max(utc(row["created_at"]), utc(row.get("window_end", row["created_at"])))
    return rounded_up(row["sent_at"], queued)


def rounded_up(end: datetime, start: datetime) -> int:
    """The bucket of a duration: whole seconds up to 8 s, then four steps per doubling."""
    taken = max(1, math.ceil((utc(end) - utc(start)).total_seconds()))
    step = 1
    while taken > 8 * step:
        step *= 2
    return -(-taken // step) * step


def stale(conn: Connection) -> bool:
    """Whether a change is recorded as not counted."""
    return bool(value(conn, "SELECT count(*) FROM alerts_health_stale"))


@contextmanager
def other_role(conn: Connection, url: str, grants: str = "") -> Iterator[Connection]:
    """A connection as a role that owns nothing; ``grants`` are statements that name ``{role}``."""
    role, password = f"alerts_test_{secrets.token_hex(4)}", secrets.token_hex(8)
    names = {"role": sql.Identifier(role)}
    create = sql.SQL("CREATE ROLE {role} LOGIN PASSWORD {password}")
    db.execute(conn, create.format(**names, password=sql.Literal(password)))
    try:
        for grant in filter(None, grants.split(";")):
            db.execute(conn, sql.SQL(grant).format(**names))
        other = psycopg2.connect(url, user=role, password=password)
        other.autocommit = True
        try:
            yield other
        finally:
            other.close()
    finally:
        db.execute(conn, sql.SQL("DROP OWNED BY {role} CASCADE; DROP ROLE {role}").format(**names))
