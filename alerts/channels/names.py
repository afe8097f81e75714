"""The one list of channels; every other list derives from it or is checked against it by a test."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ChannelKind:
    """A channel's name and capabilities.

    ``destination`` is the column of ``users`` that holds the address. ``verified`` is a boolean
    column of ``users``; if it is FALSE, the address is ignored. ``digests``: alerts may wait for a
    digest, and those over the daily quota do; without digests they are skipped. ``quota``: the
    plan limits the number of instant alerts per day. ``word``: its name within a sentence, if that
    is another.
    """

    name: str
    destination: str | None = None
    verified: str | None = None
    digests: bool = False
    quota: bool = False
    word: str = ""

    @property
    def sent_on_creation(self) -> bool:
        """Nothing is sent on a channel without a destination: the row itself is the message."""
        return self.destination is None

    @property
    def rate_limit_variable(self) -> str:
        """The environment variable that limits messages per minute."""
        return f"ALERTS_RATE_LIMIT_{self.name.upper()}_PER_MINUTE"


KINDS = (
    ChannelKind("email", destination="email", verified="email_verified", digests=True, quota=True),
    ChannelKind(
        "telegram", destination="telegram_chat_id", digests=True, quota=True, word="Telegram"
    ),
    ChannelKind("sms", destination="phone_number", quota=True, word="SMS"),
    ChannelKind("account", word="the in-app inbox"),
)

CHANNELS = tuple(kind.name for kind in KINDS)
# Channels that send through a provider, have a rate limit and can be paused.
SEND_CHANNELS = tuple(kind.name for kind in KINDS if not kind.sent_on_creation)
DIGEST_CHANNELS = tuple(kind.name for kind in KINDS if kind.digests)
QUOTA_CHANNELS = tuple(kind.name for kind in KINDS if kind.quota)
