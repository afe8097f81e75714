"""Migrating a deployment that already holds the tables: nothing lost, nothing rewritten."""

from __future__ import annotations

import re
from decimal import Decimal

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from alerts import db, migrations
from alerts.migrations import MigrationError
from tests.support.migrating import recorded
from tests.support.old_deployment import TABLES, columns_of, content, files
from tests.support.world import query, value


def test_nothing_is_lost_and_nothing_is_rewritten(old_url: str, old: Connection) -> None:
    columns = {table: columns_of(old, table) for table in TABLES}
    before, on_disk = content(old, columns), files(old)
    migrations.migrate(old_url)
    after = content(old, columns)
    personal = [row for row in after["plan_settings"] if row["plan_code"] == "personal"]
    assert len(personal) == 1  # the plan that was missing
    after["plan_settings"].remove(personal[0])
    # Being sent is no stored state: such a row is queued, and held by a lease.
    held = [row for row in before["user_alert_digests"] if row["status"] == "sending"]
    assert [row["id"] for row in held] == query_ids(old, "SELECT id FROM alerts_leased")
    held[0]["status"] = "queued"
    assert after == before
    assert {table: files(old)[table] for table in on_disk} == on_disk
    for table in TABLES:  # old columns keep their types and places, new ones come behind
        found = columns_of(old, table)
        assert list(found.items())[: len(columns[table])] == list(columns[table].items())


def test_edited_prices_and_limits_are_kept(old_url: str, old: Connection) -> None:
    migrations.migrate(old_url)
    prices = query(
        old, "SELECT plan_code, monthly_price_usd AS usd, display_name FROM plan_settings"
    )
    assert {row["plan_code"]: row["usd"] for row in prices} == {
        "free": Decimal("0.00"), "personal": Decimal("9.95"), "trader": Decimal("27.50"),
        "pro": Decimal("44.44"), "enterprise": Decimal("99.00"),
    }  # fmt: skip
    assert "Trader (legacy)" in [row["display_name"] for row in prices]
    limits = "SELECT instant_per_day FROM plan_channel_limits WHERE plan_code = 'trader'"
    assert value(old, f"{limits} AND channel = 'telegram'") == 9


def test_new_columns_are_there_and_new_rows_are_held_to_the_state_machine(
    old_url: str, old: Connection
) -> None:
    migrations.migrate(old_url)
    for table in ("user_alert_deliveries", "user_alert_digests"):
        assert columns_of(old, table)["failed_at"] == "timestamp with time zone"
        for change in ("status = 'odd'", "status = 'failed'", "status = 'sending'"):
            with pytest.raises(psycopg2.errors.CheckViolation):
                db.execute(old, f"UPDATE {table} SET {change} WHERE status = 'queued'")
        db.execute(
            old, f"UPDATE {table} SET status = 'sent', sent_at = now() WHERE status = 'queued'"
        )


def test_migrating_twice_and_the_status_afterwards(old_url: str, old: Connection) -> None:
    assert migrations.migrate(old_url, dry_run=True)
    assert recorded_or_none(old) is None
    assert migrations.migrate(old_url) == recorded(old_url)
    assert migrations.migrate(old_url) == []
    assert migrations.status_of(old_url).ok


def query_ids(conn: Connection, text: str) -> list[int]:
    return [row["id"] for row in query(conn, text)]


def recorded_or_none(conn: Connection) -> str | None:
    found: str | None = value(conn, "SELECT to_regclass('schema_migrations')::text")
    return found


@pytest.mark.parametrize(
    ("spoil", "table", "columns"),
    [
        (
            "INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, status)"
            " SELECT user_id, alert_event_id, channel, status FROM user_alert_deliveries"
            " WHERE id = 4",
            "user_alert_deliveries",
            "alert_event_id, user_id, channel, delivery_kind",
        ),
        (
            "UPDATE alert_events SET event_fingerprint = 'k2' WHERE id = 3",
            "alert_events",
            "event_fingerprint",
        ),
        (
            "INSERT INTO user_alert_digest_items (digest_id, delivery_id) VALUES (2, 8)",
            "user_alert_digest_items",
            "delivery_id",
        ),
        (
            "ALTER TABLE user_plans DROP CONSTRAINT user_plans_pkey;"
            "INSERT INTO user_plans (user_id, plan) VALUES (1, 'pro')",
            "user_plans",
            "user_id",
        ),
    ],
)
def test_rows_that_contradict_a_new_unique_index_stop_the_migration_with_the_query_that_shows_them(
    old_url: str, old: Connection, spoil: str, table: str, columns: str
) -> None:
    db.execute(old, spoil)
    known = {name: columns_of(old, name) for name in TABLES}
    before, on_disk = content(old, known), files(old)
    with pytest.raises(MigrationError) as caught:
        migrations.migrate(old_url)
    message = str(caught.value)
    assert re.match(r"000[24]_\w+\.sql, line \d+: ", message)
    assert f"table {table}: old rows contradict the unique index on ({columns})" in message
    shown = re.search(r"See them with: (SELECT .*?);", message)
    assert shown
    (duplicates,) = query(old, shown[1])
    assert duplicates["count"] == 2
    # The file that stopped left nothing behind: neither columns nor rows, nor its record.
    stopped = message[:4]
    assert [name for name in recorded(old_url) if name >= stopped] == []
    after = content(old, known)
    after["plan_settings"] = [r for r in after["plan_settings"] if r["plan_code"] != "personal"]
    assert after == before
    assert {name: files(old)[name] for name in on_disk} == on_disk
    assert columns_of(old, table) == known[table]


def test_after_the_duplicate_is_gone_the_migration_goes_on(old_url: str, old: Connection) -> None:
    db.execute(
        old, "INSERT INTO user_alert_digest_items (id, digest_id, delivery_id) VALUES (9, 2, 8)"
    )
    with pytest.raises(MigrationError):
        migrations.migrate(old_url)
    db.execute(old, "DELETE FROM user_alert_digest_items WHERE id = 9")
    assert "0004_engine_tables" in migrations.migrate(old_url)
    assert migrations.status_of(old_url).ok
