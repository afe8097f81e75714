"""Rebuilding the counts of health: what it mends, what it says, what it leaves behind."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.health import queue
from alerts.health.report import get_health
from alerts.repair import audit
from alerts.repair.rebuild import rebuild
from tests.support.health_counts import fill, kept, recounted, stale, statements
from tests.support.queue_world import assert_each_in_its_place, places, queue_instants
from tests.support.world import (
    NOW,
    add_alert,
    add_delivery,
    add_user,
    lease,
    query,
    settings_for,
    value,
    wait_until,
)

SETTINGS = settings_for("postgresql://unused")


@pytest.fixture
def uncounted(conn: Connection) -> Connection:
    """Rows that a trigger could not count, since what it writes to was not there."""
    fill(conn)
    db.execute(conn, "ALTER TABLE alerts_health_changes RENAME TO away")
    for text in statements():
        db.execute(conn, text)
    db.execute(conn, "ALTER TABLE away RENAME TO alerts_health_changes")
    return conn


def rebuilt(conn: Connection, *, dry_run: bool = False) -> dict[str, Any]:
    with db.transaction(conn):
        return rebuild(conn, dry_run=dry_run, now=NOW, token_key_id="cli")


def reasons(conn: Connection) -> dict[str, str]:
    return {each["code"]: each["message"] for each in get_health(conn, SETTINGS, NOW)["reasons"]}


def test_health_tells_of_changes_that_were_not_counted_until_they_are(
    uncounted: Connection,
) -> None:
    since = value(uncounted, "SELECT min(since) FROM alerts_health_stale").isoformat()
    assert get_health(uncounted, SETTINGS, NOW)["status"] == "degraded"
    told = reasons(uncounted)["counts_stale"]
    assert told.startswith("Not every change since ")
    assert told.endswith(" was counted, so these figures may be wrong.")
    answer = rebuilt(uncounted)
    assert answer["counts_stale_since"] == since
    assert answer["counts_mended"] > 0
    assert "counts_stale" not in reasons(uncounted)
    assert kept(uncounted) == recounted(uncounted)
    health = get_health(uncounted, SETTINGS, NOW)
    total = sum(each["count"] for each in health["breakdown"]["deliveries_24h"])
    assert total == value(uncounted, "SELECT count(*) FROM user_alert_deliveries")


def test_the_dry_run_says_what_the_real_call_mends_and_changes_nothing(
    uncounted: Connection, database_url: str
) -> None:
    writer = psycopg2.connect(database_url)
    # An open transaction that has written: the dry run must not wait for it.
    db.execute(writer, "UPDATE user_alert_deliveries SET last_error = 'x'")
    db.execute(uncounted, "SET lock_timeout = '100ms'")
    rehearsed = rebuilt(uncounted, dry_run=True)
    with pytest.raises(psycopg2.errors.LockNotAvailable):
        rebuilt(uncounted)
    writer.rollback()
    writer.close()
    assert rehearsed["action_id"] is None
    assert stale(uncounted)
    assert not query(uncounted, "SELECT FROM alerts_admin_actions")
    real = rebuilt(uncounted)
    assert real["action_id"] is not None
    ignored = {"dry_run", "action_id"}
    assert {k: v for k, v in real.items() if k not in ignored} == {
        k: v for k, v in rehearsed.items() if k not in ignored
    }


@pytest.mark.parametrize("wrong", ["lost", "surplus", "late", "waiting"])
def test_health_tells_of_a_queue_that_is_not_what_is_queued_until_it_is(
    conn: Connection, wrong: str
) -> None:
    rows = queue_instants(conn, 6)
    add_delivery(conn, add_user(conn), add_alert(conn), kind="digest")
    lease(conn, rows[:2], claimed_until=datetime.now(UTC) + timedelta(hours=1))
    assert_each_in_its_place(conn)
    assert "queue_differs" not in reasons(conn)
    db.execute(
        conn,
        {
            "lost": "DELETE FROM alerts_send_queue WHERE id % 2 = 0",
            "surplus": "INSERT INTO alerts_send_queue SELECT source, id + 1000, channel, due_at,"
            " user_id FROM alerts_send_queue",
            "late": "UPDATE alerts_send_queue SET due_at = 'infinity', channel = 'sms'",
            "waiting": "DELETE FROM alerts_digest_waiting",
        }[wrong],
    )
    # Counting sees how many there are, not what they say.
    assert ("queue_differs" in reasons(conn)) == (wrong in ("lost", "surplus"))
    rehearsed = rebuilt(conn, dry_run=True)["queue_mended"]
    assert rehearsed == rebuilt(conn)["queue_mended"] > 0
    assert_each_in_its_place(conn)
    assert places(conn)[1] == [("deliveries", row) for row in rows[:2]]  # not given away
    assert "queue_differs" not in reasons(conn)


def test_what_was_written_with_the_triggers_off_is_queued_and_counted(conn: Connection) -> None:
    before = queue_instants(conn, 4)
    db.execute(conn, "SET session_replication_role = replica")
    queue_instants(conn, 3)
    db.execute(
        conn,
        "UPDATE user_alert_deliveries SET status = 'sent', sent_at = created_at"
        " WHERE id = ANY (%s)",
        (before[:2],),
    )
    db.execute(conn, "RESET session_replication_role")
    answer = rebuilt(conn)
    assert answer["queue_mended"] == 5
    assert answer["counts_mended"] > 0
    assert_each_in_its_place(conn)
    assert kept(conn) == recounted(conn)


def test_a_long_queue_is_not_counted_to_its_end(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "QUEUE_READ", 3)
    queue_instants(conn, 5)
    assert "queue_differs" not in reasons(conn)
    db.execute(conn, "DELETE FROM alerts_send_queue WHERE id % 2 = 1")  # 3 of 5, as read
    db.execute(conn, "DELETE FROM alerts_send_queue WHERE id % 4 = 0")
    assert "queue_differs" in reasons(conn)


def test_rebuilding_waits_for_a_claim_and_a_recording_under_way(
    conn: Connection, database_url: str
) -> None:
    rows = queue_instants(conn, 4)
    sender = psycopg2.connect(database_url)
    lease(sender, rows[:2], claimed_until=datetime.now(UTC) + timedelta(hours=1))
    db.execute(
        sender, "UPDATE user_alert_deliveries SET last_error = 'x' WHERE id = %s", (rows[0],)
    )
    rebuilder = psycopg2.connect(database_url)
    rebuilder.autocommit = True
    thread = threading.Thread(target=lambda: rebuilt(rebuilder))
    thread.start()
    waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND database ="
    waits += " (SELECT oid FROM pg_database WHERE datname = current_database())"
    wait_until(lambda: value(conn, waits) == 1)
    sender.commit()
    thread.join()
    for each in (sender, rebuilder):
        each.close()
    assert_each_in_its_place(conn)
    assert len(places(conn)[1]) == 2


def test_it_is_audited_also_when_nothing_was_wrong(conn: Connection) -> None:
    answer = rebuilt(conn)
    assert answer == {
        "dry_run": False, "counts_mended": 0, "counts_stale_since": None, "queue_mended": 0,
        "action_id": answer["action_id"],
    }  # fmt: skip
    (action,) = audit.list_actions(conn, action="rebuild")["actions"]
    assert (action["id"], action["token_key_id"]) == (answer["action_id"], "cli")
    told = {"counts_mended": 0, "counts_stale_since": None, "queue_mended": 0}
    assert action["result"] == told


def test_without_its_audit_row_nothing_is_rebuilt(uncounted: Connection) -> None:
    db.execute(uncounted, "ALTER TABLE alerts_admin_actions ADD CHECK (action <> 'rebuild')")
    with pytest.raises(psycopg2.errors.CheckViolation):
        rebuilt(uncounted)
    assert stale(uncounted)
    assert rebuilt(uncounted, dry_run=True)["counts_mended"] > 0


def test_it_takes_longer_than_the_session_lets_a_statement_take(uncounted: Connection) -> None:
    db.execute(
        uncounted,
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END $$;"
        "CREATE TRIGGER slow AFTER INSERT ON alerts_health_counts"
        " FOR EACH STATEMENT EXECUTE FUNCTION slow()",
    )
    db.execute(uncounted, "SET statement_timeout = '200ms'")
    assert rebuilt(uncounted)["counts_mended"] > 0
    assert value(uncounted, "SHOW statement_timeout") == "200ms"


def test_changes_while_it_waits_for_the_tables_are_counted_once(
    uncounted: Connection, database_url: str
) -> None:
    other = psycopg2.connect(database_url)
    db.execute(other, "UPDATE user_alert_deliveries SET attempts = attempts + 2 WHERE id % 2 = 1")
    rebuilder = psycopg2.connect(database_url)
    rebuilder.autocommit = True
    db.execute(rebuilder, "BEGIN")
    waiting = threading.Thread(
        target=lambda: rebuild(rebuilder, dry_run=False, now=NOW, token_key_id="cli")
    )
    waiting.start()
    blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted AND database ="
    blocked += " (SELECT oid FROM pg_database WHERE datname = current_database())"
    while not value(uncounted, blocked):
        pass
    other.commit()
    waiting.join()
    db.execute(rebuilder, "COMMIT")
    for conn in (other, rebuilder):
        conn.close()
    assert not stale(uncounted)
    assert kept(uncounted) == recounted(uncounted)
