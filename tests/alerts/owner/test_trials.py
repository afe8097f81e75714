"""Test messages: asked for over HTTP and sent by the next run, or sent at once by the command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection

from tests.support.owner_world import OWNER_CHAT, OWNER_EMAIL, Place, parsed, place_at
from tests.support.run_world import Runner
from tests.support.web import Admin, app_for
from tests.support.world import query


@pytest.fixture
def place(database_url: str) -> Iterator[Place]:
    with place_at(database_url) as found:
        yield found


@pytest.fixture
def admin(database_url: str) -> Admin:
    """The app's own variables name no owner and no provider."""
    return Admin(app_for(database_url).test_client())


def channel(admin: Admin, name: str) -> dict[str, Any]:
    told: dict[str, Any] = admin.ok("/test_message")["channels"][name]
    return told


def test_the_next_run_sends_what_was_asked_for_once_and_says_what_came_of_it(
    conn: Connection, admin: Admin, place: Place
) -> None:
    assert channel(admin, "email")["state"] == "never_asked"
    status, answer = admin.post("/test_message", channel="email")
    assert (status, answer["state"], answer["summary"]) == (
        200,
        "waiting",
        "The next run sends it.",
    )
    assert answer["last"]["state"] == "never_asked"
    assert channel(admin, "telegram")["state"] == "never_asked"
    place.run(dry_run=True)
    assert place.mail.mails == []
    for _ in range(2):
        place.run()
    (mail,) = place.mail.mails
    assert mail.recipient == OWNER_EMAIL
    assert parsed(mail)["Subject"] == "EnergyRiskIQ: a test message"
    assert place.chats == []
    told = channel(admin, "email")
    assert (told["state"], told["failure_code"]) == ("sent", None)
    assert told["summary"].startswith("Sent to the owner's address, ")
    (action,) = admin.ok("/actions", action="test_message")["actions"]
    assert (action["id"], action["result"]) == (answer["action_id"], {"state": "sent"})
    assert admin.post("/test_message", channel="email")[1]["last"]["state"] == "sent"
    shown = json.dumps([query(conn, "SELECT t::text FROM alerts_test_messages AS t"), action, told])
    assert "owner.owl" not in shown


def test_a_run_without_the_owners_address_says_so(admin: Admin, place: Place) -> None:
    for name in [name for name in place.environ if "OWNER" in name]:
        del place.environ[name]
    admin.post("/test_message", channel="telegram")
    place.run()
    told = channel(admin, "telegram")
    assert (told["state"], told["failure_code"]) == ("failed", "missing_destination")
    assert (
        "ALERTS_OWNER_TELEGRAM_CHAT_ID is not set where it was to be sent from" in told["summary"]
    )


TOKEN, BASE = "TELEGRAM_BOT_TOKEN", "TELEGRAM_API_BASE"


@pytest.mark.parametrize(
    ("changes", "code", "why"),
    [
        ({TOKEN: "1:x"}, "auth_failed", "the provider refused our password or key"),
        ({TOKEN: ""}, "channel_not_configured", "the channel has no provider"),
        ({BASE: "here"}, "misconfigured", "the channel's settings cannot be used"),
        ({BASE: "http://127.0.0.1:9"}, "network", "the provider could not be reached"),
    ],
)  # fmt: skip
def test_what_fails_is_said_in_words(
    admin: Admin, place: Place, changes: dict[str, str], code: str, why: str
) -> None:
    place.environ |= changes
    admin.post("/test_message", channel="telegram")
    assert place.run().record.status == "success"
    told = channel(admin, "telegram")
    assert (told["state"], told["failure_code"]) == ("failed", code)
    assert told["summary"].endswith(f": {why}.")


@pytest.mark.parametrize("name", ["sms", "account", "fax", ""])
def test_only_the_owners_channels_are_taken(admin: Admin, name: str) -> None:
    status, answer = admin.post("/test_message", channel=name)
    assert status == 400
    assert answer["error"]["message"] == "Parameter channel takes telegram or email."


def test_the_command_sends_at_once(
    conn: Connection, database_url: str, tmp_path: Path, place: Place
) -> None:
    runner = Runner(database_url, tmp_path)
    runner.environ |= place.environ
    done = runner.command("test-message", "telegram")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "sent"
    ((chat, text),) = place.chats
    assert chat == OWNER_CHAT
    assert text.startswith("<b>EnergyRiskIQ: a test message</b>")
    place.mail.fail("AUTH", "535 5.7.8 no", times=9)
    place.mail.fail("RCPT", "550 5.1.1 nobody", times=9)
    failed = runner.command("test-message", "email", EMAIL_PROVIDER="smtp")
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["failure_code"] == "recipient_invalid"
    rows = query(conn, "SELECT token_key_id, result FROM alerts_admin_actions ORDER BY id")
    assert [row["token_key_id"] for row in rows] == ["cli", "cli"]
    assert "owner.owl" not in done.stdout + done.stderr + failed.stdout + failed.stderr + str(rows)
