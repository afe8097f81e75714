"""``GET /metrics``: formats, tokens, and every gauge against what health answers."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text
from psycopg2.extensions import connection as Connection

from alerts import VERSION
from alerts.failures import FailureCode
from alerts.health.reasons import CODES
from app.admin import metrics
from tests.support import CHECKOUT
from tests.support.queue_rows import add_digest
from tests.support.web import ADMIN, CLOSED_PORT, TOKEN, add_item, add_run, app_for, error_of
from tests.support.world import NOW, add_alert, add_delivery, add_index, add_user

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
# What Prometheus 2.42 and 3 send.
OF_PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;"
    "q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
OF_PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;"
    "escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(client: FlaskClient) -> Series:
    """Every series' value by its name without the prefix, and its labels."""
    response = client.get("/metrics", headers=ADMIN)
    assert response.status_code == 200, response.get_data(as_text=True)
    found: Series = {}
    for family in parse_text(response.get_data(as_text=True)):
        assert family.type == "gauge"
        for sample in family.samples:
            assert sample.name.startswith("alerts_engine_")
            place = sample.name.removeprefix("alerts_engine_"), tuple(sorted(sample.labels.items()))
            assert place not in found
            found[place] = sample.value
    return found


def value(series: Series, name: str, **labels: str) -> float | None:
    return series.get((name, tuple(sorted(labels.items()))))


def names(series: Series) -> set[str]:
    return {name for name, _ in series}


def ago(**units: float) -> datetime:
    return datetime.now(UTC) - timedelta(**units)


# Formats


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, PLAIN),
        ("*/*", PLAIN),
        ("text/html,application/xhtml+xml,*/*;q=0.8", PLAIN),
        ("application/json", PLAIN),
        ("text/plain;version=0.0.4", PLAIN),
        ("application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text; version=1.0.0", OPENMETRICS),
        (OF_PROMETHEUS_2, OPENMETRICS),
        (OF_PROMETHEUS_3, OPENMETRICS),
        ("text/plain;q=0.9,application/openmetrics-text;version=1.0.0;q=0.1", PLAIN),
        ("application/openmetrics-text;version=1.0.0;q=0", PLAIN),
        # Versions of no format that there is.
        ("application/openmetrics-text;version=abc", PLAIN),
        ("application/openmetrics-text;version=99.0.0", PLAIN),
        ("application/openmetrics-text;version=\"1.0.0\\\"; x\"", PLAIN),
        ("text/plain;version=x", PLAIN),
        (";;;=,,", PLAIN),
    ],
)  # fmt: skip
def test_the_format_is_the_one_asked_for(
    client: FlaskClient, accept: str | None, content_type: str
) -> None:
    headers = {**ADMIN, **({"Accept": accept} if accept else {})}
    response = client.get("/metrics", headers=headers)
    assert response.status_code == 200
    told = response.headers["Content-Type"]
    assert told.partition("; escaping=")[0] == content_type
    assert response.headers["Vary"] == "Accept"
    parse = parse_openmetrics if content_type == OPENMETRICS else parse_text
    assert len(list(parse(response.get_data(as_text=True)))) > 20
    assert response.get_data(as_text=True).endswith("# EOF\n") == (content_type == OPENMETRICS)


# Tokens


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Authorization": f"Bearer {TOKEN}"}, 200),
        ({"Authorization": f"bearer {TOKEN}"}, 200),
        ({"x-internal-token": TOKEN}, 200),
        ({"Authorization": "Bearer a-reading-token-that-is-long"}, 200),
        ({"x-internal-token": "a-reading-token-that-is-long"}, 200),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": TOKEN}, 401),
        ({}, 401),
    ],
)
def test_it_takes_either_token_either_way(
    database_url: str, headers: dict[str, str], expected: int
) -> None:
    app = app_for(database_url, INTERNAL_READ_TOKEN="a-reading-token-that-is-long")
    response = app.test_client().get("/metrics", headers=headers)
    assert response.status_code == expected
    if expected == 401:
        assert error_of(response) == (401, "unauthorized")
        assert response.headers["WWW-Authenticate"] == "Bearer"


def test_without_a_token_on_the_server_it_opens_nothing(database_url: str) -> None:
    client = app_for(database_url, INTERNAL_RUNNER_TOKEN="").test_client()
    assert error_of(client.get("/metrics")) == (503, "token_not_configured")


def test_a_scrape_without_a_database_fails(client: FlaskClient) -> None:
    down = app_for(CLOSED_PORT).test_client()
    assert error_of(down.get("/metrics", headers=ADMIN)) == (503, "database_unavailable")
    head = client.head("/metrics", headers=ADMIN)
    assert (head.status_code, head.get_data()) == (200, b"")


def test_a_scrape_asks_health_once(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, get_health = [], metrics.get_health
    monkeypatch.setattr(metrics, "get_health", lambda *a: asked.append(1) or get_health(*a))
    assert value(scrape(client), "scrape_duration_seconds") is not None
    assert len(asked) == 1


# Figures


def test_before_the_first_run_what_nobody_knows_is_absent(client: FlaskClient) -> None:
    series = scrape(client)
    absent = {
        "last_run_timestamp_seconds", "last_success_timestamp_seconds", "last_run_success",
        "last_run_duration_seconds", "last_run_phase_duration_seconds", "send_wait_seconds",
        "schedule_last_run_late_seconds", "schedule_missed_slots_last_24h", "allowlist_active",
        "risk_to_phone_seconds",
    }  # fmt: skip
    assert not absent & names(series)
    assert value(series, "channel_configured", channel="email") is None
    assert value(series, "health_status", status="degraded") == 1
    assert value(series, "health_reason", reason="never_run") == 1
    assert value(series, "queue_due", source="digests", channel="telegram") == 0
    assert value(series, "queue_oldest_due_age_seconds", source="deliveries", channel="sms") == 0
    assert value(series, "runs_last_24h", status="failed") == 0
    assert value(series, "runs_lost_last_24h") == 0
    assert value(series, "paused", channel="sms") == 0
    assert value(series, "channel_closed", channel="sms", code="") == 0
    assert value(series, "build_info", version=VERSION, git_sha="") == 1


def test_runs(client: FlaskClient, conn: Connection) -> None:
    finished = ago(minutes=5)
    add_run(conn, status="failed", started_at=ago(hours=25))
    add_run(conn, status="failed", started_at=ago(hours=2), error_summary="runner lost: silent")
    add_run(conn, status="failed", started_at=ago(hours=2), dry_run=True)
    add_run(conn, started_at=ago(hours=1))
    last = add_run(conn, started_at=finished, duration_ms=1500)
    add_item(conn, last, "a", finished)
    add_item(conn, last, "c", finished)
    running = ago(minutes=1)
    add_run(conn, status="running", started_at=running, heartbeat_at=ago(minutes=2))
    series = scrape(client)
    assert value(series, "last_run_timestamp_seconds") == pytest.approx(running.timestamp(), 1e-3)
    last_success = value(series, "last_success_timestamp_seconds")
    assert last_success == pytest.approx(finished.timestamp() + 1, abs=1e-3)
    assert value(series, "last_run_success") == 1
    assert value(series, "last_run_duration_seconds") == 1.5
    assert value(series, "last_run_phase_duration_seconds", phase="a") == 0.012
    assert value(series, "last_run_phase_duration_seconds", phase="b") is None
    counts = {
        dict(labels)["status"]: v for (n, labels), v in series.items() if n == "runs_last_24h"
    }
    assert counts == {"running": 1, "success": 2, "failed": 1, "skipped": 0}
    assert value(series, "runs_lost_last_24h") == 2  # one closed as lost, one still silent


def test_a_failed_last_run_is_no_success(client: FlaskClient, conn: Connection) -> None:
    add_run(conn, started_at=ago(minutes=10))
    add_run(conn, status="failed", started_at=ago(minutes=1))
    series = scrape(client)
    assert value(series, "last_run_success") == 0
    assert value(series, "health_reason", reason="last_run_failed") == 1
    assert value(series, "health_status", status="failing") == 1
    assert value(series, "health_status", status="ok") == 0


def test_the_schedule(client: FlaskClient, conn: Connection) -> None:
    for minutes in (40, 30, 5):  # of every ten
        started = ago(minutes=minutes)
        add_run(
            conn, triggered_by="github_actions_schedule", started_at=started,
            scheduled_for=started, late_seconds=77,
        )  # fmt: skip
    series = scrape(client)
    assert value(series, "schedule_interval_seconds") == 600
    assert value(series, "schedule_last_run_late_seconds") == 77
    missed = value(series, "schedule_missed_slots_last_24h")
    assert missed is not None
    assert missed >= 1


def test_messages(client: FlaskClient, conn: Connection) -> None:
    user, alert = add_user(conn), add_alert(conn)
    past = NOW - timedelta(minutes=30)
    add_delivery(conn, user, alert, created_at=past)
    add_delivery(conn, user, add_alert(conn), created_at=past, next_retry_at=NOW + timedelta(1))
    add_delivery(
        conn, user, add_alert(conn), channel="telegram", status="failed", created_at=past,
        failure_code="outcome_unknown",
    )  # fmt: skip
    add_delivery(
        conn, user, add_alert(conn), status="sent", created_at=past,
        sent_at=past + timedelta(seconds=4),
    )  # fmt: skip
    add_digest(conn, user, window_end=NOW - timedelta(minutes=2))
    series = scrape(client)
    of_email: dict[str, Any] = {"channel": "email"}
    assert value(series, "queue_due", source="deliveries", **of_email) == 1
    assert value(series, "queue_oldest_due_age_seconds", source="deliveries", **of_email) == 1800
    assert value(series, "queue_due", source="digests", **of_email) == 1
    assert value(series, "queue_oldest_due_age_seconds", source="digests", **of_email) == 120
    assert value(series, "deliveries_last_24h", status="queued", **of_email) == 2
    assert value(series, "deliveries_last_24h", status="sent", **of_email) == 1
    assert value(series, "digests_last_7d", status="queued", **of_email) == 1
    assert value(series, "send_wait_seconds", percentile="95", **of_email) == 4
    assert value(series, "in_doubt", channel="telegram") == 1
    failures = {labels: v for (n, labels), v in series.items() if n == "failures_last_1h"}
    assert sum(failures.values()) == 1
    one = {"source": "deliveries", "channel": "telegram", "code": "outcome_unknown"}
    assert failures[tuple(sorted(one.items()))] == 1


def test_more_due_messages_than_are_counted(client: FlaskClient, conn: Connection) -> None:
    """From 1,000 on all that are queued."""
    with conn.cursor() as cursor:
        cursor.execute(
            "WITH u AS (INSERT INTO users (email_verified) SELECT TRUE"
            " FROM generate_series(1, 1500) RETURNING id)"
            " INSERT INTO user_alert_deliveries"
            " (user_id, alert_event_id, channel, delivery_kind, status, created_at, next_retry_at)"
            " SELECT id, %s, 'email', 'instant', 'queued', %s,"
            " CASE WHEN id > 1200 THEN %s END FROM u",
            (add_alert(conn), NOW - timedelta(minutes=3), NOW + timedelta(hours=1)),
        )
    assert value(scrape(client), "queue_due", source="deliveries", channel="email") == 1500


def test_input(client: FlaskClient, conn: Connection) -> None:
    add_index(conn, 40, at=NOW - timedelta(hours=3))
    series = scrape(client)
    assert value(series, "input_age_seconds", source="risk_indices") == 3 * 3600
    assert value(series, "input_age_seconds", source="asset_risk") is None


def test_channels(client: FlaskClient, conn: Connection) -> None:
    channels = {"email": {"configured": True}, "sms": {"configured": False}}
    add_run(conn, counts={"c": {"channels_held": {}, "channels": channels}})
    with conn.cursor() as cursor:
        cursor.execute(
            "INSERT INTO alerts_channel_state (channel, code, closed_since)"
            " VALUES ('telegram', 'auth_failed', clock_timestamp())"
            " ON CONFLICT (channel) DO UPDATE SET code = 'auth_failed',"
            " closed_since = clock_timestamp()"
        )
        cursor.execute(
            "INSERT INTO alerts_pauses (channel, reason, token_key_id) VALUES ('sms', 'x', 'cli')"
        )
    series = scrape(client)
    assert value(series, "channel_configured", channel="email") == 1
    assert value(series, "channel_configured", channel="sms") == 0
    assert value(series, "channel_closed", channel="telegram", code="auth_failed") == 1
    assert value(series, "channel_closed", channel="telegram", code="") is None
    assert value(series, "channel_closed", channel="email", code="") == 0
    assert value(series, "paused", channel="sms") == 1
    assert value(series, "paused", channel="email") == 0


def test_every_reason_has_a_series(client: FlaskClient) -> None:
    told = {dict(labels)["reason"] for name, labels in scrape(client) if name == "health_reason"}
    assert told == set(CODES)


def test_labels_hold_nothing_but_words_of_ours(client: FlaskClient, conn: Connection) -> None:
    add_run(conn, git_sha="5b0c1d2e")
    known = {*CODES, *FailureCode, VERSION}
    for name, labels in scrape(client):
        for label, text in labels:
            assert text in known or re.fullmatch(r"[a-z_0-9]*", text), (name, label, text)


def test_the_version_is_the_projects() -> None:
    assert f'\nversion = "{VERSION}"\n' in (CHECKOUT / "pyproject.toml").read_text()
