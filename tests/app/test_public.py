"""The public routes: liveness and the newest global events, without any user data."""

from __future__ import annotations

from datetime import timedelta

import pytest
from flask.testing import FlaskClient
from psycopg2.extensions import connection as Connection

from alerts import db
from tests.support.web import app_for, error_of
from tests.support.world import NOW, add_alert, add_delivery, add_user

LATEST = "/alerts/events/latest"


def test_healthz_says_ok(client: FlaskClient) -> None:
    response = client.get("/healthz")
    assert (response.status_code, response.get_json()) == (200, {"status": "ok"})


def test_without_events_there_is_an_empty_list(client: FlaskClient) -> None:
    assert client.get(LATEST).get_json() == {"count": 0, "events": []}


def test_an_event_shows_what_happened_and_nothing_of_users(
    client: FlaskClient, conn: Connection
) -> None:
    event = add_alert(
        conn,
        alert_type="ASSET_RISK_SPIKE",
        assets=["gas"],
        severity=4,
        risk_score=81.5,
        headline="Gas risk in Europe",
    )
    user = add_user(conn, telegram="424242", phone="+31600000000")
    add_delivery(conn, user, event, last_error="no such mailbox")
    response = client.get(LATEST)
    assert response.get_json() == {
        "count": 1,
        "events": [
            {
                "id": event,
                "alert_type": "ASSET_RISK_SPIKE",
                "region": "Europe",
                "assets": ["gas"],
                "severity": 4,
                "risk_score": 81.5,
                "headline": "Gas risk in Europe",
                "body": "What happened.",
                "created_at": (NOW - timedelta(minutes=10)).isoformat(),
            }
        ],
    }
    shown = response.get_data(as_text=True)
    for private in ("example.com", "424242", "+316", "mailbox"):
        assert private not in shown


def test_the_newest_event_comes_first_and_those_after_the_clock_not_at_all(
    client: FlaskClient, conn: Connection
) -> None:
    ages = [timedelta(hours=3), timedelta(), timedelta(days=90), timedelta(hours=1)]
    for age in ages:
        add_alert(conn, headline=str(age), created_at=NOW - age)
    add_alert(conn, headline="tomorrow", created_at=NOW + timedelta(microseconds=1))
    events = client.get(LATEST).get_json()["events"]
    assert [e["headline"] for e in events] == [str(age) for age in sorted(ages)]


def test_events_of_the_same_instant_keep_one_order(client: FlaskClient, conn: Connection) -> None:
    ids = [add_alert(conn) for _ in range(5)]
    assert [e["id"] for e in client.get(LATEST).get_json()["events"]] == ids[::-1]


@pytest.mark.parametrize(("query", "shown"), [("", 20), ("?limit=1", 1), ("?limit=100", 100)])
def test_the_limit(client: FlaskClient, conn: Connection, query: str, shown: int) -> None:
    event = add_alert(conn)
    db.execute(
        conn,
        "INSERT INTO alert_events (alert_type, severity, headline, body, cooldown_key,"
        " event_fingerprint, created_at) SELECT alert_type, severity, headline, body, n, n,"
        " created_at FROM alert_events, generate_series(1, 120) AS n WHERE id = %s",
        (event,),
    )
    body = client.get(LATEST + query).get_json()
    assert body["count"] == len(body["events"]) == shown


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=", "limit=x", "limit=2&limit=2", "user_id=1"]
)
def test_a_bad_parameter_is_400_with_its_name(client: FlaskClient, query: str) -> None:
    response = client.get(f"{LATEST}?{query}")
    assert error_of(response) == (400, "bad_parameter")
    assert f"Parameter {query.partition('=')[0]} " in response.get_json()["error"]["message"]


def test_without_a_frozen_clock_the_present_counts(database_url: str, conn: Connection) -> None:
    add_alert(conn, headline="long ago")
    add_alert(conn, headline="in a far future", created_at=NOW.replace(year=2999))
    client = app_for(database_url, ALERTS_CLOCK="").test_client()
    events = client.get(LATEST).get_json()["events"]
    assert [e["headline"] for e in events] == ["long ago"]
