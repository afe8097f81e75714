"""Which provider serves which channel, and the mail server's address."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from alerts.channels import PROVIDERS, twilio
from alerts.channels.choosing import read_channels
from alerts.channels.provider import Provider, secret_variable
from alerts.channels.smtp import SMTP_URL
from alerts.settings.config import Settings
from alerts.settings.env import EnvReader


def read(**environ: str) -> Settings:
    return Settings.from_env(environ)


def only_message(**environ: str) -> str:
    (problem,) = read(**environ).channels.unreadable
    assert problem.channel == "email"
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
    assert [problem.variable for problem in channels.incomplete] == missing
    for problem in channels.incomplete:
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
        channels = read_channels(env, (*PROVIDERS, pigeon))
        assert env.problems == []
        assert {problem.channel for problem in channels.unreadable} <= {"sms"}
        return channels.providers, [problem.message for problem in channels.unreadable]

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
