"""What is known of one event, user and channel, for the sentences about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from alerts import db, words
from alerts.channels.names import KINDS
from alerts.messages.wording import window_phrase
from alerts.product_days import Window
from alerts.words import Clockface

_DESTINATIONS = {kind.name: kind.destination for kind in KINDS}
_ADDRESS = {"telegram": "Telegram chat", "sms": "phone number"}


@dataclass(frozen=True)
class Engine:
    """What the engine last ran with, as far as it concerns one user. Times are wall time; None
    where it does not hold or no run has told."""

    zone: ZoneInfo
    period: str  # of digests
    enabled: bool
    disabled_since: datetime | None
    allowlist: bool
    listed: bool
    listed_since: datetime | None  # when the allowlist was put on
    off_since: Mapping[str, datetime | None]  # channels that are off, deliberately


@dataclass(frozen=True)
class Case:
    """All that is known of one event, user and channel.

    ``rules`` is fan-out's row, ``around`` what holds of the channel now; ``window`` is that of the
    event's digest. ``clock`` tells business time, ``wall`` that of the machinery.
    """

    channel: str
    decision: str
    kind: str | None
    taken: bool
    rules: db.Row
    event: db.Row
    delivery: db.Row | None
    digest: db.Row | None
    window: Window
    around: db.Row
    engine: Engine
    clock: Clockface
    wall: Clockface

    @property
    def name(self) -> str:
        """The channel's name within a sentence."""
        return words.channel(self.channel)

    @property
    def plan(self) -> str:
        """The plan's name."""
        return str(self.rules["plan_name"] or self.rules["plan_code"])

    @property
    def in_app(self) -> bool:
        """Whether the delivery itself is the message."""
        return _DESTINATIONS[self.channel] is None

    @property
    def address(self) -> str:
        """What a user has on the channel, within a sentence."""
        return _ADDRESS.get(self.channel, f"{self.name} address")

    @property
    def digest_window(self) -> Window:
        """The window of the digest that took the event, or that will."""
        digest = self.digest
        return (digest["window_start"], digest["window_end"]) if digest else self.window

    @property
    def digest_name(self) -> str:
        """``the digest of 8 March 2022``."""
        start, end = self.digest_window
        return f"the digest of {window_phrase(start, end, self.engine.zone)}"

    def used_up(self, what: str) -> str:
        """``3 of the day's 3 instant alerts were used``."""
        used, limit = self.rules["quota_used"], self.rules["quota_limit"]
        return f"{used} of the day's {words.count(limit, f'{what} alert')} were used"


def when(clock: Clockface, moment: datetime) -> str:
    """``at 14:03`` of today, else ``on Tuesday 14:03``."""
    text = clock.at(moment)
    return f"{'at' if text[2] == ':' else 'on'} {text}"


@dataclass(frozen=True)
class Said:
    """The sentence, what to do if there is something, and the page where more is shown."""

    summary: str
    action: str | None = None
    page: str | None = None
