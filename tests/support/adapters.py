"""Adapters pointed at the test servers, and messages for them."""

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from alerts.channels.base import Channel, Message
from alerts.channels.brevo import BrevoChannel
from alerts.channels.resend import ResendChannel
from alerts.channels.smtp import SmtpChannel
from alerts.channels.telegram import TelegramChannel
from alerts.channels.transport.smtp_server import SmtpServer
from alerts.channels.transport.sockets import tls_context
from alerts.channels.twilio import TwilioChannel
from alerts.failures import DeliveryError
from alerts.settings.env import Secret
from tests.support.mailserver import PASSWORD, MailServer
from tests.support.providers import (
    BOT_TOKEN,
    BREVO_KEY,
    RESEND_KEY,
    TWILIO_NUMBER,
    TWILIO_SID,
    TWILIO_TOKEN,
)

FROM = "Énergie <alerts@example.com>"
Build = Callable[..., Channel]


def limits(options: dict[str, Any]) -> dict[str, Any]:
    """If ``answer`` is not given, the answer has the same limit as the steps before it."""
    timeout = options.get("timeout", 5.0)
    return {"timeout": timeout, "answer": timeout, **options}


def brevo(url: str, key: str = BREVO_KEY, **options: Any) -> Channel:
    return BrevoChannel(Secret(key), FROM, url, **limits(options))


def resend(url: str, key: str = RESEND_KEY, **options: Any) -> Channel:
    return ResendChannel(Secret(key), FROM, url, **limits(options))


def telegram(url: str, key: str = BOT_TOKEN, **options: Any) -> Channel:
    return TelegramChannel(Secret(key), url, **limits(options))


def twilio(url: str, key: str = TWILIO_TOKEN, **options: Any) -> Channel:
    return TwilioChannel(TWILIO_SID, Secret(key), TWILIO_NUMBER, url, **limits(options))


def smtp(
    server: MailServer,
    *,
    host: str = "127.0.0.1",
    user: str | None = None,
    password: str = PASSWORD,
    smtps: bool = False,
    ehlo_name: str | None = None,
    **options: Any,
) -> SmtpChannel:
    secret = Secret(password) if user else None
    address = SmtpServer(host, server.port, user, secret, smtps, ehlo_name)
    return SmtpChannel(address, FROM, **limits(options))


HTTP_ADAPTERS: dict[str, Build] = {
    "brevo": brevo,
    "resend": resend,
    "telegram": telegram,
    "twilio": twilio,
}
DESTINATIONS = {"telegram": "4711", "twilio": "+31612345678"}
EMAIL = "reader@example.net"


def message_for(provider: str = "smtp", key: str = "d-17", **fields: Any) -> Message:
    """Return a message as the send phase would pass it to the provider's adapter."""
    values: dict[str, Any] = {
        "key": key,
        "destination": DESTINATIONS.get(provider, EMAIL),
        "text": "Gas – flows halted",
    }
    if provider not in DESTINATIONS:
        values |= {"subject": "Gas – halted", "html": "<p>Gas – flows halted</p>"}
    return Message(**{**values, **fields})


def failure_of(channel: Channel, message: Message) -> DeliveryError:
    """Send the message and return the error it raises."""
    with pytest.raises(DeliveryError) as caught:
        channel.send(message)
    return caught.value


@contextmanager
def lasting(at_least: float = 0.0, at_most: float = 2.0) -> Iterator[None]:
    """Assert how many seconds the block takes."""
    started = time.monotonic()
    yield
    assert at_least <= time.monotonic() - started <= at_most


def trusting(certificate: Path) -> ssl.SSLContext:
    context = tls_context()
    context.load_verify_locations(certificate)
    return context
