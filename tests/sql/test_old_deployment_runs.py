"""The engine and the web app on a migrated old deployment do what they do on a fresh one."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection
from psycopg2.extras import Json

from alerts import db, migrations
from alerts.health import report as health
from alerts.lookup.events import latest_events
from alerts.repair import requeue
from tests.support.old_deployment import TABLES, columns_of, connect, prefer_zone, run_on
from tests.support.web import ADMIN, PREFIX, app_for
from tests.support.world import NOW, lease, query, settings_for, value

ZONES = pytest.mark.parametrize("zone", ["UTC", "America/New_York"])


@ZONES
def test_a_full_run_does_what_is_due_and_leaves_the_rest(
    old_url: str, old: Connection, zone: str
) -> None:
    prefer_zone(old, zone)
    migrations.migrate(old_url)
    counts, sent = run_on(old_url)
    assert counts["a"] == {
        "events_created": 4, "events_existing": 0, "regional_risk_spikes": 1,
        "asset_risk_spikes": 1, "high_impact_events": 2,
    }  # fmt: skip
    assert counts["b"]["events_processed"] == 5  # four new ones and the one that waited
    assert counts["b"]["events_expired"] == 1
    digests = counts["c"]["digests"]
    # The free user's of yesterday, the one that waited; the lost one is tried again later.
    assert counts["d"]["digests_created"] == 1
    assert (digests["rescued"], digests["sent"]) == (1, 2)
    assert counts["c"]["deliveries"]["skipped_expired"] == 1
    texts = " ".join(text for _, _, text in sent)
    assert "Not yet known" not in texts
    statuses = {
        row["id"]: row["status"] for row in query(old, "SELECT * FROM user_alert_deliveries")
    }
    assert [statuses[i] for i in (1, 2, 3, 4, 5, 6, 7, 8)] == [
        "sent", "failed", "skipped", "sent", "sent", "queued", "skipped", "skipped",
    ]  # fmt: skip
    # Rows of other parts of the product are as they were.
    assert [statuses[i] for i in (9, 10, 11)] == ["queued", "failed", "sent"]


@ZONES
def test_times_are_stored_in_utc_whatever_the_column_and_the_zone(
    old_url: str, old: Connection, zone: str
) -> None:
    prefer_zone(old, zone)
    migrations.migrate(old_url)
    run_on(old_url)
    plain = NOW.replace(tzinfo=None)
    created = query(old, "SELECT DISTINCT created_at FROM alert_events WHERE id > 5")
    assert created == [{"created_at": plain}]
    for table, first_new in (("user_alert_deliveries", 12), ("user_alert_digests", 3)):
        rows = query(old, f"SELECT * FROM {table} WHERE id >= {first_new}")
        assert rows
        assert {row["created_at"] for row in rows} == {plain}
        assert {row["sent_at"] for row in rows if row["status"] == "sent"} == {plain}
    (window,) = query(old, "SELECT * FROM user_alert_digests WHERE id >= 3")
    assert (window["window_start"].isoformat(), window["window_end"].isoformat()) == (
        "2022-03-06T23:00:00", "2022-03-07T23:00:00",
    )  # fmt: skip


@ZONES
def test_a_second_run_does_nothing_again(old_url: str, old: Connection, zone: str) -> None:
    prefer_zone(old, zone)
    migrations.migrate(old_url)
    run_on(old_url)
    counts, sent = run_on(old_url)
    assert sent == []
    assert counts["a"]["events_created"] == 0
    assert counts["b"]["deliveries_created"] == 0


@ZONES
def test_old_and_fresh_schema_give_the_same_run(
    old_url: str, old: Connection, fresh_url: str, zone: str
) -> None:
    prefer_zone(old, zone)
    migrations.migrate(old_url)
    with closing(connect(fresh_url)) as fresh:
        copy_rows(old, fresh)
        old_counts, old_sent = run_on(old_url)
        fresh_counts, fresh_sent = run_on(fresh_url)
        assert old_counts == fresh_counts
        assert old_sent == fresh_sent
        assert len(old_sent) > 5
        settings = settings_for(old_url)
        of_old, of_fresh = (health.get_health(c, settings, NOW) for c in (old, fresh))
    for name in ("deliveries_24h", "digests_7d", "oldest_queued_delivery_minutes",
                 "oldest_queued_digest_minutes", "breakdown"):  # fmt: skip
        assert of_old[name] == of_fresh[name], name


def copy_rows(source: Connection, target: Connection) -> None:
    """All rows into the columns of today's schema, with what today's checks ask for."""
    db.execute(target, "DELETE FROM plan_settings")
    for table in TABLES:
        names = [name for name in columns_of(source, table) if name in columns_of(target, table)]
        for found in query(source, f"SELECT {', '.join(names)} FROM {table}"):
            row = completed(table, found)
            marks = ", ".join(["%s"] * len(row))
            statement = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})"
            db.execute(target, statement, tuple(row.values()))
        if "id" in names and "id" in columns_of(target, table):
            serial = f"pg_get_serial_sequence('{table}', 'id')"
            db.execute(target, f"SELECT setval({serial}, max(id)) FROM {table}")
    for held in query(source, "SELECT source, id FROM alerts_leased"):
        lease(target, [held["id"]], source=held["source"], claimed_until=NOW)


def completed(table: str, found: dict[str, Any]) -> dict[str, Any]:
    """The row as a fresh schema takes it; what is missing gets the schema's default."""
    row = {name: text for name, text in found.items() if text is not None}
    if table == "users":
        row["email_verified"] = True  # unknown is not "no"
    if table == "plan_settings":
        row["delivery_config"] = Json(row["delivery_config"])
    if table == "alert_events":
        row.setdefault("event_fingerprint", row["cooldown_key"])
    if table == "risk_indices":  # without a time it is older than anything
        row.setdefault("calculated_at", "-infinity")
    if row.get("status") == "sent":
        row.setdefault("sent_at", row["created_at"])
    if row.get("status") == "failed":
        row |= {"failed_at": row["created_at"], "failure_code": "payload_invalid"}
    return row


@pytest.mark.parametrize(
    "leftover",
    [
        # From before digests: one delivery of an event for each user and channel.
        "CREATE UNIQUE INDEX older ON user_alert_deliveries (user_id, alert_event_id, channel)",
        # One over some of the rows cannot decide an ON CONFLICT.
        "CREATE UNIQUE INDEX severe ON alert_events (event_fingerprint) WHERE severity > 3",
        # More columns of other parts of the product, and rights of its own.
        "ALTER TABLE user_alert_deliveries ADD COLUMN batch_window TIMESTAMP;"
        "ALTER TABLE alert_events ADD COLUMN classification JSONB NOT NULL DEFAULT '{}'",
    ],
)
def test_what_else_a_deployment_may_hold_does_not_stop_a_run(
    old_url: str, old: Connection, leftover: str
) -> None:
    db.execute(old, leftover)
    migrations.migrate(old_url)
    _, sent = run_on(old_url)
    assert len(sent) > 5


# Reading it


@ZONES
def test_the_admin_and_public_endpoints_read_it(old_url: str, old: Connection, zone: str) -> None:
    prefer_zone(old, zone)
    migrations.migrate(old_url)
    client = app_for(old_url).test_client()
    found = client.get(f"{PREFIX}/health", headers=ADMIN).get_json()
    assert found["oldest_queued_delivery_minutes"] == pytest.approx(
        (NOW.replace(tzinfo=None) - value(old, "SELECT created_at FROM user_alert_deliveries"
         " WHERE id = 3")).total_seconds() / 60, abs=0.1)  # fmt: skip
    assert found["oldest_queued_digest_minutes"] == 19 * 60
    assert [r["code"] for r in found["reasons"]] == ["never_run", "queue_waiting", "sending_stuck"]
    latest = client.get("/alerts/events/latest?limit=1").get_json()
    assert latest["events"][0]["created_at"] == "2022-03-08T17:00:00+00:00"
    assert latest_events(old, limit=1, now=NOW) == latest
    for kind in requeue.KINDS:
        path = f"{PREFIX}/retry_failed?kind={kind}&since_hours=168&include=exhausted,unknown"
        answer = client.post(path, headers=ADMIN).get_json()
        assert (answer["eligible"], answer["excluded"]) == (0, {})
    run_on(old_url)
    assert client.get(f"{PREFIX}/health", headers=ADMIN).get_json()["status"] == "ok"
