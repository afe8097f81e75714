"""What is wrong with one channel's settings stops that channel: its messages wait, others go."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection

from alerts import words
from alerts.health.report import get_health
from tests.support.run_world import Runner, last_run
from tests.support.web import app_for
from tests.support.world import NOW, add_alert, add_delivery, add_user, query, settings_for

SMTP = {"SMTP_URL": "smtp://user:pw@mail.example.com", "EMAIL_FROM": "a@example.com"}
TWILIO = {
    "TWILIO_ACCOUNT_SID": "AC1", "TWILIO_AUTH_TOKEN": "t", "TWILIO_PHONE_NUMBER": "+31600000000",
}  # fmt: skip

# What is set, which channel cannot be used, and which variable is to blame.
WRONG: dict[str, tuple[dict[str, str], str, str]] = {
    "an address of no mail server": ({**SMTP, "SMTP_URL": "mail:25"}, "email", "SMTP_URL"),
    "no sender": ({**SMTP, "EMAIL_FROM": ""}, "email", "EMAIL_FROM"),
    "a sender that is none": ({**SMTP, "EMAIL_FROM": "nobody"}, "email", "EMAIL_FROM"),
    "a provider that is none": ({**SMTP, "EMAIL_PROVIDER": "x"}, "email", "EMAIL_PROVIDER"),
    "two providers": ({**SMTP, "BREVO_API_KEY": "k"}, "email", "EMAIL_PROVIDER"),
    "another provider's key": ({**SMTP, "EMAIL_PROVIDER": "brevo"}, "email", "BREVO_API_KEY"),
    "a limit that is none": (
        {**SMTP, "ALERTS_RATE_LIMIT_EMAIL_PER_MINUTE": "few"},
        "email", "ALERTS_RATE_LIMIT_EMAIL_PER_MINUTE",
    ),
    "no token": ({**TWILIO, "TWILIO_AUTH_TOKEN": ""}, "sms", "TWILIO_AUTH_TOKEN"),
    "no number": ({**TWILIO, "TWILIO_PHONE_NUMBER": ""}, "sms", "TWILIO_PHONE_NUMBER"),
    "a base that is none": ({**TWILIO, "TWILIO_API_BASE": "x"}, "sms", "TWILIO_API_BASE"),
    "bytes for a token": (
        {"TELEGRAM_BOT_TOKEN": "1:\udcff\udcfe"}, "telegram", "TELEGRAM_BOT_TOKEN",
    ),
    "bytes for a password": (
        {**SMTP, "SMTP_URL": "smtp://user:\udce9@mail.example.com"}, "email", "SMTP_URL",
    ),
    "bytes for a key": (
        {"EMAIL_PROVIDER": "brevo", "BREVO_API_KEY": "\udcff", "EMAIL_FROM": "a@example.com"},
        "email", "BREVO_API_KEY",
    ),
}  # fmt: skip


@pytest.fixture
def engine(database_url: str, tmp_path: Path) -> Runner:
    """Of the channels the inbox alone is there."""
    found = Runner(database_url, tmp_path)
    for name in ("EMAIL_PROVIDER", "ALERTS_OUTBOX_DIR"):
        del found.environ[name]
    return found


def queue(conn: Connection, channel: str) -> int:
    user = add_user(conn, "pro", telegram="77001", phone="+31610000001")
    return add_delivery(conn, user, add_alert(conn), channel)


@pytest.mark.parametrize("kind", WRONG)
def test_its_messages_wait_and_the_run_says_which_channel_and_variable(
    conn: Connection, engine: Runner, kind: str
) -> None:
    environ, channel, variable = WRONG[kind]
    row = queue(conn, channel)
    code, lines = engine.json_lines("--phase", "all", "--now", NOW.isoformat(), **environ)
    assert code == 1
    assert [line["phase"] for line in lines[:-1]] == ["a", "b", "d", "c"]
    held: dict[str, Any] = lines[3]["counts"]["channels_held"]
    assert held == {channel: "misconfigured"}
    stored = last_run(conn)
    assert stored["status"] == "failed"
    assert f"{channel} (misconfigured)" in stored["error_summary"]
    (waiting,) = query(conn, "SELECT * FROM user_alert_deliveries WHERE id = %s", row)
    assert (waiting["status"], waiting["attempts"]) == ("queued", 0)
    told = {
        reason["code"]: reason["message"]
        for reason in get_health(
            conn, settings_for("postgresql://unused"), datetime.now(UTC)
        )["reasons"]
    }  # fmt: skip
    assert words.channel(channel) in told["misconfigured"].replace("Email", "email")
    assert variable in told["misconfigured"]


@pytest.mark.parametrize(
    "kind", [kind for kind, (_, channel, _) in WRONG.items() if channel != "email"]
)
def test_the_other_channels_messages_go(conn: Connection, engine: Runner, kind: str) -> None:
    environ, _, variable = WRONG[kind]
    other = queue(conn, "email")
    outbox = {
        "EMAIL_PROVIDER": "outbox", "ALERTS_OUTBOX_DIR": str(engine.folder / "outbox"),
    }  # fmt: skip
    done = engine("--phase", "c", "--now", NOW.isoformat(), **environ, **outbox)
    assert done.returncode == 1  # the channel that cannot be used makes the run failed
    assert variable in done.stderr
    (row,) = query(conn, "SELECT status FROM user_alert_deliveries WHERE id = %s", other)
    assert row["status"] == "sent"


def test_with_settings_mended_they_go(conn: Connection, engine: Runner, tmp_path: Path) -> None:
    row = queue(conn, "email")
    at = ("--phase", "c", "--now", NOW.isoformat())
    assert engine(*at, EMAIL_PROVIDER="outbox").returncode == 1
    mended = {"EMAIL_PROVIDER": "outbox", "ALERTS_OUTBOX_DIR": str(tmp_path / "outbox")}
    assert engine(*at, **mended).returncode == 0
    (found,) = query(conn, "SELECT status FROM user_alert_deliveries WHERE id = %s", row)
    assert found["status"] == "sent"


def test_a_dry_run_says_it_too(conn: Connection, engine: Runner) -> None:
    queue(conn, "email")
    at = ("--phase", "c", "--dry-run", "--now", NOW.isoformat())
    done = engine(*at, SMTP_URL="mail", EMAIL_FROM="a@example.com")
    assert done.returncode == 1
    assert "misconfigured" in last_run(conn)["error_summary"]


@pytest.mark.parametrize("variables", [
    {"BREVO_API_BASE": "x"}, {"RESEND_API_BASE": "ftp://h"}, {"SMTP_URL": "no address"},
    {"TWILIO_API_BASE": "x"},
])  # fmt: skip
def test_a_variable_of_what_is_not_in_use_stops_nothing(
    conn: Connection, engine: Runner, variables: dict[str, str]
) -> None:
    chosen = {"TELEGRAM_BOT_TOKEN": "1:x", "EMAIL_PROVIDER": "outbox",
              "ALERTS_OUTBOX_DIR": str(engine.folder / "outbox")}  # fmt: skip
    queue(conn, "email")
    done = engine("--phase", "c", "--now", NOW.isoformat(), **chosen, **variables)
    assert done.returncode == 0
    assert next(iter(variables)) in done.stderr


def test_no_channels_settings_keep_the_web_app_from_starting(database_url: str) -> None:
    for environ, _, _ in WRONG.values():
        assert app_for(database_url, **environ).test_client().get("/healthz").status_code == 200
