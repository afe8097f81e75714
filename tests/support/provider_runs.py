"""Runs of the send phase with the real adapters, connected to the test servers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from alerts.engine import RunReport, RunRequest, run_engine
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
from tests.support.world import NOW, settings_for

SENDER = {"EMAIL_FROM": "Alerts <alerts@example.com>"}
CHANNEL_OF = {"brevo": "email", "resend": "email", "telegram": "telegram", "twilio": "sms"}


def environ(provider: HttpProvider) -> dict[str, dict[str, str]]:
    """Return the variables that configure each provider for the test server."""
    return {
        "brevo": {**SENDER, "BREVO_API_KEY": BREVO_KEY, "BREVO_API_BASE": provider.url},
        "resend": {**SENDER, "RESEND_API_KEY": RESEND_KEY, "RESEND_API_BASE": provider.url},
        "telegram": {"TELEGRAM_BOT_TOKEN": BOT_TOKEN, "TELEGRAM_API_BASE": provider.url},
        "twilio": {
            "TWILIO_ACCOUNT_SID": TWILIO_SID,
            "TWILIO_AUTH_TOKEN": TWILIO_TOKEN,
            "TWILIO_PHONE_NUMBER": TWILIO_NUMBER,
            "TWILIO_API_BASE": provider.url,
        },
    }


def mail_environ(mail: MailServer) -> dict[str, str]:
    """The same for a mail server."""
    return {**SENDER, "SMTP_URL": f"smtp://127.0.0.1:{mail.port}"}


def send(
    database_url: str, settings: dict[str, str], now: datetime = NOW, **request: Any
) -> RunReport:
    """Run phase C once."""
    return run_engine(
        settings_for(database_url, **settings), RunRequest(phase="c", now=now, **request)
    )
