"""Pauses from the command line, in runs of every sort, and what a reason may hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.cli import commands
from alerts.redaction import redactor_for
from alerts.repair import pauses
from tests.support.queue_world import add_digest, queue_instants, statuses
from tests.support.run_world import run_row
from tests.support.web import ADMIN, PREFIX, app_for
from tests.support.world import (
    NOW,
    add_alert,
    add_delivery,
    add_user,
    counts_of,
    query,
    run,
    settings_for,
    value,
)

SETTINGS = settings_for("postgresql://unused", INTERNAL_RUNNER_TOKEN="a-token-for-tests")
WRITER: dict[str, Any] = {
    "now": NOW, "token_key_id": "0123abcd", "scrub": redactor_for(SETTINGS).scrub,
}  # fmt: skip


# Runs


def test_a_dry_run_of_a_paused_engine_is_skipped_too(conn: Connection, database_url: str) -> None:
    queue_instants(conn, 2)
    pauses.pause(conn, None, "wait", **WRITER)
    for phase in ("all", "a", "b", "c", "d"):
        report = run(database_url, phase, dry_run=True)
        assert (report.record.status, report.record.items) == ("skipped", ())
        row = run_row(conn, report)
        assert (row["dry_run"], row["status"], row["counts"]) == (True, "skipped", {})
    assert statuses(conn) == {"queued": 2}


def test_a_dry_run_leaves_out_a_paused_channel(conn: Connection, database_url: str) -> None:
    queue_instants(conn, 2)
    queue_instants(conn, 3, "telegram")
    pauses.pause(conn, "email", "wait", **WRITER)
    environ = {"EMAIL_PROVIDER": "outbox", "ALERTS_OUTBOX_DIR": "unused"}
    report = run(database_url, "c", dry_run=True, environ=environ)
    assert counts_of(report, "c")["deliveries"]["claimed"] == 3


def test_digests_of_a_paused_channel_wait_and_lapsed_claims_are_rescued(
    conn: Connection, database_url: str
) -> None:
    user = add_user(conn)
    digest = add_digest(conn, user, [add_alert(conn)])
    lost = add_delivery(conn, user, add_alert(conn), status="sending")
    pauses.pause(conn, "email", "wait", **WRITER)
    counts = counts_of(run(database_url, "c"), "c")
    assert (counts["deliveries"]["rescued"], counts["deliveries"]["claimed"]) == (1, 0)
    assert counts["digests"]["claimed"] == 0
    assert value(conn, "SELECT status FROM user_alert_deliveries WHERE id = %s", lost) == "queued"
    (row,) = query(conn, "SELECT status, attempts FROM user_alert_digests WHERE id = %s", digest)
    assert row == {"status": "queued", "attempts": 0}
    pauses.resume(conn, "email", None, **WRITER)
    assert counts_of(run(database_url, "c"), "c")["digests"]["sent"] == 1


def test_a_paused_channel_without_provider_keeps_its_rows(
    conn: Connection, database_url: str
) -> None:
    queue_instants(conn, 2, "sms")
    pauses.pause(conn, "sms", "provider moves", **WRITER)
    run(database_url, "c", channels={})
    assert statuses(conn) == {"queued": 2}


def test_a_database_from_before_says_what_to_run(
    conn: Connection, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    queue_instants(conn, 1)
    db.execute(conn, "DROP TABLE alerts_pauses")
    report = run(database_url)
    assert (report.record.status, report.recorded) == ("failed", True)
    assert str(run_row(conn, report)["error_summary"]).endswith("; run python scripts/migrate.py")
    assert statuses(conn) == {"queued": 1}
    client = app_for(database_url).test_client()
    answer = client.post(f"{PREFIX}/pause?reason=x", headers=ADMIN)
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (503, "migrations_pending")
    assert commands.main(["pause", "--reason", "x"], {"DATABASE_URL": database_url}) == 1
    assert "run python scripts/migrate.py" in caplog.text


# The command line


def told(database_url: str, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    environ = {"DATABASE_URL": database_url, "ALERTS_CLOCK": NOW.isoformat()}
    assert commands.main([*arguments, "--json"], environ) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_command_line_pauses_resumes_and_lists_like_the_endpoints(
    database_url: str, conn: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    client = app_for(database_url).test_client()

    def post(path: str) -> dict[str, Any]:
        found: dict[str, Any] = client.post(PREFIX + path, headers=ADMIN).get_json()
        return found

    for option, channel in (
        ((), ""),
        (("email",), "&channel=email"),
        (("telegram",), "&channel=telegram"),
    ):
        paused = told(database_url, capsys, "pause", *option, "--reason", "why")
        again = post(f"/pause?reason=why{channel}")
        assert [each.pop("by") for each in paused["paused"]] == ["cli"]
        assert [len(each.pop("by")) for each in again["paused"]] == [8]  # the token's key id
        assert again == {**paused, "was_paused": True, "action_id": paused["action_id"] + 1}
        resumed = told(database_url, capsys, "resume", *option)
        assert (resumed["was_paused"], resumed["paused"]) == (True, [])
        again = post(f"/resume?{channel.lstrip('&')}")
        assert again == {**resumed, "was_paused": False, "action_id": resumed["action_id"] + 1}
    listed = told(database_url, capsys, "actions", "--limit", "5")
    assert listed == client.get(f"{PREFIX}/actions?limit=5", headers=ADMIN).get_json()
    assert [action["token_key_id"] == "cli" for action in listed["actions"]] == [
        False, True, False, True, False,
    ]  # fmt: skip
    assert listed["actions"][0]["created_at"] == NOW.isoformat()
    before = listed["next_before"]
    rest = told(database_url, capsys, "actions", "--action", "pause", "--before", str(before))
    page = client.get(f"{PREFIX}/actions?action=pause&before={before}", headers=ADMIN).get_json()
    assert rest == page
    assert rest["actions"]
    assert {action["action"] for action in rest["actions"]} == {"pause"}


@pytest.mark.parametrize("arguments", [
    ["pause"], ["pause", "sms"], ["pause", "--reason", ""], ["pause", "--reason", " "],
    ["pause", "account", "--reason", "x"], ["pause", "all", "--reason", "x"], ["resume", "fax"],
    ["pause", "--reason", "x" * 201], ["pause", "resume", "--reason", "x"],
    ["actions", "--limit", "201"], ["actions", "--limit", "0"],
    ["actions", "--action", "delete"], ["actions", "--before", "1646762400000000.7"],
    ["actions", "--before", "0"], ["runs", "--before", "7"], ["deliveries", "--before", "x"],
])  # fmt: skip
def test_the_command_line_refuses_what_makes_no_sense(arguments: list[str]) -> None:
    assert commands.main(arguments, {}) == 2


# What a reason may hold


@pytest.mark.parametrize("secret", [
    "user@example.com", "+31 6 1234 5678", "0612345678", "5000000017", "a-token-for-tests",
    "123456789:AAFakeTokenOfABotThatDoesNotExist01",
])  # fmt: skip
def test_a_reason_names_nobody_wherever_it_is_kept(
    conn: Connection, database_url: str, secret: str
) -> None:
    pauses.pause(conn, None, f"because of {secret}", **WRITER)
    pauses.resume(conn, None, f"settled with {secret}", **WRITER)
    pauses.pause(conn, None, f"because of {secret}", **WRITER)
    run(database_url)
    kept = query(
        conn,
        "SELECT reason AS t FROM alerts_pauses"
        " UNION ALL SELECT parameters::text FROM alerts_admin_actions"
        " UNION ALL SELECT error_summary FROM alerts_engine_runs",
    )
    assert len(kept) == 5
    for row in kept:
        assert secret not in row["t"]
        assert "[redacted]" in row["t"]


def test_a_reason_keeps_its_times_and_its_quotes(conn: Connection) -> None:
    text = "'; DROP TABLE users; -- until 2026-01-16 12:30, 100 % sure <b>\u00e9\U0001f600"
    assert pauses.pause(conn, None, text, **WRITER)["paused"][0]["reason"] == text
    assert pauses.current(conn)[0].reason == text


@given(st.text(max_size=220))
def test_a_reason_that_is_taken_can_be_stored(text: str) -> None:
    try:
        reason = pauses.checked_reason(text)
    except ValueError:
        return
    kept = pauses._stored(reason, redactor_for(SETTINGS).scrub)
    assert 1 <= len(kept) <= pauses.LONGEST_REASON
    kept.encode()
    assert "\0" not in kept
