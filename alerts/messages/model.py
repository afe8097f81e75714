"""Input and output of rendering."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from zoneinfo import ZoneInfo

# Stands in a rendering, which many people share, for the end of each one's own link. Cleaning
# leaves no such character in a text.
SIGNED_HERE = "\x1a"


@dataclass(frozen=True, slots=True)
class Alert:
    """One global event to report to users.

    ``headline`` and ``body`` are untrusted and may contain any character. ``alert_type`` may be a
    type that only old rows have. ``created_at`` is timezone-aware.
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
    """Rendering options, constant within a run.

    Without ``app_base_url``, texts mention the app but do not link to it. Times are shown in
    ``timezone``. With ``unsubscribe_base``, emails link to it followed by what
    :meth:`Rendered.signed` is given.
    """

    app_base_url: str | None
    timezone: ZoneInfo
    unsubscribe_base: str | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """What the engine tells its owner: a title, paragraphs of lines, and where more is shown."""

    title: str
    paragraphs: tuple[tuple[str, ...], ...]
    link: str | None = None
    link_text: str = "Open the operator page"


@dataclass(frozen=True, slots=True)
class Rendered:
    """A rendered message; ``subject`` and ``html`` are empty for channels without them."""

    subject: str = ""
    text: str = ""
    html: str = ""

    def signed(self, signature: str) -> Rendered:
        """One reader's own, with the link that is signed for that reader; of URL-safe ASCII."""
        text = self.text.replace(SIGNED_HERE, signature)
        return replace(self, text=text, html=self.html.replace(SIGNED_HERE, signature))
