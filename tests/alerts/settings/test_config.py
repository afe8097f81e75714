"""Settings: every variable's default, what it takes, and how it refuses the rest."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from alerts.settings.config import ConfigError, Secret, Settings, require_database_url
from alerts.settings.env import Problem
from alerts.settings.owner import SECRET_NAMES as OWNER_SECRETS
from tests.support.environ import secret_environ, variables_read

Get = Callable[[Settings], Any]


def read(**environ: str) -> Settings:
    return Settings.from_env(environ)


def problems(**environ: str) -> list[Problem]:
    """What is wrong: with the whole, or else with channels and what none of them needs."""
    try:
        channels = read(**environ).channels
    except ConfigError as error:
        return error.problems
    return [*channels.problems, *channels.unused]


def only_message(**environ: str) -> str:
    (problem,) = problems(**environ)
    return problem.message


def of_provider(name: str) -> Get:
    return lambda settings: settings.channels.values.by_name[name]


# variable, how to read it, default, {text: value}, texts that do not parse
VARIABLES: list[tuple[str, Get, Any, dict[str, Any], list[str]]] = [
    ("ALERTS_SEND_BATCH_SIZE", lambda s: s.send_batch_size, 200, {"1": 1, " 50 ": 50},
     ["0", "-1", "1.5", "x", "1e3", "10001", "٥", "9" * 30]),
    ("ALERTS_SEND_WORKERS", lambda s: s.send_workers, 8, {"1": 1, "128": 128}, ["0", "129", "all"]),
    ("ALERTS_SENDERS", lambda s: s.senders, 1, {"4": 4, "64": 64}, ["0", "65", "two"]),
    ("ALERTS_RECORD_BATCH", lambda s: s.record_batch, 200, {"1": 1}, ["0", "x"]),
    ("ALERTS_MAX_ATTEMPTS", lambda s: s.max_attempts, 5, {"1": 1}, ["0", "-3"]),
    ("ALERTS_RETRY_BASE_SECONDS", lambda s: s.retry_base_seconds, 60, {"1": 1}, ["0", "1m"]),
    ("ALERTS_RETRY_MAX_SECONDS", lambda s: s.retry_max_seconds, 3600, {"7200": 7200}, ["0", "1h"]),
    ("ALERTS_RATE_LIMIT_EMAIL_PER_MINUTE", lambda s: s.rate_limits_per_minute["email"], None,
     {"60": 60}, ["0", "-1", "none"]),
    ("ALERTS_RATE_LIMIT_TELEGRAM_PER_MINUTE", lambda s: s.rate_limits_per_minute["telegram"], None,
     {"60": 60}, ["0", "1/s"]),
    ("ALERTS_RATE_LIMIT_SMS_PER_MINUTE", lambda s: s.rate_limits_per_minute["sms"], None,
     {"60": 60}, ["0", "0.5"]),
    ("ALERTS_MAX_SEND_PER_RUN", lambda s: s.max_send_per_run, 1000, {"1": 1}, ["0", "many"]),
    ("ALERTS_SEND_ALLOWLIST_USER_IDS", lambda s: s.allowlist, None,
     {"12": (12,), "7, 3,7": (3, 7), "9223372036854775807": (2**63 - 1,)},
     ["12,abc", ",", "0", "-1", "1,", ",1", "1;2", "1 2", "9223372036854775808", "*", "none", "١"]),
    ("ALERTS_DIGEST_PERIOD", lambda s: s.digest_period, "daily",
     {"hourly": "hourly", "Daily": "daily"}, ["weekly", "1h"]),
    ("ALERTS_TIMEZONE", lambda s: s.timezone, ZoneInfo("Europe/Amsterdam"),
     {"UTC": ZoneInfo("UTC"), "America/New_York": ZoneInfo("America/New_York")},
     ["Mars/Base", "CET+1", "../../etc/passwd", "/etc/passwd", "Europe", "x\0"]),
    ("ALERTS_APP_BASE_URL", lambda s: s.app_base_url, None,
     {"https://example.com/": "https://example.com", "http://h:8000/a/": "http://h:8000/a"},
     ["example.com", "ftp://example.com", "https://", "https://u:p@example.com",
      "https://e.com/?q=1", "https://e.com/#x", "https://e.com:port", "javascript:alert(1)"]),
    ("ALERTS_EXPECTED_INTERVAL_MINUTES", lambda s: s.expected_interval_minutes, 10, {"60": 60},
     ["0", "10m"]),
    ("ALERTS_ON_UNKNOWN_OUTCOME", lambda s: s.park_unknown_outcomes, False,
     {"park": True, "resend": False, "PARK": True}, ["ignore", "true"]),
    ("ALERTS_DELIVERY_MAX_AGE_HOURS", lambda s: s.delivery_max_age_hours, 72, {"0": 0, "1": 1},
     ["-1", "never"]),
    ("ALERTS_INPUT_MAX_AGE_HOURS", lambda s: s.input_max_age_hours, 26, {"0": 0, "1": 1},
     ["-1", "a day"]),
    ("ALERTS_PROVIDER_TIMEOUT_SECONDS", lambda s: s.provider_timeout_seconds, 10, {"1": 1},
     ["0", "0.5", "301"]),
    ("ALERTS_PROVIDER_ANSWER_SECONDS", lambda s: s.provider_answer_seconds, 60, {"1": 1},
     ["0", "0.5", "601"]),
    ("SMTP_EHLO_NAME", of_provider("SMTP_EHLO_NAME"), None,
     {"mail.example.com": "mail.example.com", "[203.0.113.5]": "[203.0.113.5]",
      "[ipv6:2001:DB8::5]": "[IPv6:2001:db8::5]", "x.bücher.example": "x.xn--bcher-kva.example"},
     ["mailhost", "mail example.com", "[203.0.113]", "203.0.113.5", "a..b", "-a.example.com",
      "mail.example.com\nRSET"]),
    ("ALERTS_RUN_SPOOL", lambda s: s.run_spool, Path("alerts_runs_spool.jsonl"),
     {"/tmp/x": Path("/tmp/x")}, []),
    ("ALERTS_CLOCK", lambda s: s.clock, None,
     {"2022-03-08T18:00:00Z": datetime(2022, 3, 8, 18, tzinfo=UTC),
      "2022-03-08T18:00:00": datetime(2022, 3, 8, 18, tzinfo=UTC),
      "2022-03-08T19:00:00+01:00": datetime(2022, 3, 8, 18, tzinfo=UTC)},
     ["yesterday", "2022-13-01", "1646762400", "18:00"]),
    ("ALERTS_CHANNELS_OFF", lambda s: s.channels.off, frozenset(),
     {"sms": {"sms"}, "sms, email": {"sms", "email"}}, ["fax", ",", "account", "sms;email"]),
    ("ALERTS_OWNER_EMAIL", lambda s: s.owner.addresses.get("email"), None,
     {"me@example.com": "me@example.com", "a.b+c@bücher.example": "a.b+c@bücher.example"},
     ["me", "me@", "@example.com", "Me <me@example.com>", "a@example.com, b@example.com",
      "a@example.com\nBcc: b@example.com"]),
    ("ALERTS_OWNER_TELEGRAM_CHAT_ID", lambda s: s.owner.addresses.get("telegram"), None,
     {"77001": "77001", "-1001234567890": "-1001234567890", "@alerts_owner": "@alerts_owner"},
     ["me", "@me", "+77001", "77 001", "t.me/me", "٧٧", "@1abcd", "--5"]),
    ("ALERTS_PING_URL", lambda s: s.owner.ping_url and s.owner.ping_url.reveal(), None,
     {text: text for text in (
         "https://hc-ping.com/5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278", "http://127.0.0.1:8000/ping/x/",
         "https://hc-ping.com/key/energy-alerts?create=1", "https://u:p@e.com:8443/p?a=b&c=%20d")},
     ["hc-ping.com/5bf66975", "ftp://e.com/x", "https://", "https://e.com/x#y", "https://e.com/x y",
      "https://e.com/x/start", "https://e.com/x/fail", "https://e.com/x/log/", "https://e.com:port/x",
      "https://e.com/x\nHost: y", "https://bücher.example/x"]),
    ("EMAIL_FROM", of_provider("EMAIL_FROM"), None,
     {one: one for one in (
         "a@example.com", "Name <a@example.com>", "<a@example.com>", "Dr. A (desk) <a@example.com>",
         '"Risk: gas, oil" <a@example.com>', '"a b"@example.com', "a@bücher.example")},
     ["example.com", "Name", "@example.com", "a@", "a@example.com\nBcc: b@example.com",
      "Alerts: Energy <a@example.com>", "a@example.com, b@example.com", "ü@example.com",
      "A <a@example.com>, B <b@example.com>", "Risk, Energy <a@example.com>", "a@b@example.com",
      "Alerts: a@example.com;", "A <a@example.com> B", "a@example.com (Name)", "a@exa mple.com"]),
    ("EMAIL_PROVIDER", lambda s: s.channels.providers.get("email"), None, {},
     ["sendmail", "smtp,brevo"]),
    ("BREVO_API_BASE", of_provider("BREVO_API_BASE"), "https://api.brevo.com",
     {"http://127.0.0.1:81": "http://127.0.0.1:81", "https://e.com/": "https://e.com"},
     ["https://e.com/v3", "e.com", "https://u:p@e.com"]),
    ("RESEND_API_BASE", of_provider("RESEND_API_BASE"), "https://api.resend.com",
     {"http://h": "http://h"}, ["http://h/x"]),
    ("TELEGRAM_API_BASE", of_provider("TELEGRAM_API_BASE"), "https://api.telegram.org",
     {"http://h": "http://h"}, ["http://h/bot"]),
    ("TWILIO_API_BASE", of_provider("TWILIO_API_BASE"), "https://api.twilio.com",
     {"http://h": "http://h"}, ["h:80"]),
    ("ALERTS_OUTBOX_DIR", of_provider("ALERTS_OUTBOX_DIR"), None, {"/tmp/o": Path("/tmp/o")}, []),
    ("GITHUB_SHA", lambda s: s.github.sha, None, {"0123abc": "0123abc"}, []),
]  # fmt: skip
# Taken as they are.
UNCHECKED = ("TWILIO_PHONE_NUMBER",)
BY_NAME = {name: (get, default) for name, get, default, _, _ in VARIABLES}


@pytest.mark.parametrize("name", list(BY_NAME))
@pytest.mark.parametrize("text", [None, "", "  ", "\t\n"])
def test_an_empty_value_is_an_unset_one(name: str, text: str | None) -> None:
    get, default = BY_NAME[name]
    assert get(read(**({} if text is None else {name: text}))) == default


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [(name, text, value) for name, _, _, good, _ in VARIABLES for text, value in good.items()],
)
def test_a_good_value_is_taken(name: str, text: str, expected: Any) -> None:
    get, _ = BY_NAME[name]
    assert get(read(**{name: text})) == expected


@pytest.mark.parametrize(
    ("name", "text"), [(name, text) for name, _, _, _, bad in VARIABLES for text in bad]
)
def test_a_bad_value_is_told_with_name_what_it_got_and_what_it_takes(name: str, text: str) -> None:
    message = only_message(**{name: text})
    # An address, credentials, a query: whatever may be somebody's or a secret is not repeated.
    private = "@" in text or "?" in text or name in OWNER_SECRETS
    got = "a value that does not parse (not shown)" if private else repr(text[:80])
    assert message.startswith(f"{name} got {got}; it takes ")
    assert message.isprintable()


def test_every_problem_is_told_at_once() -> None:
    found = problems(
        ALERTS_SEND_WORKERS="none",
        ALERTS_TIMEZONE="Mars",
        ALERTS_CHANNELS_OFF="fax",
        ALERTS_SEND_ALLOWLIST_USER_IDS="12,abc",
    )
    assert [p.variable for p in found] == [
        "ALERTS_SEND_WORKERS", "ALERTS_SEND_ALLOWLIST_USER_IDS", "ALERTS_TIMEZONE",
        "ALERTS_CHANNELS_OFF",
    ]  # fmt: skip
    text = str(ConfigError(found))
    assert all(problem.message in text for problem in found)


def test_a_very_long_value_is_cut() -> None:
    assert len(only_message(ALERTS_SEND_WORKERS="x" * 10_000)) < 200


@pytest.mark.parametrize(
    ("text", "enabled", "unclear"),
    [
        (None, True, False),
        ("", True, False),
        *((word, True, False) for word in ("true", "1", "yes", "on", "TRUE", " On ")),
        *((word, False, False) for word in ("false", "0", "no", "off", "OFF")),
        *((word, False, True) for word in ("maybe", "2", "enabled", "y", "tru")),
    ],
)
def test_the_switch(text: str | None, enabled: bool, unclear: bool) -> None:
    settings = read(**({} if text is None else {"ALERTS_V2_ENABLED": text}))
    assert (settings.enabled, settings.enabled_unclear) == (enabled, unclear)


# Secrets


def test_the_database_url_is_required_by_name() -> None:
    for environ in ({}, {"DATABASE_URL": " "}):
        with pytest.raises(ConfigError, match=r"DATABASE_URL is not set .*; it takes"):
            require_database_url(read(**environ))
    assert require_database_url(read(DATABASE_URL=" postgresql://x ")) == "postgresql://x"


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("one", ["one"]), ("new,old", ["new", "old"]), (" new , old ", ["new", "old"])],
)
def test_tokens(text: str, tokens: list[str]) -> None:
    assert read(INTERNAL_RUNNER_TOKEN=text).internal_tokens == tuple(map(Secret, tokens))


@pytest.mark.parametrize("text", ["a-secret,b-secret,c-secret", ",a-secret", "a-secret,", ","])
def test_a_malformed_pair_of_tokens_is_refused_without_showing_it(text: str) -> None:
    message = only_message(INTERNAL_RUNNER_TOKEN=text)
    assert message.startswith("INTERNAL_RUNNER_TOKEN takes one token")
    assert "secret" not in message


SECRETS = {
    "DATABASE_URL": "postgresql://u:hush-database@h/x",
    "INTERNAL_RUNNER_TOKEN": "hush-new,hush-old",
    "INTERNAL_READ_TOKEN": "hush-read",
    **secret_environ(),
}


def test_no_repr_or_format_shows_a_secret() -> None:
    settings = read(**SECRETS, EMAIL_PROVIDER="smtp", EMAIL_FROM="a@example.com")
    for shown in (repr(settings), str(settings), f"{settings}", f"{settings.database_url}"):
        assert "hush" not in shown
    secret = Secret("hush")
    assert "hush" not in f"{secret!r} {secret} {[secret]}"
    assert (secret.reveal(), secret == Secret("hush"), secret == "hush") == ("hush", True, False)
    assert not hasattr(secret, "__dict__")


@pytest.mark.parametrize(("name", "value"), secret_environ().items())
def test_a_secret_in_the_wrong_variable_is_not_repeated(name: str, value: str) -> None:
    message = only_message(**{name: value, "ALERTS_SEND_WORKERS": value})
    assert message.startswith("ALERTS_SEND_WORKERS got a value that does not parse (not shown)")


def test_no_message_shows_a_secret() -> None:
    bad = {
        **SECRETS,
        "SMTP_URL": "smtps:/user:hush-smtp@mail.example.com:port",
        "INTERNAL_RUNNER_TOKEN": "hush-a,hush-b,hush-c",
        "ALERTS_SEND_WORKERS": "x",
    }
    of_channels = problems(**{**SECRETS, "SMTP_URL": bad["SMTP_URL"]})
    found = [*problems(**bad), *of_channels]
    assert {p.variable for p in found} >= {"SMTP_URL", "INTERNAL_RUNNER_TOKEN", "EMAIL_PROVIDER"}
    assert "hush" not in str(ConfigError(found)) + repr(found)


# GitHub


@pytest.mark.parametrize(
    ("actions", "event", "expected"),
    [
        ("true", "schedule", "github_actions_schedule"),
        ("true", "workflow_dispatch", "github_actions_manual"),
        ("true", "push", "github_actions_manual"),
        ("true", None, "github_actions_manual"),
        (None, "schedule", "local"),
        ("false", "schedule", "local"),
        ("1", "schedule", "local"),
        (None, None, "local"),
    ],
)
def test_what_started_the_run(actions: str | None, event: str | None, expected: str) -> None:
    environ = {"GITHUB_ACTIONS": actions or "", "GITHUB_EVENT_NAME": event or ""}
    assert read(**environ).github.triggered_by == expected


def test_the_page_of_the_workflow_run() -> None:
    environ = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_REPOSITORY": "owner/name",
        "GITHUB_RUN_ID": "42",
        "GITHUB_STEP_SUMMARY": "/tmp/summary.md",
    }
    github = read(**environ).github
    assert github.run_url == "https://github.com/owner/name/actions/runs/42"
    assert github.step_summary == Path("/tmp/summary.md")
    for name in environ:
        if name != "GITHUB_STEP_SUMMARY":
            assert read(**{**environ, name: ""}).github.run_url is None


def test_the_contract_names_no_variable_that_is_not_read() -> None:
    """A misspelt name in the code would read as unset for ever."""
    expected = {*BY_NAME, *SECRETS, *UNCHECKED, "ALERTS_V2_ENABLED", "CI", "PORT"}
    expected |= {"PRODUCTION_DATABASE_URL"}
    github = ("ACTIONS", "EVENT_NAME", "SERVER_URL", "REPOSITORY", "RUN_ID", "RUN_ATTEMPT",
              "STEP_SUMMARY")  # fmt: skip
    assert variables_read() == expected | {f"GITHUB_{name}" for name in github}
