"""An old deployment whose rows are being sent: nothing is sent twice unmarked, nothing is lost."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from alerts import db, migrations
from alerts.locks import lock_number
from alerts.migrations import MigrationError
from tests.support import CHECKOUT
from tests.support.old_deployment import connect, run_on
from tests.support.world import NOW, query, value

HOUR = timedelta(hours=1)
# What stored claims, as earlier versions of the engine did.
CLAIMS = """
ALTER TABLE user_alert_deliveries DROP CONSTRAINT user_alert_deliveries_status_check;
ALTER TABLE user_alert_deliveries
    ADD CONSTRAINT ck_user_alert_deliveries_status
    CHECK (status IN ('queued', 'sending', 'sent', 'failed', 'skipped')),
    ADD COLUMN claimed_by TEXT, ADD COLUMN claimed_until TIMESTAMPTZ;
ALTER TABLE user_alert_digests ADD COLUMN claimed_by TEXT, ADD COLUMN claimed_until TIMESTAMPTZ;
CREATE INDEX idx_user_alert_deliveries_queue ON user_alert_deliveries
    (channel, next_retry_at, created_at, id) WHERE status = 'queued' AND delivery_kind = 'instant';
CREATE INDEX idx_user_alert_digests_failed ON user_alert_digests (sent_at) WHERE status = 'failed';
"""
CLAIM = "UPDATE {} SET status = 'sending', claimed_by = %s, claimed_until = %s WHERE id = ANY (%s)"
DELIVERIES, DIGESTS = "user_alert_deliveries", "user_alert_digests"


@pytest.fixture
def claiming(old: Connection) -> Connection:
    db.execute(old, CLAIMS)
    return old


def claim(conn: Connection, table: str, ids: list[int], until: datetime | None) -> None:
    db.execute(conn, CLAIM.format(table), ("earlier", until, ids))


def test_rows_being_sent_are_held_until_their_claim_would_have_ended(
    claiming: Connection, old_url: str
) -> None:
    soon, gone = datetime.now(UTC) + HOUR, datetime.now(UTC) - HOUR
    claim(claiming, DELIVERIES, [3, 4], soon)
    claim(claiming, DELIVERIES, [5], gone)
    claim(claiming, DIGESTS, [1], soon)
    migrations.migrate(old_url)
    held = query(claiming, "SELECT source, id, run_id, until FROM alerts_leased ORDER BY 1, 2")
    assert [(row["source"], row["id"], row["run_id"]) for row in held] == [
        ("deliveries", 3, "earlier"), ("deliveries", 4, "earlier"), ("deliveries", 5, "earlier"),
        ("digests", 1, "earlier"), ("digests", 2, "lost"),
    ]  # fmt: skip
    assert [row["until"] for row in held[:4]] == [soon, soon, gone, soon]
    assert held[4]["until"] <= datetime.now(UTC)  # from before there were claims
    counts, _ = run_on(old_url)
    assert (counts["c"]["deliveries"]["rescued"], counts["c"]["digests"]["rescued"]) == (1, 1)
    rows = {row["id"]: row for row in query(claiming, f"SELECT * FROM {DELIVERIES}")}
    assert rows[5]["failure_code"] == "sender_lost"
    assert [rows[row_id]["status"] for row_id in (3, 4, 5)] == ["queued"] * 3
    assert value(claiming, "SELECT count(*) FROM alerts_leased") == 3


def test_everything_queued_is_taken_in(claiming: Connection, old_url: str) -> None:
    claim(claiming, DELIVERIES, [4], datetime.now(UTC) + HOUR)
    migrations.migrate(old_url)
    queue = query(claiming, "SELECT source, id, due_at FROM alerts_send_queue ORDER BY 1, 2")
    assert [(row["source"], row["id"]) for row in queue] == [
        ("deliveries", 3), ("deliveries", 5), ("deliveries", 6), ("digests", 1),
    ]  # fmt: skip
    assert queue[1]["due_at"] == datetime(2022, 3, 8, 17, 30, tzinfo=UTC)
    assert query(claiming, "SELECT delivery_id FROM alerts_digest_waiting") == [{"delivery_id": 7}]
    assert value(claiming, "SELECT count(*) FROM alerts_queue_differences()") == 0


def test_a_digest_delivery_that_was_being_sent_waits_for_its_digest(
    claiming: Connection, old_url: str
) -> None:
    claim(claiming, DELIVERIES, [7], datetime.now(UTC) + HOUR)
    migrations.migrate(old_url)
    assert query(claiming, "SELECT delivery_id FROM alerts_digest_waiting") == [{"delivery_id": 7}]


@pytest.mark.parametrize("table", [DELIVERIES, DIGESTS])
def test_the_old_code_can_claim_no_more(claiming: Connection, old_url: str, table: str) -> None:
    migrations.migrate(old_url)
    with pytest.raises(psycopg2.errors.CheckViolation):
        claim(claiming, table, [1, 2, 3], NOW)
    # What it had claimed before ended with the migration's lock; it may still write outcomes.
    db.execute(claiming, f"UPDATE {table} SET status = 'skipped' WHERE id = 1")


def test_what_the_old_code_found_its_queue_by_is_gone(claiming: Connection, old_url: str) -> None:
    migrations.migrate(old_url)
    names = "SELECT indexname FROM pg_indexes WHERE indexdef LIKE '%status%' AND tablename = %s"
    # One that was not made by this engine is left alone.
    assert [row["indexname"] for row in query(claiming, names.replace("%status%", "%%status%%"),
            DELIVERIES)] == ["idx_user_alert_deliveries_status"]  # fmt: skip
    assert query(claiming, names.replace("%status%", "%%status%%"), DIGESTS) == []


def test_while_a_run_sends_the_migration_stops_and_changes_nothing(
    claiming: Connection, old_url: str
) -> None:
    claim(claiming, DELIVERIES, [4], datetime.now(UTC) + HOUR)
    with closing(connect(old_url)) as running:
        db.execute(running, "SELECT pg_advisory_lock(%s)", (lock_number("alerts_v2_phase_c"),))
        with pytest.raises(MigrationError, match="a run is under way"):
            migrations.migrate(old_url)
        assert value(claiming, f"SELECT status FROM {DELIVERIES} WHERE id = 4") == "sending"
        assert value(claiming, "SELECT to_regclass('alerts_send_queue')") is None
    migrations.migrate(old_url)
    assert migrations.status_of(old_url).ok


def test_the_migration_takes_the_lock_of_phase_c() -> None:
    text = (CHECKOUT / "sql" / "0004_engine_tables.sql").read_text()
    assert f"pg_try_advisory_xact_lock({lock_number('alerts_v2_phase_c')})" in text
