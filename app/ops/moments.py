"""Times as a person reads them: in the product's zone with its name, and how long ago."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from markupsafe import Markup

_STEPS = ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"))


class Moments:
    """Formats times for one page.

    Messages live on the business clock, runs and pauses on the wall's: ``now`` is the one, the
    current time the other.
    """

    def __init__(self, zone: ZoneInfo, now: datetime, *, utc: bool) -> None:
        self._zone: tzinfo = UTC if utc else zone
        self._business, self._wall = now, datetime.now(UTC)

    @property
    def zone(self) -> str:
        """The zone's short name now, such as ``CET``."""
        return self._name(self._business)

    def at(self, text: str | None, *, wall: bool = False, short: bool = False) -> Markup:
        """The time, its day unless that is today, and the zone unless ``short``."""
        if not text:
            return Markup("–")
        moment = datetime.fromisoformat(text).astimezone(self._zone)
        shown = f"{self._day(moment, self._now(wall))}{moment:%H:%M}"
        return _time(moment, shown if short else f"{shown} {self._name(moment)}")

    def ago(self, text: str | None, *, wall: bool = False) -> Markup:
        """How long ago, or in how long: ``4 min ago``, ``in 2 h``."""
        if not text:
            return Markup("–")
        moment = datetime.fromisoformat(text)
        seconds = (self._now(wall) - moment).total_seconds()
        length = lasting(abs(seconds))
        shown = "now" if abs(seconds) < 60 else f"{length} ago" if seconds > 0 else f"in {length}"
        return _time(moment, shown)

    def hour(self, text: str) -> str:
        """The time of day alone."""
        return f"{datetime.fromisoformat(text).astimezone(self._zone):%H:%M}"

    def clock(self) -> str:
        """The wall's time of day, for when a page was made."""
        return f"{self._wall.astimezone(self._zone):%H:%M}"

    def _now(self, wall: bool) -> datetime:
        return (self._wall if wall else self._business).astimezone(self._zone)

    def _day(self, moment: datetime, now: datetime) -> str:
        if moment.date() == now.date():
            return ""
        near = abs(now - moment) < timedelta(days=300)
        return f"{moment:%a} {moment.day} {moment:%b}{'' if near else f' {moment.year}'}, "

    def _name(self, moment: datetime) -> str:
        name = moment.astimezone(self._zone).tzname() or "UTC"
        return name if name[:1].isalpha() else f"UTC{name}"


def lasting(seconds: float) -> str:
    """A length of time in one or two units: ``45 s``, ``12 min``, ``3 h 20 min``, ``5 d``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for size, name, smaller, rest_name in _STEPS:
        if whole >= size:
            amount, rest = divmod(whole, size)
            more = rest // smaller if amount < 10 else 0
            return f"{amount} {name}" + (f" {more} {rest_name}" if more else "")
    return f"{whole // 60} min"


def took(milliseconds: int | None) -> str:
    """A run's or a phase's length."""
    if milliseconds is None:
        return "–"
    if milliseconds < 1_000:
        return f"{milliseconds} ms"
    seconds = milliseconds / 1_000
    return f"{seconds:.1f} s" if seconds < 60 else lasting(seconds)


def _time(moment: datetime, shown: str) -> Markup:
    exact = f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    # Digits, names of days and zones: nothing to escape, and a page has a hundred of them.
    return Markup(  # noqa: S704
        f'<time datetime="{exact[:10]}T{exact[11:]}+00:00" title="{exact} UTC">{shown}</time>'
    )
