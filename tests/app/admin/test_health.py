"""`GET /health` over HTTP; what the figures mean is tested beside `alerts.health.report`."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient
from psycopg2.extensions import connection as Connection

from alerts.health.brief import brief_text
from tests.support.web import ADMIN, PREFIX, Admin, add_run
from tests.support.world import NOW, add_alert, add_delivery, add_user

DELIVERY_ZEROS = {
    "queued": 0, "sending": 0, "sent": 0, "failed": 0, "retried": 0, "skipped": 0, "batched": 0,
}  # fmt: skip
DIGEST_ZEROS = {key: 0 for key in DELIVERY_ZEROS if key != "batched"}


def test_every_channel_and_key_is_there_with_zeros(admin: Admin) -> None:
    health = admin.ok("/health")
    reasons = health.pop("reasons")
    fields = {"code", "severity", "message", "action", "since", "channel", "page"}
    assert [(r["code"], set(r)) for r in reasons] == [("never_run", fields)]
    expected = {
        "generated_at": NOW.isoformat(),
        "status": "degraded",
        "deliveries_24h": dict.fromkeys(("email", "telegram", "sms", "account"), DELIVERY_ZEROS),
        "digests_7d": dict.fromkeys(("email", "telegram"), DIGEST_ZEROS),
        "oldest_queued_delivery_minutes": None,
        "oldest_queued_digest_minutes": None,
        "breakdown": {
            "deliveries_24h": [],
            "deliveries_7d": [],
            "digests_24h": [],
            "digests_7d": [],
        },
        "failures_24h": [],
        "last_run": None,
        "last_success_minutes": None,
        "schedule": {
            "expected_interval_minutes": 10,
            "last_scheduled_at": None,
            "last_late_seconds": None,
            "missed_slots_24h": 0,
            "lost_runs_24h": 0,
        },
    }
    assert {name: health[name] for name in expected} == expected
    assert set(health) - set(expected) == {
        "deliveries_7d", "digests_24h", "channels", "failures", "in_doubt", "per_hour", "per_day",
        "funnel", "paused", "engine", "unsubscribed_7d", "last_finished_run", "last_success_at",
        "runs_24h", "input", "risk",
    }  # fmt: skip
    assert set(health["channels"]) == {"email", "telegram", "sms", "account"}
    assert (len(health["per_hour"]), len(health["per_day"])) == (24, 7)
    assert list(health["deliveries_24h"]["email"]) == list(DELIVERY_ZEROS)


def test_rows_show_with_the_fields_of_the_contract(admin: Admin, conn: Connection) -> None:
    user, event = add_user(conn), add_alert(conn)
    add_delivery(conn, user, event, "email", status="sent")
    add_delivery(conn, user, event, "sms", status="failed", failure_code="rate_limited")
    run_id = add_run(conn)
    health = admin.ok("/health")
    assert health["status"] == "ok"
    assert [reason["code"] for reason in health["reasons"]] == ["attempts_exhausted"]
    rows = [
        {"channel": "email", "status": "sent", "delivery_kind": "instant", "count": 1},
        {"channel": "sms", "status": "failed", "delivery_kind": "instant", "count": 1},
    ]
    assert health["breakdown"] == {
        "deliveries_24h": rows, "deliveries_7d": rows, "digests_24h": [], "digests_7d": [],
    }  # fmt: skip
    assert health["failures_24h"] == [
        {"channel": "sms", "failure_code": "rate_limited", "count": 1}
    ]
    run = admin.ok(f"/runs/{run_id}")["run"]
    names = ("run_id", "status", "started_at", "finished_at")
    assert health["last_run"] == {name: run[name] for name in names}
    assert -0.1 <= health["last_success_minutes"] <= 0.5


def test_a_failing_product_is_still_an_answer(admin: Admin, conn: Connection) -> None:
    add_run(conn, status="failed")
    health = admin.ok("/health")
    assert health["status"] == "failing"
    assert {reason["code"] for reason in health["reasons"]} == {
        "no_recent_success", "last_run_failed",
    }  # fmt: skip


def test_the_brief_view_is_small_and_the_same_in_plain_text(
    admin: Admin, client: FlaskClient, conn: Connection
) -> None:
    add_run(conn, status="failed")
    told = admin.ok("/health", view="brief")
    assert set(told) == {
        "generated_at", "status", "headline", "reasons", "last_run", "channels", "timezone",
    }  # fmt: skip
    assert told["headline"] == told["reasons"][0]["message"]
    assert told["channels"] == dict.fromkeys(("email", "telegram", "sms", "account"), "ok")
    answers = [
        client.get(f"{PREFIX}/health{query}", headers={**ADMIN, "Accept": "text/plain"})
        for query in ("", "?view=brief")
    ]
    for answer in answers:
        assert answer.mimetype == "text/plain"
        assert answer.text == brief_text(told)


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html", "text/plain;q=0.5,*/*"])
def test_plain_text_is_only_for_who_asks_for_it(client: FlaskClient, accept: str) -> None:
    answer = client.get(f"{PREFIX}/health", headers={**ADMIN, "Accept": accept})
    assert answer.mimetype == "application/json"
