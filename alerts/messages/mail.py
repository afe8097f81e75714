"""Emails: a subject, a plain text and an HTML page with the same content.

The page is a single column with inline styles and no external resources. It sets no text or
background colours, so the reader's dark mode works.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from html import escape
from zoneinfo import ZoneInfo

from alerts.cleaning import clean_paragraphs, cut, cut_paragraphs, head
from alerts.messages.model import SIGNED_HERE, Alert, Notice, Rendered, Style
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
    severity_word,
    type_name,
    window_phrase,
    zone_name,
)

SUBJECT_MAX = 120
BODY_MAX = 6_000
_DIGEST_BODY_MAX = 240

# Mid-tones, visible on white and on black.
_COLOURS = {1: "#6b7f8f", 2: "#4f86b8", 3: "#c28a1d", 4: "#d9691f", 5: "#d33a3a"}
_FONT = "font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="supported-color-schemes" content="light dark">
<title>{title}</title>
</head>
<body style="margin:0;padding:0">
<div style="max-width:600px;margin:0 auto;padding:20px 16px;{font};\
font-size:16px;line-height:1.5;overflow-wrap:anywhere">
{content}
{footer}
</div>
</body>
</html>
"""
_HEADING = '<h1 dir="auto" style="font-size:24px;line-height:1.3;margin:0 0 16px">{}</h1>'
_SUBHEADING = '<h2 dir="auto" style="font-size:18px;line-height:1.3;margin:24px 0 8px">{}</h2>'
_PARAGRAPH = '<p dir="auto" style="margin:0 0 12px">{}</p>'
_SMALL = '<p style="font-size:14px;margin:0 0 12px">{}</p>'
_BADGE = (
    '<p style="margin:0 0 12px;padding:4px 0 4px 12px;border-left:6px solid {colour}">'
    "<strong>{severity}</strong></p>"
)
_BUTTON = (
    '<p style="margin:24px 0"><a href="{href}" style="display:inline-block;padding:12px 24px;'
    "border-radius:6px;background-color:#1257a8;color:#ffffff;font-weight:bold;"
    'text-decoration:none">{label}</a></p>'
)


def render_alert(alert: Alert, style: Style) -> Rendered:
    """One alert with everything known about it."""
    headline, region = headline_of(alert), region_name(alert)
    lead = f"{severity_word(alert).capitalize()} ({alert.severity}/5), {region}: "
    subject = cut(lead + headline, SUBJECT_MAX)
    facts = _facts(alert, region, style.timezone)
    body = cut_paragraphs(clean_paragraphs(head(alert.body, 2 * BODY_MAX)), BODY_MAX)
    return Rendered(
        subject=subject,
        text=_alert_text(alert, headline, facts, body, style),
        html=_page(subject, _alert_html(alert, headline, facts, body), style),
    )


def render_digest(
    alerts: Sequence[Alert],
    period: str,
    window_start: datetime,
    window_end: datetime,
    style: Style,
) -> Rendered:
    """The window's alerts, most severe first; after the first 50, only how many more."""
    window = window_phrase(window_start, window_end, style.timezone)
    title = digest_title(period, alerts, window)
    items = [
        _digest_item(alert, style.timezone) for alert in by_importance(alerts)[:DIGEST_ITEMS_MAX]
    ]
    zone = f"Times are {zone_name(style.timezone)} time."
    text_parts = [title, *(text for text, _ in items)]
    html_parts = [_HEADING.format(escape(title)), *(html for _, html in items)]
    if len(items) < len(alerts):
        more = more_phrase(len(alerts) - len(items))
        text_parts.append(more)
        html_parts.append(_PARAGRAPH.format(more))
    text_parts += [zone, _text_footer(style)]
    html_parts.append(_SMALL.format(escape(zone)))
    subject = cut(title, SUBJECT_MAX)
    return Rendered(
        subject=subject,
        text="\n\n".join(text_parts) + "\n",
        html=_page(subject, "\n".join(html_parts), style),
    )


def render_notice(notice: Notice) -> Rendered:
    """A notice to the owner: the same page, without what is meant for users."""
    title, paragraphs = bounded_line(notice.title, HEADLINE_MAX), clean_notice(notice)
    subject = cut(title, SUBJECT_MAX)
    text_parts = [title, *("\n".join(lines) for lines in paragraphs)]
    html_parts = [
        _HEADING.format(escape(title)),
        *(_PARAGRAPH.format("<br>\n".join(map(escape, lines))) for lines in paragraphs),
    ]
    footer = ""
    if notice.link is not None:
        text_parts.append(f"{notice.link_text}: {notice.link}")
        footer = _BUTTON.format(href=escape(notice.link), label=escape(notice.link_text))
    content = "\n".join(html_parts)
    return Rendered(
        subject=subject,
        text="\n\n".join(text_parts) + "\n",
        html=_PAGE.format(title=escape(subject), font=_FONT, content=content, footer=footer),
    )


def _facts(alert: Alert, region: str, zone: ZoneInfo) -> list[tuple[str, str]]:
    facts = [("Type", type_name(alert)), ("Region", region)]
    assets = asset_names(alert)
    if assets:
        facts.append(("Assets", assets))
    facts.append(("Time", f"{moment(alert.created_at, zone)} ({zone_name(zone)})"))
    return facts


def _alert_text(
    alert: Alert,
    headline: str,
    facts: list[tuple[str, str]],
    body: list[list[str]],
    style: Style,
) -> str:
    lines = [severity_phrase(alert), *(f"{name}: {value}" for name, value in facts)]
    parts = [headline, "\n".join(lines)]
    if body:
        parts.append("What happened")
        parts += ["\n".join(paragraph) for paragraph in body]
    parts.append(_text_footer(style))
    return "\n\n".join(parts) + "\n"


def _alert_html(
    alert: Alert, headline: str, facts: list[tuple[str, str]], body: list[list[str]]
) -> str:
    fact_lines = "<br>\n".join(
        f'{name}: <strong dir="auto">{escape(value)}</strong>' for name, value in facts
    )
    parts = [
        _HEADING.format(escape(headline)),
        _badge(alert),
        f'<p style="margin:0 0 12px">{fact_lines}</p>',
    ]
    if body:
        parts.append(_SUBHEADING.format("What happened"))
        parts += [_PARAGRAPH.format("<br>\n".join(map(escape, lines))) for lines in body]
    return "\n".join(parts)


# Every user's digest of a window contains the same few events.
@lru_cache(maxsize=1024)
def _digest_item(alert: Alert, zone: ZoneInfo) -> tuple[str, str]:
    """The item as text and as HTML."""
    headline = headline_of(alert)
    facts = f"{region_name(alert)}, {moment(alert.created_at, zone)}"
    assets = asset_names(alert)
    if assets:
        facts = f"{facts}, {assets}"
    body = bounded_line(alert.body, _DIGEST_BODY_MAX)
    text = "\n".join(filter(None, [headline, severity_phrase(alert), facts, body]))
    html = [_SUBHEADING.format(escape(headline)), _badge(alert), _SMALL.format(escape(facts))]
    if body:
        html.append(_PARAGRAPH.format(escape(body)))
    return text, "\n".join(html)


def _badge(alert: Alert) -> str:
    colour = _COLOURS.get(alert.severity, _COLOURS[1])
    return _BADGE.format(colour=colour, severity=escape(severity_phrase(alert)))


def _page(title: str, content: str, style: Style) -> str:
    return _PAGE.format(
        title=escape(title), font=_FONT, content=content, footer=_html_footer(style)
    )


def _text_footer(style: Style) -> str:
    if style.app_base_url is None:
        return (
            f"Open the {APP} app for more.\n\n"
            f"To change what you get, open your alert preferences in the {APP} app."
        )
    footer = (
        f"Open {APP}: {style.app_base_url}\n\n"
        f"To change what you get, open your alert preferences in the app: {style.app_base_url}"
    )
    if style.unsubscribe_base is None:
        return footer
    return f"{footer}\n\nTo unsubscribe: {style.unsubscribe_base}{SIGNED_HERE}"


def _html_footer(style: Style) -> str:
    if style.app_base_url is None:
        lines = _text_footer(style).split("\n\n")
        return "\n".join(_SMALL.format(escape(line)) for line in lines)
    href = escape(style.app_base_url)
    preferences = (
        "To change what you get, open your alert preferences in the "
        f'<a href="{href}">{APP} app</a>.'
    )
    if style.unsubscribe_base is not None:
        leave = escape(style.unsubscribe_base) + SIGNED_HERE
        preferences = f'{preferences} <a href="{leave}">Unsubscribe</a>'
    return f"{_BUTTON.format(href=href, label=f'Open {APP}')}\n{_SMALL.format(preferences)}"
