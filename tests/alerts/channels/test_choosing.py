"""Which provider serves which channel, and the mail server's address."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from alerts.channels import PROVIDERS, settings_text, twilio
from alerts.channels.choosing import read_channels
from alerts.channels.provider import Provider, secret_variable
from alerts.channels.smtp import SMTP_URL
from alerts.settings.config import ConfigError, Settings
from alerts.settings.env import EnvReader


def read(**environ: str) -> Settings:
    return Settings.from_env(environ)


def only_message(**environ: str) -> str:
    """The one problem, which stops email and nothing else."""
    channels = read(**environ).channels
    (problem,) = channels.problems
    assert channels.misconfigured == {problem.channel} == {"email"}
    assert "email" not in channels.providers
    return problem.message


FROM = {"EMAIL_FROM": "a@example.com"}
SMTP = {"SMTP_URL": "smtp://user:pw@mail.example.com"}
TWILIO = {
    "TWILIO_ACCOUNT_SID": "AC1", "TWILIO_AUTH_TOKEN": "t", "TWILIO_PHONE_NUMBER": "+31600000000",
}  # fmt: skip


@pytest.mark.parametrize(
    ("environ", "providers", "missing"),
    [
        ({}, {}, []),
        (FROM, {}, []),
        ({**SMTP, **FROM}, {"email": "smtp"}, []),
        ({"BREVO_API_KEY": "k", **FROM}, {"email": "brevo"}, []),
        ({"RESEND_API_KEY": "k", **FROM}, {"email": "resend"}, []),
        (SMTP, {}, ["EMAIL_FROM"]),
        ({"BREVO_API_KEY": "k"}, {}, ["EMAIL_FROM"]),
        ({"EMAIL_PROVIDER": "resend"}, {}, ["RESEND_API_KEY", "EMAIL_FROM"]),
        ({"EMAIL_PROVIDER": "SMTP", **FROM}, {}, ["SMTP_URL"]),
        ({"EMAIL_PROVIDER": "brevo", "BREVO_API_KEY": "k", **SMTP, **FROM}, {"email": "brevo"}, []),
        ({"TELEGRAM_BOT_TOKEN": "1:x"}, {"telegram": "telegram"}, []),
        (TWILIO, {"sms": "twilio"}, []),
        ({"TWILIO_ACCOUNT_SID": "AC1"}, {}, ["TWILIO_AUTH_TOKEN", "TWILIO_PHONE_NUMBER"]),
        ({**TWILIO, "TWILIO_AUTH_TOKEN": ""}, {}, ["TWILIO_AUTH_TOKEN"]),
        ({"EMAIL_PROVIDER": "outbox"}, {}, ["ALERTS_OUTBOX_DIR"]),
        (
            {"EMAIL_PROVIDER": "outbox", "ALERTS_OUTBOX_DIR": "/o"},
            {"email": "outbox", "telegram": "outbox", "sms": "outbox"},
            [],
        ),
        (
            {"EMAIL_PROVIDER": "outbox", "ALERTS_OUTBOX_DIR": "/o", "TELEGRAM_BOT_TOKEN": "1:x"},
            {"email": "outbox", "telegram": "telegram", "sms": "outbox"},
            [],
        ),
        (  # what was begun for real does not end in files by accident
            {"EMAIL_PROVIDER": "outbox", "ALERTS_OUTBOX_DIR": "/o", "TWILIO_ACCOUNT_SID": "AC1"},
            {"email": "outbox", "telegram": "outbox"},
            ["TWILIO_AUTH_TOKEN", "TWILIO_PHONE_NUMBER"],
        ),
        ({"ALERTS_OUTBOX_DIR": "/o"}, {}, []),
    ],
)
def test_credentials_choose_the_providers(
    environ: dict[str, str], providers: dict[str, str], missing: list[str]
) -> None:
    channels = read(**environ).channels
    assert dict(channels.providers) == providers
    assert [problem.variable for problem in channels.problems] == missing
    for problem in channels.problems:
        assert problem.variable in problem.message
        assert f"{problem.channel} through" in problem.message
        assert "needs it" in problem.message


def test_credentials_of_two_email_providers_ask_for_a_choice() -> None:
    both = {"BREVO_API_KEY": "k", "RESEND_API_KEY": "k", **FROM}
    message = only_message(**both)
    assert "EMAIL_PROVIDER is not set while BREVO_API_KEY, RESEND_API_KEY are" in message
    assert "it takes smtp, brevo, resend or outbox" in message
    assert read(**both, EMAIL_PROVIDER="resend").channels.providers == {"email": "resend"}


def test_a_second_provider_of_any_channel_asks_for_a_choice_too() -> None:
    """Sms has one provider; with another it gets a variable like email's."""
    code = secret_variable("PIGEON_CODE")
    build = twilio.PROVIDER.build
    pigeon = Provider("pigeon", channels=("sms",), build=build, credentials=(code,))

    def chosen(**environ: str) -> tuple[Mapping[str, str], list[str]]:
        env = EnvReader({**TWILIO, "PIGEON_CODE": "c", **environ})
        providers = read_channels(env, (*PROVIDERS, pigeon)).providers
        return providers, [problem.message for problem in env.problems]  # of sms alone

    (message,) = chosen()[1]
    assert message == (
        "SMS_PROVIDER is not set while TWILIO_ACCOUNT_SID, PIGEON_CODE are;"
        " it takes twilio, outbox or pigeon"
    )
    assert chosen(SMS_PROVIDER="pigeon") == ({"sms": "pigeon"}, [])
    assert chosen(SMS_PROVIDER="twilio") == ({"sms": "twilio"}, [])
    assert chosen(PIGEON_CODE="") == ({"sms": "twilio"}, [])
    assert chosen(SMS_PROVIDER="raven")[1] == [
        "SMS_PROVIDER got 'raven'; it takes twilio, outbox or pigeon"
    ]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://u:p@mail.example.com", ("mail.example.com", 587, "u", "p", False)),
        ("smtp://u:p@mail.example.com:2525/", ("mail.example.com", 2525, "u", "p", False)),
        ("smtps://u:p@mail.example.com", ("mail.example.com", 465, "u", "p", True)),
        ("SMTPS://u:p@mail.example.com:466", ("mail.example.com", 466, "u", "p", True)),
        ("smtp://a%40b.com:p%40s%3As%2F@h", ("h", 587, "a@b.com", "p@s:s/", False)),
        ("smtp://localhost:1025", ("localhost", 1025, None, None, False)),
        ("smtp://[::1]:1025", ("::1", 1025, None, None, False)),
        ("smtp://post_1:1025", ("post_1", 1025, None, None, False)),
        ("smtps://post.straße.de", ("post.xn--strae-oqa.de", 465, None, None, True)),
    ],
)
def test_smtp_urls(url: str, expected: tuple[Any, ...]) -> None:
    server = read(SMTP_URL=url).channels.values.get(SMTP_URL)
    assert server is not None
    password = server.password.reveal() if server.password else None
    found = (server.host, server.port, server.user, password, server.tls_from_start)
    assert found == expected
    assert server.password is None or f"{password!r}" not in repr(server)


@pytest.mark.parametrize("url", [
    "mail.example.com", "http://h", "smtp://", "smtp://:587", "smtp://h:x", "smtp://h:99999",
    "smtp://h:0", "smtp://user@h", "smtp://:pw@h", "smtp://h/path", "smtp://u:p@h?tls=no",
    "smtp://u:p@h#x", "smtp://u:p/w@h", "smtp://[::1", "smtp://h ost",
])  # fmt: skip
def test_a_bad_smtp_url_is_refused_without_showing_it(url: str) -> None:
    message = only_message(SMTP_URL=url, EMAIL_PROVIDER="smtp", **FROM)
    assert re.match(r"SMTP_URL got a value that does not parse \(not shown\); it takes", message)


# What is wrong with one channel leaves the others alone

ALL = {**SMTP, **FROM, **TWILIO, "TELEGRAM_BOT_TOKEN": "1:x"}
EVERY = {"email": "smtp", "telegram": "telegram", "sms": "twilio"}


@pytest.mark.parametrize(
    ("wrong", "channel"),
    [
        ({"SMTP_URL": "mail.example.com"}, "email"),
        ({"EMAIL_FROM": "nobody"}, "email"),
        ({"EMAIL_FROM": ""}, "email"),
        ({"EMAIL_PROVIDER": "pigeon"}, "email"),
        ({"EMAIL_PROVIDER": "brevo"}, "email"),
        ({"EMAIL_PROVIDER": "", "RESEND_API_KEY": "k"}, "email"),
        ({"SMTP_EHLO_NAME": "not a name"}, "email"),
        ({"ALERTS_RATE_LIMIT_EMAIL_PER_MINUTE": "many"}, "email"),
        ({"TELEGRAM_API_BASE": "https://example.com/bot"}, "telegram"),
        ({"ALERTS_RATE_LIMIT_TELEGRAM_PER_MINUTE": "0"}, "telegram"),
        ({"TWILIO_AUTH_TOKEN": ""}, "sms"),
        ({"TWILIO_PHONE_NUMBER": "  "}, "sms"),
        ({"TWILIO_API_BASE": "nowhere"}, "sms"),
        ({"ALERTS_RATE_LIMIT_SMS_PER_MINUTE": "-1"}, "sms"),
    ],
)
def test_settings_that_are_incomplete_or_wrong_stop_their_channel_only(
    wrong: dict[str, str], channel: str
) -> None:
    channels = read(**{**ALL, **wrong}).channels
    assert channels.misconfigured == {channel}
    others = {name: provider for name, provider in EVERY.items() if name != channel}
    assert channels.providers == others
    assert any(
        name in {p.variable for p in channels.problems} for name in (*wrong, "BREVO_API_KEY")
    )


def test_a_variable_that_no_channel_needs_stops_none() -> None:
    channels = read(**ALL, EMAIL_PROVIDER="smtp", BREVO_API_BASE="nowhere").channels
    assert channels.providers == EVERY
    assert not channels.misconfigured
    assert [problem.variable for problem in channels.unused] == ["BREVO_API_BASE"]


def test_one_variable_of_two_channels_stops_both() -> None:
    environ = {"EMAIL_PROVIDER": "outbox", "ALERTS_OUTBOX_DIR": "/o", **TWILIO}
    assert read(**environ).channels.providers == {**EVERY, "email": "outbox", "telegram": "outbox"}
    broken = read(**{**environ, "ALERTS_OUTBOX_DIR": ""}).channels
    assert broken.misconfigured == {"email"}  # only what was chosen needs it
    assert broken.providers == {"sms": "twilio"}


# Channels that are switched off


@pytest.mark.parametrize(
    ("text", "off"),
    [("", set()), ("sms", {"sms"}), (" sms , email ", {"sms", "email"}), ("sms,sms", {"sms"})],
)
def test_channels_that_are_off_are_neither_used_nor_missed(text: str, off: set[str]) -> None:
    channels = read(**{**ALL, "TWILIO_AUTH_TOKEN": "", "ALERTS_CHANNELS_OFF": text}).channels
    assert channels.off == off
    assert set(channels.providers) == {"email", "telegram"} - off
    assert channels.misconfigured == {"sms"} - off


@pytest.mark.parametrize("text", ["fax", "sms,fax", ",", "account", "all", "SMS;email"])
def test_a_list_of_channels_that_does_not_parse_stops_the_program(text: str) -> None:
    with pytest.raises(ConfigError, match=r"ALERTS_CHANNELS_OFF got .* it takes a comma list of"):
        read(ALERTS_CHANNELS_OFF=text)


# Whether settings have changed


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ({"SMTP_URL": "smtp://user:other@mail.example.com"}, {"email"}),
        ({"EMAIL_FROM": "b@example.com"}, {"email"}),
        ({"SMTP_EHLO_NAME": "mail.example.com"}, {"email"}),
        ({"TELEGRAM_BOT_TOKEN": "1:y"}, {"telegram"}),
        ({"TWILIO_AUTH_TOKEN": "u"}, {"sms"}),
        ({"TWILIO_API_BASE": "http://127.0.0.1:9"}, {"sms"}),
        ({"BREVO_API_BASE": "http://127.0.0.1:9"}, set()),
        ({"ALERTS_SEND_WORKERS": "3"}, set()),
        ({"EMAIL_PROVIDER": "brevo", "BREVO_API_KEY": "k"}, {"email"}),
    ],
)
def test_which_channels_settings_a_change_touches(
    change: dict[str, str], changed: set[str]
) -> None:
    before, after = read(**ALL).channels, read(**{**ALL, **change}).channels
    found = {name for name in EVERY if settings_text(before, name) != settings_text(after, name)}
    assert found == changed
