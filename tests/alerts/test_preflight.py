"""The preflight: each finding made to happen, and the command's exit codes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from alerts import db, migrations, preflight, runner
from alerts.cli import commands
from tests.support import CHECKOUT
from tests.support.pooler_double import Pooler
from tests.support.prefork import run_module
from tests.support.web import CLOSED_PORT
from tests.support.world import NOW, add_alert, add_delivery, add_user, query, run

EMAIL, CHAT = "ALERTS_OWNER_EMAIL", "ALERTS_OWNER_TELEGRAM_CHAT_ID"
# An environment with which nothing is to be said.
COMPLETE = {
    "INTERNAL_RUNNER_TOKEN": "hush-token-that-is-long-enough",
    "ALERTS_APP_BASE_URL": "https://example.com",
    "EMAIL_FROM": "alerts@example.com",
    "SMTP_URL": "smtp://user:hush-smtp@mail.example.com",
    "TELEGRAM_BOT_TOKEN": "1:hush-telegram",
    "TWILIO_ACCOUNT_SID": "AC1",
    "TWILIO_AUTH_TOKEN": "hush-twilio",
    "TWILIO_PHONE_NUMBER": "+31600000000",
    EMAIL: "hush-owner@example.com",
    CHAT: "77001",
}
IDS = {
    "errors": {
        "config_invalid", "channel_misconfigured", "database_url_missing", "pooler_detected",
        "database_unreachable", "server_too_old", "database_check_failed",
        "migrations_unreadable", "migrations_pending", "migrations_differ", "plan_free_missing",
        "standby_server", "database_not_utf8", "database_read_only", "grants_missing",
        "row_security_hides",
    },
    "warnings": {
        "engine_disabled", "enabled_unclear", "clock_frozen", "allowlist_active",
        "app_base_url_missing", "token_missing", "token_short", "no_channel", "outbox_in_use",
        "row_security_filters", "channel_off", "variable_unused", "database_newer",
        "senders_differ", "databases_differ", "one_click_missing", "owner_unreachable",
        "owner_unknown",
    },
}  # fmt: skip


def report(database_url: str, **changes: str) -> dict[str, Any]:
    """The preflight's answer; without secrets, or the test fails."""
    environ = {"DATABASE_URL": database_url, **COMPLETE, **changes}
    answer = preflight.preflight(environ).as_json()
    assert "hush" not in json.dumps(answer)
    assert answer["ok"] is not answer["errors"] and answer["ok"] == (not answer["errors"])
    for finding in (*answer["errors"], *answer["warnings"]):
        assert set(finding) == {"id", "message", "hint"}
        assert all(finding.values())
    return answer


def ids(answer: dict[str, Any]) -> tuple[list[str], list[str]]:
    return tuple([f["id"] for f in answer[kind]] for kind in ("errors", "warnings"))  # type: ignore[return-value]


def test_these_tests_know_every_finding() -> None:
    source = Path(preflight.__file__).read_text()
    for kind, call in (("errors", "error"), ("warnings", "warn")):
        assert set(re.findall(rf'report\.{call}\("(\w+)"', source)) == IDS[kind]


def test_with_all_in_place_there_is_nothing_to_say(database_url: str) -> None:
    told = report(database_url)
    assert told.pop("badge").startswith("https://example.com/badge/")
    assert told == {
        "ok": True,
        "db_ok": True,
        "migrations_ok": True,
        "channels_configured": {"email": True, "telegram": True, "sms": True},
        "providers": {"email": "smtp", "telegram": "telegram", "sms": "twilio"},
        "warnings": [],
        "errors": [],
    }


def test_it_changes_nothing(database_url: str, conn: Connection) -> None:
    add_delivery(conn, add_user(conn), add_alert(conn))
    tables = query(conn, "SELECT relname FROM pg_stat_user_tables ORDER BY relname")
    before = [query(conn, f"SELECT * FROM {row['relname']}") for row in tables]
    report(database_url)
    assert [query(conn, f"SELECT * FROM {row['relname']}") for row in tables] == before


# Settings and channels


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"ALERTS_CLOCK": NOW.isoformat()}, "clock_frozen"),
        ({"ALERTS_SEND_ALLOWLIST_USER_IDS": "1,2"}, "allowlist_active"),
        ({"ALERTS_APP_BASE_URL": ""}, "app_base_url_missing"),
        ({"ALERTS_APP_BASE_URL": "http://app.example.com"}, "one_click_missing"),
        ({EMAIL: "", CHAT: ""}, "owner_unknown"),
        ({EMAIL: "", "ALERTS_CHANNELS_OFF": "telegram"}, ["owner_unreachable", "channel_off"]),
        ({"INTERNAL_RUNNER_TOKEN": ""}, "token_missing"),
        ({"INTERNAL_RUNNER_TOKEN": "hush-of-23-characters.."}, "token_short"),
        ({"INTERNAL_RUNNER_TOKEN": "hush-new-that-is-long-enough,hush-old"}, "token_short"),
        ({"INTERNAL_READ_TOKEN": "hush-read"}, "token_short"),
        ({"BREVO_API_BASE": "ftp://nobody"}, "variable_unused"),
        ({"ALERTS_V2_ENABLED": "off"}, "engine_disabled"),
        ({"EMAIL_PROVIDER": "outbox", "ALERTS_OUTBOX_DIR": "/nowhere"}, "outbox_in_use"),
        ({"ALERTS_CHANNELS_OFF": "sms"}, "channel_off"),
        ({"ALERTS_CHANNELS_OFF": "sms", "TWILIO_AUTH_TOKEN": ""}, "channel_off"),
        ({"BREVO_API_BASE": "nowhere"}, "variable_unused"),
    ],
)
def test_what_is_worth_knowing_is_a_warning(
    database_url: str, changes: dict[str, str], warning: str | list[str]
) -> None:
    expected = [warning] if isinstance(warning, str) else warning
    assert ids(report(database_url, **changes)) == ([], expected)


def test_a_switch_that_says_neither_yes_nor_no_is_told_apart(database_url: str) -> None:
    answer = report(database_url, ALERTS_V2_ENABLED="maybe")
    assert ids(answer) == ([], ["engine_disabled", "enabled_unclear"])


def test_hosts_that_disagree_about_their_number_are_told(database_url: str) -> None:
    assert ids(report(database_url)) == ([], [])
    run(database_url, "a", environ={"ALERTS_SENDERS": "4"})
    assert ids(report(database_url)) == ([], ["senders_differ"])
    assert ids(report(database_url, ALERTS_SENDERS="4")) == ([], [])


def test_without_any_provider_nobody_gets_anything(database_url: str) -> None:
    nothing = [
        name for name in COMPLETE if name.startswith(("EMAIL", "SMTP", "TELEGRAM", "TWILIO"))
    ]
    answer = report(database_url, **dict.fromkeys(nothing, ""))
    assert ids(answer) == ([], ["owner_unreachable", "no_channel"])
    assert answer["channels_configured"] == {"email": False, "telegram": False, "sms": False}


@pytest.mark.parametrize(
    ("changes", "channel", "named"),
    [
        ({"EMAIL_FROM": ""}, "email", "EMAIL_FROM"),
        ({"EMAIL_PROVIDER": "resend"}, "email", "RESEND_API_KEY"),
        ({"TWILIO_AUTH_TOKEN": ""}, "sms", "TWILIO_AUTH_TOKEN"),
        ({"SMTP_URL": "mail.example.com"}, "email", "SMTP_URL"),
        ({"TELEGRAM_API_BASE": "nowhere"}, "telegram", "TELEGRAM_API_BASE"),
    ],
)
def test_a_channel_begun_and_not_finished_or_wrong_is_an_error_that_names_what_is_missing(
    database_url: str, changes: dict[str, str], channel: str, named: str
) -> None:
    answer = report(database_url, **changes)
    assert ids(answer) == (["channel_misconfigured"], [])
    assert named in answer["errors"][0]["message"]
    assert named in answer["errors"][0]["hint"]
    assert answer["channels_configured"][channel] is False


@pytest.mark.parametrize(
    ("changes", "channel"),
    [
        ({"SMTP_URL": "mail.example.com"}, "email"),
        ({"EMAIL_FROM": "nobody"}, "email"),
        ({"EMAIL_PROVIDER": "pigeon"}, "email"),
        ({"BREVO_API_KEY": "hush"}, "email"),
        ({"ALERTS_RATE_LIMIT_EMAIL_PER_MINUTE": "slow"}, "email"),
        ({"TELEGRAM_API_BASE": "ftp://nobody"}, "telegram"),
        ({"TWILIO_AUTH_TOKEN": "hush\udcff"}, "sms"),
    ],
)
def test_what_concerns_one_channel_leaves_the_others(
    database_url: str, changes: dict[str, str], channel: str
) -> None:
    answer = report(database_url, **changes)
    assert ids(answer) == (["channel_misconfigured"], [])
    configured = answer["channels_configured"]
    assert {name for name, usable in configured.items() if not usable} == {channel}


def test_every_variable_that_does_not_parse_is_told_at_once(database_url: str) -> None:
    answer = report(database_url, ALERTS_SEND_WORKERS="x", ALERTS_SEND_ALLOWLIST_USER_IDS="12,abc")
    assert ids(answer) == (["config_invalid"] * 2, [])
    told = " ".join(finding["message"] for finding in answer["errors"])
    assert "ALERTS_SEND_WORKERS" in told
    assert "ALERTS_SEND_ALLOWLIST_USER_IDS" in told


# The database


def test_without_an_address_of_the_database(database_url: str) -> None:
    answer = report("")
    assert ids(answer) == (["database_url_missing"], [])
    assert (answer["db_ok"], answer["migrations_ok"]) == (False, False)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        (CLOSED_PORT, "database_unreachable"),
        ("postgresql://somebody:hush@[::1", "config_invalid"),
        ("not an address hush", "config_invalid"),
        ("mysql://hush@h/x", "config_invalid"),
    ],
)
def test_a_database_out_of_reach(url: str, error: str) -> None:
    answer = report(url)
    assert ids(answer) == ([error], [])
    assert answer["db_ok"] is False
    assert "somebody" not in json.dumps(answer)
    assert "hush" not in json.dumps(answer)


def test_a_database_without_migrations(empty_database_url: str) -> None:
    answer = report(empty_database_url)
    assert ids(answer) == (["migrations_pending"], [])
    assert (answer["db_ok"], answer["migrations_ok"]) == (True, False)
    assert "0001_migration_helpers" in answer["errors"][0]["message"]
    assert "scripts/migrate.py" in answer["errors"][0]["hint"]


def test_a_migration_that_was_changed_or_is_missing(database_url: str, conn: Connection) -> None:
    db.execute(conn, "UPDATE schema_migrations SET checksum = 'x' WHERE version = 3")
    add_migration(conn, 9000, "9000_incompatible_gone")
    answer = report(database_url)
    assert ids(answer) == (["migrations_differ"], [])
    for name in ("0003_plans", "9000_incompatible_gone"):
        assert name in answer["errors"][0]["message"]


@pytest.mark.parametrize("names", [["9000_more"], ["9000_more", "9001_even_more"]])
def test_a_database_of_a_newer_version_is_a_warning(
    database_url: str, conn: Connection, names: list[str]
) -> None:
    for number, name in enumerate(names):
        add_migration(conn, 9000 + number, name)
    answer = report(database_url)
    assert ids(answer) == ([], ["database_newer"])
    assert answer["migrations_ok"]
    assert ", ".join(names) in answer["warnings"][0]["message"]


def add_migration(conn: Connection, version: int, name: str) -> None:
    """As if a later version had applied it."""
    db.execute(
        conn,
        "INSERT INTO schema_migrations (version, name, checksum, applied_at)"
        " VALUES (%s, %s, 'x', now())",
        (version, name),
    )


def test_migration_files_with_a_gap(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("0001_a.sql", "0003_c.sql"):
        (tmp_path / name).write_text("SELECT 1")
    broken = partial(migrations.status, directory=tmp_path)
    monkeypatch.setattr(preflight.migrations, "status", broken)
    assert ids(report(database_url)) == (["migrations_unreadable"], [])


def test_without_the_free_plan_fan_out_has_nothing_to_fall_back_to(
    database_url: str, conn: Connection
) -> None:
    db.execute(conn, "DELETE FROM plan_settings WHERE plan_code = 'free'")
    assert ids(report(database_url)) == (["plan_free_missing"], [])


def test_a_server_that_is_too_old(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "OLDEST_SERVER", 990000)
    answer = report(database_url)
    assert ids(answer) == (["server_too_old"], [])
    assert answer["db_ok"] is False


def test_a_role_that_may_not_read_the_tables(database_url: str, conn: Connection) -> None:
    role = f"role_{os.urandom(8).hex()}"
    db.execute(conn, f"CREATE ROLE {role}")
    try:
        separator = "&" if "?" in database_url else "?"
        answer = report(f"{database_url}{separator}options=-c%20role%3D{role}")
    finally:
        db.execute(conn, f"DROP ROLE {role}")
    assert ids(answer) == (["grants_missing"], [])
    told = answer["errors"][0]
    assert f"The role {role} lacks SELECT on users; " in told["message"]
    assert f"GRANT SELECT, INSERT, UPDATE ON user_alert_deliveries TO {role};" in told["hint"]


def test_a_database_that_takes_no_writes(database_url: str, conn: Connection) -> None:
    name = conn.info.dbname
    db.execute(conn, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    assert ids(report(database_url)) == (["database_read_only"], [])


@pytest.fixture
def pooled_url(database_url: str) -> Iterator[str]:
    """The database behind something that looks like a transaction pooler."""
    parts = urlsplit(database_url)
    with closing(psycopg2.connect(database_url)) as direct:
        host, port = direct.info.host, direct.info.port
    if host.startswith("/"):
        pytest.skip("the server is reached through a Unix socket")
    with closing(Pooler(host, port)) as pooler:
        login, at, _ = parts.netloc.rpartition("@")
        netloc = f"{login}{at}127.0.0.1:{pooler.port}"
        # Encryption is asked for before the first message and would be answered outside of it.
        options = "&".join(filter(None, [parts.query, "sslmode=disable&gssencmode=disable"]))
        yield urlunsplit(parts._replace(netloc=netloc, query=options))


def test_a_pooler_is_told_and_runs_are_refused_there(
    pooled_url: str, conn: Connection, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    answer = report(pooled_url)
    assert ids(answer) == (["pooler_detected"], [])
    assert "direct address" in answer["errors"][0]["hint"]
    environ = {"DATABASE_URL": pooled_url, "ALERTS_RUN_SPOOL": str(tmp_path / "spool.jsonl")}
    assert runner.main(["--phase", "all"], environ) == 1
    assert query(conn, "SELECT count(*) FROM alert_events") == [{"count": 0}]
    capsys.readouterr()
    # Reads work through it.
    assert commands.main(["health", "--json"], {"DATABASE_URL": pooled_url}) == 0
    assert json.loads(capsys.readouterr().out)["status"]


# The command


def run_preflight(**environ: str) -> tuple[int, dict[str, Any], str]:
    given = {"PATH": os.environ["PATH"], **environ}
    ended = run_module("alerts", ["preflight", "--json"], CHECKOUT, given)
    return ended.returncode, json.loads(ended.stdout), ended.stderr


def test_the_command_ends_with_0_without_errors(database_url: str) -> None:
    code, answer, _ = run_preflight(DATABASE_URL=database_url)
    assert (code, answer["errors"]) == (0, [])
    assert {finding["id"] for finding in answer["warnings"]} >= {"no_channel", "token_missing"}


@pytest.mark.parametrize(
    ("environ", "error"),
    [
        ({}, "database_url_missing"),
        ({"DATABASE_URL": CLOSED_PORT}, "database_unreachable"),
        ({"DATABASE_URL": CLOSED_PORT, "ALERTS_TIMEZONE": "Mars"}, "config_invalid"),
    ],
)
def test_the_command_ends_with_1_on_errors(environ: dict[str, str], error: str) -> None:
    code, answer, logged = run_preflight(**environ)
    assert code == 1
    assert error in [finding["id"] for finding in answer["errors"]]
    assert "Traceback" not in logged
    assert "hush-hush" not in logged + json.dumps(answer)
