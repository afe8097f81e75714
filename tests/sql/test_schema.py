"""The schema on a fresh database: what the code's statements rely on is really there."""

from __future__ import annotations

import re

import pytest
from psycopg2.extensions import connection as Connection

from alerts import migrations
from alerts.migrations.files import load_migrations
from tests.support import CHECKOUT
from tests.support.migrating import CATALOGUE, recorded
from tests.support.migrating import query as query_url
from tests.support.world import query

SCHEMA = {
    "users": "id email telegram_chat_id phone_number email_verified",
    "user_plans": "user_id plan",
    "plan_settings": "plan_code display_name monthly_price_usd allowed_alert_types"
    " max_email_alerts_per_day delivery_config is_active",
    "user_alert_prefs": "user_id region alert_type asset threshold enabled cooldown_minutes",
    "user_channel_prefs": "user_id channel enabled digest_only unsubscribed_at",
    "events": "id title source_name source_url category region severity_score event_time"
    " inserted_at",
    "risk_events": "event_id region category base_severity ai_confidence weighted_score",
    "risk_indices": "region window_days risk_score trend calculated_at",
    "asset_risk": "asset region window_days risk_score direction calculated_at",
    "alert_events": "id alert_type scope_region scope_assets severity risk_score headline body"
    " driver_event_ids cooldown_key event_fingerprint fanout_completed_at created_at",
    "user_alert_deliveries": "id user_id alert_event_id channel delivery_kind status attempts"
    " next_retry_at last_error failure_code provider_message_id failed_at sent_at created_at",
    "user_alert_digests": "id user_id channel period window_start window_end digest_key status"
    " attempts next_retry_at last_error failure_code provider_message_id failed_at sent_at"
    " created_at",
    "user_alert_digest_items": "digest_id delivery_id",
    "alerts_send_queue": "source id channel due_at user_id",
    "alerts_leases": "id run_id source until ids",
    "alerts_digest_waiting": "user_id delivery_id",
    "alerts_engine_runs": "id run_id triggered_by phase started_at finished_at duration_ms status"
    " counts error_summary git_sha created_at dry_run ci_run_url heartbeat_at"
    " scheduled_for late_seconds",
    "alerts_engine_run_items": "run_id phase started_at finished_at duration_ms status counts"
    " error_summary",
    "alerts_admin_actions": "id created_at action token_key_id parameters result",
    "alerts_channel_state": "channel closed_until code failures closed_since last_success_at"
    " last_failure_at settings_hash switched_off",
    "alerts_keys": "purpose key created_at",
    "alerts_refused_addresses": "user_id channel address_hash refusals last_at",
    "schema_migrations": "version name checksum applied_at",
}
ENGINE_TABLES = ("user_alert_deliveries", "user_alert_digests")


# What is there


@pytest.mark.parametrize("table", list(SCHEMA))
def test_every_table_has_the_columns_of_the_design(conn: Connection, table: str) -> None:
    rows = query(
        conn,
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = %s",
        table,
    )
    types = {row["column_name"]: row["data_type"] for row in rows}
    assert set(SCHEMA[table].split()) <= set(types)
    assert "timestamp without time zone" not in types.values()


def test_on_a_fresh_database_nothing_is_left_unvalidated(conn: Connection) -> None:
    assert query(conn, "SELECT conname FROM pg_constraint WHERE NOT convalidated") == []
    assert query(conn, "SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid") == []


def test_every_file_is_applied_and_recorded(empty_database_url: str) -> None:
    names = [migration.name for migration in load_migrations(migrations.MIGRATIONS_DIR)]
    assert migrations.migrate(empty_database_url) == names == recorded(empty_database_url)


def test_every_file_is_valid_on_a_database_that_already_holds_its_tables(
    empty_database_url: str,
) -> None:
    migrations.migrate(empty_database_url)
    structure = "SELECT conname::text, pg_get_constraintdef(oid) FROM pg_constraint UNION ALL" \
        " SELECT indexname, indexdef FROM pg_indexes ORDER BY 1, 2"  # fmt: skip
    before = query_url(empty_database_url, structure)
    query_url(empty_database_url, "DELETE FROM schema_migrations")
    assert migrations.migrate(empty_database_url)
    assert query_url(empty_database_url, structure) == before
    assert query_url(empty_database_url, "SELECT count(*) FROM plan_settings") == [(5,)]


def test_migrating_again_touches_nothing(database_url: str) -> None:
    before = query_url(database_url, CATALOGUE)
    assert migrations.migrate(database_url) == []
    assert query_url(database_url, CATALOGUE) == before


@pytest.mark.parametrize("columns", ["started_at DESC", "status", "phase"])
def test_run_history_has_its_indexes(conn: Connection, columns: str) -> None:
    rows = query(conn, "SELECT indexdef FROM pg_indexes WHERE tablename = 'alerts_engine_runs'")
    assert any(f"({columns}" in row["indexdef"] for row in rows)


# The unique indexes that ON CONFLICT needs


def conflict_targets() -> set[tuple[str, tuple[str, ...]]]:
    """Table and columns of every ON CONFLICT with a target, in code and migrations."""
    found = set()
    for folder, pattern in (("alerts", "**/*.py"), ("scripts", "**/*.py"), ("sql", "*.sql")):
        for path in sorted((CHECKOUT / folder).glob(pattern)):
            for statement in re.split(r"(?=INSERT\s+INTO\s)", path.read_text())[1:]:
                table = re.match(r"INSERT\s+INTO\s+(\w+)", statement)
                target = re.search(r"ON\s+CONFLICT\s*\(([^)]*)\)", statement)
                if table and target:
                    columns = tuple(sorted(name.strip() for name in target[1].split(",")))
                    found.add((table[1], columns))
    return found


def test_every_on_conflict_has_its_unique_index(conn: Connection) -> None:
    rows = query(
        conn,
        """
        SELECT i.indrelid::regclass::text AS target, array_agg(a.attname::text ORDER BY a.attname)
            AS columns
        FROM pg_index AS i
        JOIN pg_attribute AS a
            ON a.attrelid = i.indrelid
            AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
        WHERE i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
          AND i.indexprs IS NULL
        GROUP BY i.indexrelid, i.indrelid
        """,
    )
    unique = {(row["target"], tuple(row["columns"])) for row in rows}
    targets = conflict_targets()
    assert {table for table, _ in targets} >= {
        "user_alert_deliveries", "user_alert_digests", "user_alert_digest_items",
        "alerts_engine_runs", "alerts_engine_run_items", "plan_settings",
    }  # fmt: skip
    assert targets <= unique
