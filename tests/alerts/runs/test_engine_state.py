"""What the engine runs with is what its runs say, not what the web app's variables say."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.health.report import get_health
from alerts.lookup.explain import explain
from alerts.runs import engine_state
from alerts.runs.engine_state import KEPT
from tests.support.run_world import Runner
from tests.support.web import Admin, app_for
from tests.support.world import NOW, add_alert, add_pref, add_user, query, run, settings_for

WEB = settings_for("postgresql://unused")
STATE = "alerts_engine_state"


def states(conn: Connection) -> list[dict[str, Any]]:
    return query(conn, f"SELECT * FROM {STATE} ORDER BY id")


def test_a_run_says_what_it_runs_with(conn: Connection, database_url: str) -> None:
    environ = {
        "GITHUB_ACTIONS": "true", "GITHUB_SHA": "0a1b2c", "ALERTS_MAX_SEND_PER_RUN": "7",
        "ALERTS_SEND_ALLOWLIST_USER_IDS": "5,3", "ALERTS_EXPECTED_INTERVAL_MINUTES": "30",
        "ALERTS_TIMEZONE": "Asia/Tokyo", "TELEGRAM_BOT_TOKEN": "1:x", "TWILIO_ACCOUNT_SID": "AC1",
        "SMTP_URL": "no address", "EMAIL_FROM": "a@example.com",
    }  # fmt: skip
    run_id = run(database_url, "a", environ=environ).record.run_id
    (state,) = states(conn)
    expected = {
        "first_run_id": run_id, "last_run_id": run_id, "git_sha": "0a1b2c", "enabled": True,
        "allowlist": [3, 5], "max_send_per_run": 7, "interval_minutes": 30,
        "timezone": "Asia/Tokyo", "digest_period": "daily",
        "channels_configured": ["telegram"], "channels_off": [],
        "channels_misconfigured": {
            "email": ["SMTP_URL"], "sms": ["TWILIO_AUTH_TOKEN", "TWILIO_PHONE_NUMBER"],
        },
    }  # fmt: skip
    assert {name: state[name] for name in expected} == expected
    assert abs((state["first_at"] - datetime.now(UTC)).total_seconds()) < 60


CHANGES = [
    {"ALERTS_V2_ENABLED": "false"},
    {"ALERTS_SEND_ALLOWLIST_USER_IDS": "1"},
    {"ALERTS_SEND_ALLOWLIST_USER_IDS": "1,2"},
    {"ALERTS_MAX_SEND_PER_RUN": "1"},
    {"ALERTS_EXPECTED_INTERVAL_MINUTES": "11"},
    {"ALERTS_TIMEZONE": "UTC"},
    {"ALERTS_DIGEST_PERIOD": "hourly"},
    {"TELEGRAM_BOT_TOKEN": "1:x"},
    {"SMTP_URL": "no address"},
    {"GITHUB_SHA": "1"},
]


def test_each_change_is_a_row_with_its_first_and_last_run(
    conn: Connection, database_url: str
) -> None:
    told = []
    for environ in ({}, *CHANGES, {}):
        told.append([run(database_url, "a", environ=environ).record.run_id for _ in range(3)])
    rows = states(conn)
    assert [(row["first_run_id"], row["last_run_id"]) for row in rows] == [
        (first, last) for first, _, last in told
    ]
    assert all(row["first_at"] < row["last_at"] for row in rows)


def test_the_last_changes_are_kept(conn: Connection, database_url: str) -> None:
    for cap in range(1, KEPT + 4):
        run(database_url, "a", environ={"ALERTS_MAX_SEND_PER_RUN": str(cap)})
    assert [row["max_send_per_run"] for row in states(conn)] == list(range(4, KEPT + 4))


@pytest.mark.parametrize(
    "arguments", [("--phase", "a", "--dry-run"), ("--phase", "a")], ids=["dry run", "bad settings"]
)
def test_who_runs_with_nothing_says_nothing(
    conn: Connection, database_url: str, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    runner = Runner(database_url, tmp_path)
    bad = {} if "--dry-run" in arguments else {"ALERTS_SEND_WORKERS": "many"}
    runner(*arguments, **bad)
    assert query(conn, "SELECT * FROM alerts_engine_runs") != []
    assert states(conn) == []


def test_where_it_cannot_be_stored_the_run_is_recorded_all_the_same(
    conn: Connection, database_url: str
) -> None:
    db.execute(conn, f"DROP TABLE {STATE}")
    assert run(database_url, "a").recorded


def test_before_the_first_run_the_own_settings_are_assumed(conn: Connection) -> None:
    mine = settings_for("postgresql://unused", ALERTS_MAX_SEND_PER_RUN="3")
    found = engine_state.current(conn, mine)
    assert (found.max_send_per_run, found.first_at) == (3, None)


# Who answers by it


def told(conn: Connection, user: int, event: int) -> tuple[bool, bool, str]:
    answer = explain(conn, WEB, event_id=event, user_id=user, now=NOW)
    assert isinstance(answer, dict)
    decision = answer["channels"][0]["decision"]
    return answer["allowlist_active"], answer["user_in_allowlist"], decision


@pytest.mark.parametrize("of_the_web_app", [{}, {"ALERTS_SEND_ALLOWLIST_USER_IDS": "1"}])
def test_explain_answers_by_the_allowlist_of_the_engine(
    conn: Connection, database_url: str, of_the_web_app: dict[str, str]
) -> None:
    add_user(conn)
    listed, other = add_user(conn, "pro"), add_user(conn, "pro")
    for user in (listed, other):
        add_pref(conn, user)
    event = add_alert(conn)
    admin = Admin(app_for(database_url, **of_the_web_app).test_client())

    def answer(user: int) -> tuple[bool, bool]:
        found = admin.ok("/explain", event_id=event, user_id=user)
        return found["allowlist_active"], found["user_in_allowlist"]

    run(database_url, "a", environ={"ALERTS_SEND_ALLOWLIST_USER_IDS": str(listed)})
    assert (answer(listed), answer(other)) == ((True, True), (True, False))
    assert told(conn, other, event)[2] == "not_in_allowlist"
    run(database_url, "a")
    assert (answer(listed), answer(other)) == ((False, True), (False, True))
    assert told(conn, other, event)[2] == "created"


def test_health_judges_by_the_interval_of_the_engine(conn: Connection, database_url: str) -> None:
    run(database_url, "a", environ={"ALERTS_EXPECTED_INTERVAL_MINUTES": "60"})
    db.execute(
        conn,
        "UPDATE alerts_engine_runs SET started_at = started_at - interval '2 hours',"
        " finished_at = finished_at - interval '2 hours'",
    )
    health = get_health(conn, WEB, NOW)
    assert (health["status"], health["schedule"]["expected_interval_minutes"]) == ("ok", 60)
    db.execute(conn, f"UPDATE {STATE} SET interval_minutes = 10")
    assert get_health(conn, WEB, NOW)["status"] == "failing"


def test_health_tells_that_the_engine_is_switched_off(conn: Connection, database_url: str) -> None:
    run(database_url, "a")
    db.execute(
        conn,
        "UPDATE alerts_engine_runs SET started_at = started_at - interval '2 hours',"
        " finished_at = finished_at - interval '2 hours'",
    )
    run(database_url, "a", environ={"ALERTS_V2_ENABLED": "off"})
    cause, symptom = get_health(conn, WEB, NOW)["reasons"]
    assert (cause["code"], symptom["code"]) == ("switched_off", "no_recent_success")
    assert symptom["cause"] == "switched_off"
    assert "ALERTS_V2_ENABLED has turned the engine off" in cause["message"]


def test_health_shows_what_the_engine_runs_with_and_no_users(
    conn: Connection, database_url: str
) -> None:
    run(database_url, "a", environ={"ALERTS_SEND_ALLOWLIST_USER_IDS": "70001,70002"})
    health = get_health(conn, WEB, NOW)
    assert health["engine"]["allowlist_users"] == 2
    assert health["engine"]["enabled"] is True
    assert "70001" not in str(health)
