"""A deployment from before this engine, and how its tests inspect it."""

from __future__ import annotations

from typing import Any

import psycopg2
import pytest
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.channels.base import Message
from tests.support import CHECKOUT
from tests.support.world import all_channels, query, run, value

OLD_DEPLOYMENT = (CHECKOUT / "tests" / "sql" / "old_deployment.sql").read_text()
# Parents before children, in the order for copying.
TABLES = (
    "users", "user_plans", "plan_settings", "user_alert_prefs", "events", "risk_events",
    "risk_indices", "asset_risk", "alert_events", "user_alert_deliveries", "user_alert_digests",
    "user_alert_digest_items",
)  # fmt: skip
ZONES = pytest.mark.parametrize("zone", ["UTC", "America/New_York"])


def connect(url: str) -> Connection:
    conn = psycopg2.connect(url)
    conn.autocommit = True
    db.execute(conn, "SET TimeZone = 'UTC'")
    return conn


def prefer_zone(conn: Connection, zone: str) -> None:
    """Apply settings that a deployment may have made for its database."""
    name = value(conn, "SELECT current_database()")
    statement = sql.SQL("ALTER DATABASE {} SET TimeZone = {}")
    db.execute(conn, statement.format(sql.Identifier(name), sql.Literal(zone)))


def columns_of(conn: Connection, table: str) -> dict[str, str]:
    """The columns with their types, in their order."""
    rows = query(
        conn,
        "SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute"
        " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        table,
    )
    return {row["attname"]: row["type"] for row in rows}


def content(conn: Connection, columns: dict[str, dict[str, str]]) -> dict[str, list[Any]]:
    """Return all rows of these columns by table."""
    return {
        table: query(conn, f"SELECT {', '.join(names)} FROM {table} ORDER BY 1, 2")
        for table, names in columns.items()
    }


def files(conn: Connection) -> dict[str, int]:
    """Return each table's file number, which changes after a rewrite."""
    rows = query(
        conn, "SELECT relname, pg_relation_filenode(oid) AS file FROM pg_class"
        " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace",
    )  # fmt: skip
    return {row["relname"]: row["file"] for row in rows}


def run_on(url: str) -> tuple[dict[str, Any], list[tuple[str, str, str]]]:
    """Return a full run's counts and what it sent: channel, destination, subject or text."""
    channels = all_channels()
    report = run(url, channels=channels)
    assert report.record.status == "success", report.record.error_summary
    sent = [
        (name, message.destination, without_ids(message))
        for name, channel in channels.items()
        for message in channel.sent
    ]
    return report.record.counts, sorted(sent)


def without_ids(message: Message) -> str:
    return f"{message.subject}\n{message.text}"
