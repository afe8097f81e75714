"""The figure that users feel: how long after the risk data their message was handed over."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.channels.names import CHANNELS
from alerts.health.report import get_health
from tests.support.world import (
    NOW,
    add_channel_pref,
    add_index,
    add_pref,
    add_user,
    all_channels,
    query,
    run,
    settings_for,
)

NOBODY = {"count": 0, "p50": None, "p95": None, "p99": None}


def figures(conn: Connection, later: timedelta = timedelta(0)) -> dict[str, Any]:
    health = get_health(conn, settings_for("postgresql://unused"), NOW + later)
    return {name: health["channels"][name]["risk_to_phone_seconds_24h"] for name in CHANNELS}


def all_alike(count: int, seconds: int) -> dict[str, int]:
    return {"count": count, "p50": seconds, "p95": seconds, "p99": seconds}


def test_it_runs_from_the_score_to_the_message(conn: Connection, database_url: str) -> None:
    """Past the fan-out, which takes place at the same time; not of what waits for a digest."""
    add_index(conn, 85, at=NOW - timedelta(seconds=100))
    for _ in range(3):
        add_pref(conn, add_user(conn, "pro", telegram="77001"))
    digests = add_user(conn, "pro")
    add_channel_pref(conn, digests, "email", digest_only=True)
    run(database_url, channels=all_channels())
    assert figures(conn) == {
        "email": all_alike(3, 112),  # the next of four steps an octave
        "telegram": all_alike(3, 112),
        "sms": NOBODY,
        "account": all_alike(3, 112),
    }
    assert figures(conn, later=timedelta(hours=25)) == dict.fromkeys(CHANNELS, NOBODY)


def test_a_message_that_had_to_wait_took_longer(conn: Connection, database_url: str) -> None:
    add_index(conn, 85, at=NOW - timedelta(seconds=8))
    add_pref(conn, add_user(conn, "pro"))
    for phase in "ab":
        run(database_url, phase)
    run(database_url, "c", now=NOW + timedelta(seconds=632))
    found = figures(conn, later=timedelta(minutes=15))
    assert (found["account"], found["email"]) == (all_alike(1, 8), all_alike(1, 640))


def test_of_alerts_of_before_it_is_not_known(conn: Connection, database_url: str) -> None:
    add_index(conn, 85)
    add_pref(conn, add_user(conn, "pro"))
    run(database_url, "a")
    db.execute(conn, "UPDATE alert_events SET risk_at = NULL")  # made by an earlier version
    run(database_url)
    assert query(conn, "SELECT DISTINCT status FROM user_alert_deliveries") == [{"status": "sent"}]
    assert figures(conn) == dict.fromkeys(CHANNELS, NOBODY)
