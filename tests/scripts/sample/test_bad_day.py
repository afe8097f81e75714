"""The bad day of the sample leaves something to see for each page of the operator's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from scripts.sample import bad_day, load
from tests.support.web import Admin, app_for
from tests.support.world import query


@pytest.fixture
def admin(database_url: str, conn: Connection, tmp_path: Path) -> Admin:
    """The web app after the day."""
    load.load_sample(conn)
    environ = {"DATABASE_URL": database_url, "ALERTS_RUN_SPOOL": str(tmp_path / "spool")}
    # The caller's accounts and settings do not matter.
    assert bad_day.main({**environ, "BREVO_API_KEY": "mine", "ALERTS_V2_ENABLED": "false"}) == 0
    app = app_for(database_url, ALERTS_CLOCK=bad_day.AFTER, ALERTS_EXPECTED_INTERVAL_MINUTES="30")
    return Admin(app.test_client())


def codes(health: dict[str, Any]) -> set[tuple[str, str]]:
    return {(reason["code"], reason["channel"]) for reason in health["reasons"]}


def test_every_page_has_something_to_tell_and_a_second_play_repeats_the_last_run(
    admin: Admin, conn: Connection, database_url: str
) -> None:
    health = admin.ok("/health")
    assert health["status"] == "degraded"
    assert codes(health) >= {
        ("channel_closed", "sms"),
        ("channel_failing", "email"),
        ("parked", "email"),
        ("attempts_exhausted", "email"),
        ("recipients_refused", "telegram"),
    }
    assert health["schedule"]["missed_slots_24h"] == 4

    runs = admin.ok("/runs", limit=200)["runs"]
    assert [run["status"] for run in runs].count("failed") == 2
    assert max(run["late_seconds"] for run in runs) > 13 * 60
    assert len(runs) == 23

    found = {
        (row["channel"], row["status"], row["failure_code"])
        for row in query(conn, "SELECT channel, status, failure_code FROM user_alert_deliveries")
    }
    assert found >= {
        ("email", "sent", None),
        ("email", "queued", "provider_unavailable"),
        ("email", "failed", "provider_unavailable"),
        ("email", "failed", "outcome_unknown"),
        ("email", "queued", None),  # for a digest whose window is open
        ("telegram", "failed", "recipient_blocked"),
        ("telegram", "failed", "recipient_invalid"),
        ("sms", "queued", "rate_limited"),
        ("sms", "sent", None),
    }
    actions = [each["action"] for each in admin.ok("/actions")["actions"]]
    assert actions == ["retry_failed", "resume", "pause"]
    assert "@" not in json.dumps(health)

    rows = query(conn, "SELECT * FROM user_alert_deliveries ORDER BY id")
    assert bad_day.main({"DATABASE_URL": database_url}) == 0
    assert len(admin.ok("/runs", limit=200)["runs"]) == 24
    assert len(query(conn, "SELECT FROM user_alert_deliveries")) == len(rows)
    assert ("channel_closed", "sms") in codes(admin.ok("/health"))
    assert db.fetch_all(conn, "SELECT FROM alerts_leases") == []
