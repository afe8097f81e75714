"""Why no run has succeeded: each cause is told from the others, by rows as they lie there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.health.reasons import CODES, SEVERITIES
from alerts.health.report import get_health
from alerts.health.verdict import RULES
from tests.support.incident_scenes import forget_newest_migration
from tests.support.incidents import INCIDENTS
from tests.support.web import add_run
from tests.support.world import NOW, add_alert, add_delivery, add_user, run, settings_for

SETTINGS = settings_for("postgresql://unused")
SCHEDULED = {"triggered_by": "github_actions_schedule"}


def ago(minutes: float) -> datetime:
    return datetime.now(UTC) - timedelta(minutes=minutes)


def paused(conn: Connection, url: str) -> None:
    add_run(conn, status="skipped", started_at=ago(5))
    db.execute(
        conn,
        "INSERT INTO alerts_pauses (channel, reason, paused_at, token_key_id)"
        " VALUES ('all', 'moving', %s, 'cli')",
        (ago(60),),
    )


def switched_off(conn: Connection, url: str) -> None:
    run(url, "a", environ={"ALERTS_V2_ENABLED": "no"})


def not_started(conn: Connection, url: str) -> None:
    add_run(conn, started_at=ago(90), **SCHEDULED)


def dry_runs(conn: Connection, url: str) -> None:
    add_run(conn, started_at=ago(5), dry_run=True)


def silent(conn: Connection, url: str) -> None:
    add_run(conn, status="running", started_at=ago(5), heartbeat_at=ago(3))


def lost(conn: Connection, url: str) -> None:
    summary = "runner lost: no heartbeat since then"
    add_run(conn, status="failed", started_at=ago(5), error_summary=summary)


def under_way(conn: Connection, url: str) -> None:
    add_run(conn, status="running", started_at=ago(70), heartbeat_at=ago(0))


def failing(conn: Connection, url: str) -> None:
    for minutes in (25, 15, 5):
        add_run(conn, status="failed", started_at=ago(minutes), error_summary="phase a: no")


def migrations(conn: Connection, url: str) -> None:
    forget_newest_migration(conn)
    failing(conn, url)


def locked_out(conn: Connection, url: str) -> None:
    add_run(conn, status="skipped", started_at=ago(5), error_summary="lock_not_acquired")


def not_recorded(conn: Connection, url: str) -> None:
    text = "INSERT INTO alerts_channel_state (channel, last_success_at) VALUES ('email', %s)"
    db.execute(conn, text, (ago(1),))


def nobody_knows(conn: Connection, url: str) -> None:
    add_run(conn, status="skipped", started_at=ago(5))


CAUSES: dict[str, tuple[Callable[[Connection, str], None], ...]] = {
    "paused": (paused,),
    "switched_off": (switched_off,),
    "not_started": (not_started,),
    "dry_runs": (dry_runs,),
    "killed": (silent, lost),
    "under_way": (under_way,),
    "failing": (failing,),
    "migrations": (migrations,),
    "locked_out": (locked_out,),
    "not_recorded": (not_recorded,),
    "unknown": (nobody_knows,),
}
# What is the cause of each, where it is a reason of its own.
SAID_BY = {
    "paused": "paused", "switched_off": "switched_off", "dry_runs": "dry_run",
    "failing": "last_run_failed", "migrations": "migrations_pending",
    "not_recorded": "runs_not_recorded",
}  # fmt: skip


@pytest.mark.parametrize(
    ("cause", "make"), [(cause, make) for cause, makes in CAUSES.items() for make in makes]
)
def test_no_recent_success_says_its_cause(
    conn: Connection, database_url: str, cause: str, make: Callable[[Connection, str], None]
) -> None:
    add_run(conn, started_at=ago(95))  # the last success
    make(conn, database_url)
    reasons: list[dict[str, Any]] = get_health(conn, SETTINGS, NOW)["reasons"]
    codes = [each["code"] for each in reasons]
    told = reasons[codes.index("no_recent_success")]
    assert (told["cause"], told["severity"]) == (cause, "failing")
    first = SAID_BY.get(cause, "no_recent_success")
    assert codes[0] == first if make not in (silent, lost) else codes[0] != "no_recent_success"


@pytest.mark.parametrize(("hours", "severity"), [(1, "note"), (23.9, "note"), (24.1, "degraded")])
@pytest.mark.parametrize("channel", ["all", "sms"])
def test_a_pause_is_a_note_until_it_seems_forgotten(
    conn: Connection, channel: str, hours: float, severity: str
) -> None:
    add_run(conn)
    db.execute(
        conn,
        "INSERT INTO alerts_pauses (channel, reason, paused_at, token_key_id)"
        " VALUES (%s, 'moving', %s, 'cli')",
        (channel, ago(60 * hours)),
    )
    (told,) = get_health(conn, SETTINGS, NOW)["reasons"]
    assert (told["code"], told["severity"]) == ("paused", severity)


@pytest.mark.parametrize(("hours", "severity"), [(1, "note"), (25, "degraded")])
def test_a_dry_run_is_a_note_until_no_other_has_come_for_a_day(
    conn: Connection, hours: float, severity: str
) -> None:
    add_run(conn, started_at=ago(60 * hours))
    add_run(conn, dry_run=True)
    told = {each["code"]: each for each in get_health(conn, SETTINGS, NOW)["reasons"]}
    assert told["dry_run"]["severity"] == severity


def test_texts_hold_no_codes_and_no_field_names(conn: Connection, database_url: str) -> None:
    """All that can be told at once."""
    add_run(conn, started_at=ago(95))
    for makes in CAUSES.values():
        for make in makes:
            make(conn, database_url)
    for reason in get_health(conn, SETTINGS, NOW)["reasons"]:
        told = {word.strip(".,;:()") for word in reason["message"].split()}
        codes = {code for code in CODES if "_" in code}  # the others are words
        assert not told & {*codes, "error_summary", "failures_24h", "last_run"}
        assert reason["severity"] in SEVERITIES
        assert reason["page"].startswith("/ops")


# Told of by tests of their own.
ELSEWHERE = {
    "never_run", "queue_waiting", "channel_not_configured", "token_too_short", "counts_stale",
    "queue_differs",
}  # fmt: skip


def test_every_code_has_a_scenario() -> None:
    assert {each.code for each in INCIDENTS} | ELSEWHERE == set(CODES)
    assert len(RULES) == len(set(RULES))


def test_the_last_run_is_told_as_failed_however_long_ago_it_died(conn: Connection) -> None:
    summary = "runner lost: no heartbeat since then"
    add_run(conn, status="failed", started_at=ago(60 * 50), error_summary=summary)
    codes = [each["code"] for each in get_health(conn, SETTINGS, NOW)["reasons"]]
    assert "last_run_failed" in codes


@pytest.mark.parametrize("ended", ["cap", "deadline"])
def test_runs_of_other_phases_do_not_hide_that_sending_ends_early(
    conn: Connection, ended: str
) -> None:
    sending = {"c": {"stopped_early": ended, "channels_held": {}}}
    add_delivery(conn, add_user(conn), add_alert(conn))
    for minutes in (30, 20, 10):
        add_run(conn, started_at=ago(minutes), counts=sending)
        add_run(conn, started_at=ago(minutes - 1), phase="a", counts={"a": {}})
    told = {each["code"]: each for each in get_health(conn, SETTINGS, NOW)["reasons"]}
    assert "The last 3 runs" in told["cap_reached"]["message"]
