"""The channels: one adapter for each provider, chosen by the settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypedDict, TypeVar

from alerts.channels.base import Channel
from alerts.channels.brevo import BrevoChannel
from alerts.channels.outbox import OutboxChannel
from alerts.channels.resend import ResendChannel
from alerts.channels.smtp import SmtpChannel
from alerts.channels.telegram import TelegramChannel
from alerts.channels.twilio import TwilioChannel
from alerts.settings.channels import OUTBOX_SENDER
from alerts.settings.config import Settings

__all__ = ["build_channels"]

T = TypeVar("T")


def build_channels(settings: Settings) -> dict[str, Channel]:
    """One adapter for each configured channel, by its name: email, telegram, sms.

    Nothing is connected to before the first message.
    """
    return {
        channel: _BUILDERS[provider](settings, channel)
        for channel, provider in settings.channels.providers.items()
    }


def _smtp(settings: Settings, channel: str) -> Channel:
    config = settings.channels
    server = _set(config.smtp, "SMTP_URL")
    sender = _set(config.email_from, "EMAIL_FROM")
    return SmtpChannel(server, sender, timeout=settings.provider_timeout_seconds)


def _brevo(settings: Settings, channel: str) -> Channel:
    config = settings.channels
    key = _set(config.brevo_api_key, "BREVO_API_KEY")
    sender = _set(config.email_from, "EMAIL_FROM")
    return BrevoChannel(key, sender, config.brevo_api_base, **_http_options(settings))


def _resend(settings: Settings, channel: str) -> Channel:
    config = settings.channels
    key = _set(config.resend_api_key, "RESEND_API_KEY")
    sender = _set(config.email_from, "EMAIL_FROM")
    return ResendChannel(key, sender, config.resend_api_base, **_http_options(settings))


def _telegram(settings: Settings, channel: str) -> Channel:
    config = settings.channels
    token = _set(config.telegram_bot_token, "TELEGRAM_BOT_TOKEN")
    return TelegramChannel(token, config.telegram_api_base, **_http_options(settings))


def _twilio(settings: Settings, channel: str) -> Channel:
    config = settings.channels
    return TwilioChannel(
        _set(config.twilio_account_sid, "TWILIO_ACCOUNT_SID"),
        _set(config.twilio_auth_token, "TWILIO_AUTH_TOKEN"),
        _set(config.twilio_phone_number, "TWILIO_PHONE_NUMBER"),
        config.twilio_api_base,
        **_http_options(settings),
    )


class _HttpOptions(TypedDict):
    timeout: float
    connections: int


def _http_options(settings: Settings) -> _HttpOptions:
    return {"timeout": settings.provider_timeout_seconds, "connections": settings.send_workers}


def _outbox(settings: Settings, channel: str) -> Channel:
    directory: Path = _set(settings.channels.outbox_dir, "ALERTS_OUTBOX_DIR")
    return OutboxChannel(directory, channel, settings.channels.email_from or OUTBOX_SENDER)


def _set(value: T | None, variable: str) -> T:
    """``value``, which the settings promise for a channel that they list as configured."""
    if value is None:
        raise ValueError(f"{variable} is not set, though its channel counts as configured")
    return value


_BUILDERS: dict[str, Callable[[Settings, str], Channel]] = {
    "smtp": _smtp,
    "brevo": _brevo,
    "resend": _resend,
    "telegram": _telegram,
    "twilio": _twilio,
    "outbox": _outbox,
}
