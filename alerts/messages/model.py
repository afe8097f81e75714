"""What a message is made of and what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class Alert:
    """One global event as people are told about it.

    ``headline`` and ``body`` are foreign text and taken as such: any character may occur.
    ``alert_type`` may hold types that only old rows have. ``created_at`` is aware.
    """

    event_id: int
    alert_type: str
    severity: int  # 1..5
    region: str | None  # None: worldwide
    assets: tuple[str, ...]
    headline: str
    body: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Style:
    """What stays the same over a run.

    Without ``app_base_url`` texts name the app and do not link it. Times are shown in
    ``timezone``.
    """

    app_base_url: str | None
    timezone: ZoneInfo


@dataclass(frozen=True, slots=True)
class Rendered:
    """A message's texts; ``subject`` and ``html`` stay empty for channels without them."""

    subject: str = ""
    text: str = ""
    html: str = ""
