"""Wording shared by all channels: severity, region, assets, times."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from zoneinfo import ZoneInfo

from alerts.cleaning import clean_line, cut, head
from alerts.messages.model import Alert, Notice
from alerts.product_days import day_of, day_window

APP = "EnergyRiskIQ"
SEVERITIES = {1: "very low", 2: "low", 3: "moderate", 4: "high", 5: "critical"}
HEADLINE_MAX = 300  # characters; longer than any real headline, to bound the text
REGION_MAX = 60
DIGEST_ITEMS_MAX = 50  # shown in full; mail programs clip much longer messages

_TYPES = {
    "HIGH_IMPACT_EVENT": "High-impact event",
    "REGIONAL_RISK_SPIKE": "Regional risk spike",
    "ASSET_RISK_SPIKE": "Asset risk spike",
}
_ASSETS = {"oil": "oil", "gas": "gas", "fx": "FX", "freight": "freight"}
_ASSETS_MAX = 8
_ASSET_LENGTH_MAX = 24
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
# How much untrusted text to clean, as a multiple of what is kept. It leaves room for what cleaning
# removes and bounds the work that one malicious row can cause.
_RAW_FACTOR = 4


def bounded_line(text: str, limit: int) -> str:
    """Return ``text`` as one clean line of at most ``limit`` characters."""
    return cut(clean_line(head(text, limit * _RAW_FACTOR)), limit)


def type_name(alert: Alert) -> str:
    """``Regional risk spike``; see :func:`name_of_type`."""
    return name_of_type(alert.alert_type)


def name_of_type(alert_type: str) -> str:
    """``Regional risk spike``; an unknown type is shown by its code's words."""
    known = _TYPES.get(alert_type)
    return known or bounded_line(alert_type.replace("_", " "), 60).capitalize() or "Alert"


def severity_phrase(alert: Alert) -> str:
    """``Severity 5 of 5, critical``."""
    return f"Severity {alert.severity} of 5, {severity_word(alert)}"


def severity_word(alert: Alert) -> str:
    """``critical``; ``unrated`` outside 1 to 5."""
    return SEVERITIES.get(alert.severity, "unrated")


def region_name(alert: Alert) -> str:
    """The region, or ``Global`` if there is none."""
    return bounded_line(alert.region or "", REGION_MAX) or "Global"


def asset_names(alert: Alert) -> str:
    """``oil, FX``; empty if the alert has no assets."""
    names = (_asset_name(asset) for asset in alert.assets[:_ASSETS_MAX])
    return ", ".join(name for name in names if name)


def headline_of(alert: Alert) -> str:
    """The headline as one clean line, or the type's name if it is empty."""
    return bounded_line(alert.headline, HEADLINE_MAX) or type_name(alert)


def clean_notice(notice: Notice) -> list[list[str]]:
    """The paragraphs of a notice, as clean lines."""
    cleaned = [[clean_line(line) for line in lines] for lines in notice.paragraphs]
    return [[line for line in lines if line] for lines in cleaned if any(lines)]


def plural(count: int, noun: str) -> str:
    """``1 alert``, ``2 alerts``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def by_importance(alerts: Iterable[Alert]) -> list[Alert]:
    """Most severe first, then oldest first."""
    return sorted(alerts, key=lambda alert: (-alert.severity, alert.created_at, alert.event_id))


def moment(when: datetime, zone: ZoneInfo) -> str:
    """``8 March 2022, 19:00 CET``."""
    local = when.astimezone(zone)
    return f"{_date(local)}, {local:%H:%M} {_zone_abbreviation(local)}"


def zone_name(zone: ZoneInfo) -> str:
    """``Europe/Amsterdam``."""
    return str(zone)


def window_phrase(start: datetime, end: datetime, zone: ZoneInfo) -> str:
    """``8 March 2022`` for a whole product day, otherwise both ends.

    Both ends name their zone if the offsets differ, as in the hour that occurs twice.
    """
    if day_window(start, zone) == (start, end):
        return _date(day_of(start, zone))
    first, last = start.astimezone(zone), end.astimezone(zone)
    until = f"{last:%H:%M} {_zone_abbreviation(last)}"
    if last.date() != first.date():
        until = f"{_date(last)}, {until}"
    same_zone = first.utcoffset() == last.utcoffset()
    since = f"{first:%H:%M}" + ("" if same_zone else f" {_zone_abbreviation(first)}")
    return f"{_date(first)}, {since} to {until}"


def digest_title(period: str, alerts: Sequence[Alert], window: str) -> str:
    """``EnergyRiskIQ daily digest: 3 alerts, 8 March 2022``."""
    return f"{APP} {clean_line(period)} digest: {plural(len(alerts), 'alert')}, {window}"


def more_phrase(count: int) -> str:
    """``and 37 more in the app``."""
    return f"and {count} more in the app"


def _asset_name(asset: str) -> str:
    name = bounded_line(asset, _ASSET_LENGTH_MAX)
    return _ASSETS.get(name.lower(), name)


def _date(day: date) -> str:
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


def _zone_abbreviation(local: datetime) -> str:
    name = local.tzname() or "UTC"
    return name if name[0].isalpha() else f"UTC{name}"  # some zones are only a number: "-03"
