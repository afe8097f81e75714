"""Which adapters the settings give."""

from pathlib import Path

import pytest

from alerts.channels import build_channels
from alerts.channels.base import Channel
from alerts.channels.provider import CallOptions
from alerts.settings.config import Settings
from tests.support.adapters import message_for
from tests.support.mailserver import MailServer
from tests.support.providers import (
    BOT_TOKEN,
    BREVO_KEY,
    RESEND_KEY,
    TWILIO_NUMBER,
    TWILIO_SID,
    TWILIO_TOKEN,
    HttpProvider,
)

OPTIONS: CallOptions = {"timeout": 5.0, "answer": 5.0, "connections": 2}
TWILIO = {
    "TWILIO_ACCOUNT_SID": TWILIO_SID,
    "TWILIO_AUTH_TOKEN": TWILIO_TOKEN,
    "TWILIO_PHONE_NUMBER": TWILIO_NUMBER,
}
BASES = ("BREVO_API_BASE", "RESEND_API_BASE", "TELEGRAM_API_BASE", "TWILIO_API_BASE")


def built(environ: dict[str, str]) -> dict[str, Channel]:
    return build_channels(Settings.from_env(environ).channels, OPTIONS)


def test_nothing_configured_gives_no_channel() -> None:
    assert built({}) == {}


@pytest.mark.parametrize(
    ("email", "key"),
    [("brevo", {"BREVO_API_KEY": BREVO_KEY}), ("resend", {"RESEND_API_KEY": RESEND_KEY})],
)
def test_configured_channels_send_through_their_providers(
    email: str, key: dict[str, str], provider: HttpProvider
) -> None:
    environ = {**key, **TWILIO, "EMAIL_FROM": "a@example.com", "TELEGRAM_BOT_TOKEN": BOT_TOKEN}
    channels = built({**environ, **dict.fromkeys(BASES, provider.url)})
    assert {name: channel.name for name, channel in channels.items()} == {
        "email": email,
        "telegram": "telegram",
        "sms": "twilio",
    }
    for channel in channels.values():
        assert channel.send(message_for(channel.name))
        channel.close()
    assert [taken.provider for taken in provider.accepted] == [email, "telegram", "twilio"]


def test_mail_server_is_used() -> None:
    with MailServer() as mail:
        environ = {"SMTP_URL": f"smtp://127.0.0.1:{mail.port}", "EMAIL_FROM": "a@example.com"}
        channel = built(environ)["email"]
        assert channel.send(message_for())
        channel.close()
        assert len(mail.mails) == 1


def test_outbox_takes_every_channel(tmp_path: Path) -> None:
    environ = {"EMAIL_PROVIDER": "outbox", "ALERTS_OUTBOX_DIR": str(tmp_path)}
    channels = built(environ)
    assert sorted(channels) == ["email", "sms", "telegram"]
    for channel in channels.values():
        channel.send(message_for())
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["email-d-17.eml", "sms-d-17.txt", "telegram-d-17.html"]
