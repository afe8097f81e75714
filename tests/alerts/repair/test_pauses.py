"""Pausing the engine or a channel: nothing goes out, nothing is lost, and health says so."""

from __future__ import annotations

from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.health.report import get_health
from alerts.repair import pauses
from tests.support.run_world import whole_world
from tests.support.world import (
    NOW,
    RememberingChannel,
    add_alert,
    add_delivery,
    add_user,
    all_channels,
    counts_of,
    query,
    run,
    settings_for,
)

WRITER: dict[str, Any] = {
    "now": NOW, "token_key_id": "0123abcd", "scrub": lambda text: text.replace("secret", "***"),
}  # fmt: skip


def states(conn: Connection) -> dict[str, str]:
    rows = query(conn, "SELECT channel, status, attempts FROM user_alert_deliveries")
    return {row["channel"]: f"{row['status']} {row['attempts']}" for row in rows}


def queue_three(conn: Connection) -> None:
    user, event = add_user(conn, telegram="7", phone="+31610000001"), add_alert(conn)
    for channel in ("email", "telegram", "sms"):
        add_delivery(conn, user, event, channel)


def test_a_paused_engine_records_its_runs_as_skipped_and_does_nothing(
    conn: Connection, database_url: str
) -> None:
    whole_world(conn)
    events = query(conn, "SELECT count(*) FROM alert_events")
    answer = pauses.pause(conn, None, "wrong headline", **WRITER)
    assert (answer["was_paused"], [p["channel"] for p in answer["paused"]]) == (False, [None])
    report = run(database_url)
    assert (report.record.status, report.record.items) == ("skipped", ())
    since = answer["paused"][0]["paused_at"]
    assert report.record.error_summary == f"paused since {since}: wrong headline"
    assert query(conn, "SELECT count(*) FROM alert_events") == events
    (row,) = query(conn, "SELECT status, error_summary FROM alerts_engine_runs")
    assert row == {"status": "skipped", "error_summary": report.record.error_summary}
    assert pauses.resume(conn, None, None, **WRITER)["was_paused"]
    assert run(database_url).record.status == "success"
    assert query(conn, "SELECT count(*) FROM alert_events") != events


def test_a_paused_channel_keeps_its_rows_and_the_others_go_on(
    conn: Connection, database_url: str
) -> None:
    queue_three(conn)
    pauses.pause(conn, "telegram", "bot is being moved", **WRITER)
    counts = counts_of(run(database_url, "c"), "c")
    assert states(conn) == {"email": "sent 1", "telegram": "queued 0", "sms": "sent 1"}
    assert {name: seen["paused"] for name, seen in counts["channels"].items()} == {
        "email": False, "telegram": True, "sms": False,
    }  # fmt: skip
    pauses.resume(conn, "telegram", "moved", **WRITER)
    assert counts_of(run(database_url, "c"), "c")["deliveries"]["sent"] == 1
    assert states(conn)["telegram"] == "sent 1"


def test_a_pause_during_a_run_ends_its_claims(conn: Connection, database_url: str) -> None:
    user = add_user(conn)
    for _ in range(60):
        add_delivery(conn, user, add_alert(conn))

    def pause_at_the_first(message: object) -> str:
        if not pauses.current(conn):
            pauses.pause(conn, None, "stop", **WRITER)
        return "id"

    email = RememberingChannel(pause_at_the_first)
    report = run(
        database_url,
        "c",
        channels=all_channels(email=email),
        environ={"ALERTS_SEND_WORKERS": "1", "ALERTS_RECORD_BATCH": "1"},
        batch_size=4,
    )
    assert report.record.status == "success"
    assert 1 <= len(email.sent) <= 8  # what was claimed already may still go out
    rest = query(conn, "SELECT status FROM user_alert_deliveries WHERE status <> 'sent'")
    assert [row["status"] for row in rest] == ["queued"] * (60 - len(email.sent))


def test_pausing_again_keeps_the_time_and_takes_the_new_reason(conn: Connection) -> None:
    first = pauses.pause(conn, "sms", "first", **WRITER)
    second = pauses.pause(conn, "sms", "a secret reason", **WRITER)
    assert second["was_paused"]
    assert second["paused"] == [{**first["paused"][0], "reason": "a *** reason"}]
    assert not pauses.resume(conn, "email", None, **WRITER)["was_paused"]
    rows = query(conn, "SELECT action, parameters, result FROM alerts_admin_actions ORDER BY id")
    assert [row["action"] for row in rows] == ["pause", "pause", "resume"]
    assert rows[1]["parameters"] == {"channel": "sms", "reason": "a *** reason"}
    assert rows[2]["result"] == {"was_paused": False}


def test_without_its_audit_row_nothing_is_paused(conn: Connection) -> None:
    db.execute(conn, "ALTER TABLE alerts_admin_actions RENAME TO gone")
    with pytest.raises(psycopg2.Error), db.transaction(conn):
        pauses.pause(conn, None, "reason", **WRITER)
    assert pauses.current(conn) == []


def test_health_says_what_is_paused_since_when_and_why(conn: Connection) -> None:
    pauses.pause(conn, "sms", "provider moves", **WRITER)
    health = get_health(conn, settings_for("postgresql://unused"), NOW)
    (paused,) = health["paused"]
    assert (paused["channel"], paused["reason"]) == ("sms", "provider moves")
    (reason,) = [r for r in health["reasons"] if r["code"] == "paused"]
    assert (paused["paused_at"], "sms", "note") == (
        reason["since"], reason["channel"], reason["severity"],
    )  # fmt: skip
    assert reason["message"].endswith("by token 0123abcd: provider moves")
    assert [name for name, seen in health["channels"].items() if seen["paused"]] == ["sms"]


@pytest.mark.parametrize("text", ["", "  ", "x" * 201, "two\nlines", "nul\0"])
def test_a_reason_is_one_line_of_text(text: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        pauses.checked_reason(text)
