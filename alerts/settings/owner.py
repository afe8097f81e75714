"""How the owner is told: addresses of their own, and an outside monitor's ping address."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from alerts.channels.transport.addresses import parse_mailbox
from alerts.settings.env import EnvReader, Secret

EMAIL = "ALERTS_OWNER_EMAIL"
TELEGRAM = "ALERTS_OWNER_TELEGRAM_CHAT_ID"
PING_URL = "ALERTS_PING_URL"
# By channel the variable that holds the owner's address.
VARIABLES: Mapping[str, str] = {"telegram": TELEGRAM, "email": EMAIL}
SECRET_NAMES = frozenset((EMAIL, TELEGRAM, PING_URL))

_CHAT = re.compile(r"-?[0-9]{1,20}|@[A-Za-z][A-Za-z0-9_]{3,31}")
_SIGNAL = re.compile(r"/(?:start|fail|log)/*$")


@dataclass(frozen=True)
class OwnerSettings:
    """All of it secret: addresses are personal data, and whoever knows the ping address can
    silence the monitor."""

    email: Secret | None
    telegram: Secret | None
    ping_url: Secret | None

    @property
    def addresses(self) -> dict[str, str]:
        """The owner's addresses by channel, the quicker one first."""
        told = {"telegram": self.telegram, "email": self.email}
        return {channel: secret.reveal() for channel, secret in told.items() if secret}


def read_owner(env: EnvReader) -> OwnerSettings:
    """Read the variables; what does not parse is a problem of ``env``, and never shown."""
    return OwnerSettings(
        email=env.parsed(EMAIL, None, _email, "one email address", hide=True),
        telegram=env.parsed(
            TELEGRAM, None, _chat, "a chat's number or a channel's @name", hide=True
        ),
        ping_url=env.parsed(
            PING_URL,
            None,
            _ping_url,
            "the monitor's ping address, https://..., without /start or /fail",
            hide=True,
        ),
    )


def _email(text: str) -> Secret:
    parse_mailbox(text)
    return Secret(text)


def _chat(text: str) -> Secret:
    if not _CHAT.fullmatch(text):
        raise ValueError("no chat")
    return Secret(text)


def _ping_url(text: str) -> Secret:
    parts = urlsplit(text)
    parts.port  # noqa: B018  (raises ValueError on a port that is none)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
        raise ValueError("not an http(s) address")
    if not text.isascii() or not text.isprintable() or " " in text or _SIGNAL.search(parts.path):
        raise ValueError("more than a ping address")
    return Secret(text)
