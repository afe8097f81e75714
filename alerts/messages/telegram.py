"""Telegram messages for ``parse_mode`` HTML.

Telegram counts UTF-16 units after parsing. So parts are measured and cut as plain text and escaped
last, and no cut can break an entity or a tag. Only ``<b>``, ``<i>`` and ``<a>`` are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from html import escape
from zoneinfo import ZoneInfo

from alerts.cleaning import clean_paragraphs, cut, cut_paragraphs, head, utf16_units
from alerts.messages.model import Alert, Notice, Rendered, Style
from alerts.messages.wording import (
    APP,
    DIGEST_ITEMS_MAX,
    HEADLINE_MAX,
    asset_names,
    bounded_line,
    by_importance,
    clean_notice,
    digest_title,
    headline_of,
    moment,
    more_phrase,
    region_name,
    severity_phrase,
    type_name,
    window_phrase,
)

UNITS_MAX = 4096
# An alert's other parts are bounded (a headline of 300 characters, a region of 60, eight assets of
# 24, a footer): under 1,400 units in total, even if every character takes two.
BODY_UNITS_MAX = 2600
_BODY_RAW_MAX = 4 * BODY_UNITS_MAX
_DIGEST_HEADLINE_MAX = 200
_DIGEST_BODY_MAX = 160
_FOOTER_ROOM = 100  # units for "and 37 more in the app" and the link's words


def render_alert(alert: Alert, style: Style) -> Rendered:
    """One alert: headline, facts, what happened, link."""
    facts = [severity_phrase(alert), f"Region: {region_name(alert)}"]
    assets = asset_names(alert)
    if assets:
        facts.append(f"Assets: {assets}")
    facts.append(moment(alert.created_at, style.timezone))
    paragraphs = clean_paragraphs(head(alert.body, _BODY_RAW_MAX))
    body = cut_paragraphs(paragraphs, BODY_UNITS_MAX, utf16_units)
    parts = [
        f"<b>{_escape(headline_of(alert))}</b>",
        f"<i>{_escape(type_name(alert))}</i>\n" + _escape("\n".join(facts)),
        *(_escape("\n".join(lines)) for lines in body),
        _footer(style),
    ]
    return Rendered(text="\n\n".join(parts))


def render_digest(
    alerts: Sequence[Alert],
    period: str,
    window_start: datetime,
    window_end: datetime,
    style: Style,
) -> Rendered:
    """As many alerts as fit in one message, most severe first, then how many more there are."""
    window = window_phrase(window_start, window_end, style.timezone)
    title = digest_title(period, alerts, window)
    parts = [f"<b>{_escape(title)}</b>"]
    room = UNITS_MAX - _FOOTER_ROOM - utf16_units(title)
    shown = 0
    for alert in by_importance(alerts)[:DIGEST_ITEMS_MAX]:
        item, units = _digest_item(alert, style.timezone)
        room -= units + 2  # including the blank line before it
        if room < 0:
            break
        parts.append(item)
        shown += 1
    if shown < len(alerts):
        parts.append(more_phrase(len(alerts) - shown))
    parts.append(_footer(style))
    return Rendered(text="\n\n".join(parts))


def render_notice(notice: Notice) -> Rendered:
    """A notice to the owner."""
    title = bounded_line(notice.title, HEADLINE_MAX)
    paragraphs = cut_paragraphs(clean_notice(notice), BODY_UNITS_MAX, utf16_units)
    parts = [f"<b>{_escape(title)}</b>", *(_escape("\n".join(lines)) for lines in paragraphs)]
    if notice.link is not None:
        parts.append(f'<a href="{escape(notice.link)}">{_escape(notice.link_text)}</a>')
    return Rendered(text="\n\n".join(parts))


# Every user's digest of a window contains the same few events.
@lru_cache(maxsize=1024)
def _digest_item(alert: Alert, zone: ZoneInfo) -> tuple[str, int]:
    """The item as HTML and its length in units after parsing."""
    headline = cut(headline_of(alert), _DIGEST_HEADLINE_MAX)
    facts = f"{severity_phrase(alert)}, {moment(alert.created_at, zone)}\n{region_name(alert)}"
    body = bounded_line(alert.body, _DIGEST_BODY_MAX)
    rest = f"\n{facts}\n{body}" if body else f"\n{facts}"
    return f"<b>{_escape(headline)}</b>{_escape(rest)}", utf16_units(headline + rest)


def _footer(style: Style) -> str:
    if style.app_base_url is None:
        return f"More in the {APP} app."
    return f'<a href="{escape(style.app_base_url)}">Open {APP}</a>'


def _escape(text: str) -> str:
    return escape(text, quote=False)
