"""Sending again, pausing and resuming from the pages."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from psycopg2.extensions import connection as Connection

from tests.support.ops import bad_day, csrf, fields, get, page, post, signed_in
from tests.support.web import Admin, app_for
from tests.support.world import NOW, add_alert, add_delivery, add_user, query, value

FORM = '<form method="post" action="/ops/retry"'


@pytest.fixture
def client(database_url: str) -> FlaskClient:
    """A browser that is signed in."""
    return signed_in(app_for(database_url))


def actions(conn: Connection) -> list[dict[str, Any]]:
    return query(conn, "SELECT action, parameters, result FROM alerts_admin_actions ORDER BY id")


def failed(conn: Connection, count: int, **columns: Any) -> list[int]:
    return [
        add_delivery(
            conn, add_user(conn, "pro"), add_alert(conn), status="failed", failed_at=NOW,
            **{"failure_code": "provider_unavailable", "attempts": 1, **columns},
        )
        for _ in range(count)
    ]  # fmt: skip


def queued(conn: Connection) -> int:
    found: int = value(conn, "SELECT count(*) FROM alerts_send_queue")
    return found


def test_the_preview_is_what_the_api_counts_and_changes_nothing(
    client: FlaskClient, admin: Admin, conn: Connection
) -> None:
    bad_day(conn)
    before = (queued(conn), len(actions(conn)))
    text = page(client, "/ops/retry?include=exhausted")
    _, told = admin.post("/retry_failed", kind="deliveries", include="exhausted", dry_run="true")
    assert told["requeued"] == 2
    shown = fields(text, FORM)
    assert (shown["shown"], shown["out_of"]) == (str(told["requeued"]), str(told["eligible"]))
    assert "may or may not have been delivered" in text
    assert (queued(conn), len(actions(conn))) == before


def test_what_was_shown_is_done_and_told_with_its_audit_entry(
    client: FlaskClient, conn: Connection
) -> None:
    failed(conn, 3)
    done = post(client, "/ops/retry", fields(page(client, "/ops/retry?channel=email"), FORM))
    assert done.status_code == 303
    assert "channel=email" in done.location
    assert queued(conn) == 3
    (entry,) = actions(conn)
    assert entry["parameters"]["channel"] == "email"
    assert entry["result"]["requeued"] == 3
    text = page(client, done.location)
    assert "3 deliveries put back into the queue" in text
    assert "The next run sends" in text


@pytest.mark.parametrize("change", ["more", "fewer", "forged"])
def test_a_number_that_has_changed_shows_a_new_preview_and_writes_nothing(
    client: FlaskClient, conn: Connection, change: str
) -> None:
    ids = failed(conn, 3)
    form = fields(page(client, "/ops/retry"), FORM)
    if change == "more":
        failed(conn, 1)
    elif change == "fewer":
        query(conn, "DELETE FROM user_alert_deliveries WHERE id = %s RETURNING id", ids[0])
    else:
        form["shown"] = "2"
    answer = post(client, "/ops/retry", form)
    assert answer.status_code == 200
    assert "has changed meanwhile" in answer.text
    assert (queued(conn), actions(conn)) == (0, [])
    again = fields(answer.text, FORM)
    assert again["shown"] == {"more": "4", "fewer": "2"}.get(change, "3")
    assert post(client, "/ops/retry", again).status_code == 303
    assert queued(conn) == int(again["shown"])


def test_what_may_have_arrived_needs_a_tick(client: FlaskClient, conn: Connection) -> None:
    failed(conn, 2, failure_code="sender_lost")
    form = fields(page(client, "/ops/retry?include=unknown"), FORM)
    answer = post(client, "/ops/retry", form)
    assert (answer.status_code, "the tick is missing" in answer.text) == (200, True)
    assert (queued(conn), actions(conn)) == (0, [])
    assert post(client, "/ops/retry", {**form, "twice": "yes"}).status_code == 303
    assert queued(conn) == 2


def test_a_form_that_names_what_is_not_known_is_refused(
    client: FlaskClient, conn: Connection
) -> None:
    failed(conn, 1)
    form = fields(page(client, "/ops/retry"), FORM)
    for change in ({"dry_run": "true"}, {"kind": "letters"}, {"shown": "x"}, {"shown": ""}):
        answer = post(client, "/ops/retry", {**form, **change})
        assert (answer.status_code, "bad_parameter" in answer.text) == (400, True)
    assert queued(conn) == 0


def test_ticks_of_a_form_become_a_comma_list(client: FlaskClient, conn: Connection) -> None:
    failed(conn, 1, attempts=5)
    failed(conn, 1, failure_code="recipient_invalid")
    text = page(client, "/ops/retry?kind=deliveries&channel=&include=exhausted&include=refused")
    assert fields(text, FORM)["include"] == "exhausted,refused"
    assert fields(text, FORM)["shown"] == "2"


@pytest.mark.parametrize("channel", ["", "email", "sms"])
def test_pausing_and_resuming(client: FlaskClient, conn: Connection, channel: str) -> None:
    form = {"csrf": csrf(client), "channel": channel}
    paused = post(client, "/ops/pause", {**form, "action": "pause", "reason": " wrong <b> "})
    assert paused.status_code == 303
    text = page(client, paused.location)
    assert "wrong &lt;b&gt;" in text
    name = {"": "the engine", "email": "Email", "sms": "SMS"}[channel]
    assert f"Resume {name}" in text
    assert f"Resume {name}" in page(client, "/ops")
    resumed = post(client, "/ops/pause", {**form, "action": "resume"})
    assert resumed.status_code == 303
    assert "Nothing is paused" in page(client, resumed.location)
    assert [each["action"] for each in actions(conn)] == ["pause", "resume"]
    for word in ("Paused", "Resumed", "wrong &lt;b&gt;"):
        assert word in page(client, "/ops/audit")


def test_a_pause_needs_a_reason_and_masks_addresses(client: FlaskClient, conn: Connection) -> None:
    form = {"csrf": csrf(client), "action": "pause", "channel": ""}
    for reason in ("", " ", "x" * 201, "two\nlines"):
        assert post(client, "/ops/pause", {**form, "reason": reason}).status_code == 400
    done = post(client, "/ops/pause", {**form, "reason": "jane@example.com, 31655501234 wrote"})
    text = page(client, done.location)
    assert "jane@" not in text
    assert "31655501234" not in text


def test_the_entry_that_was_just_made_is_told_and_no_other(
    client: FlaskClient, conn: Connection
) -> None:
    bad_day(conn)
    assert "Audit entry 1" in page(client, "/ops/pause?done=1")
    assert "Audit entry" not in page(client, "/ops/pause?done=99")
    assert get(client, "/ops/pause").status_code == 200
