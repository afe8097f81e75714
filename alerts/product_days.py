"""Where days and hours begin and end in the product's time zone.

A day begins at its first instant. If the clock is set back across midnight, that is the earlier
of the two midnights, and the repeated part of the previous day belongs to the new one. If midnight
is skipped, the day begins at the first time that exists. So every instant belongs to exactly one
day and days leave no gaps, which PostgreSQL's ``date_trunc`` does not guarantee. An hour ends when
the clock is changed, so an hour that occurs twice counts as two.

SQL statements take the boundaries as parameters. Only Python's zone database is used, so a server
with an outdated zone database, or one that lacks the zone, makes no difference.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

_DAY, _HOUR, _INSTANT = timedelta(days=1), timedelta(hours=1), timedelta(microseconds=1)

Window = tuple[datetime, datetime]  # [start, end) in UTC


def day_start(day: date, zone: ZoneInfo) -> datetime:
    """Return the day's first instant in UTC, or the next day's if the zone skips the day."""
    midnight = datetime.combine(day, time(), tzinfo=zone)
    earlier = midnight.astimezone(UTC)
    if earlier.astimezone(zone).replace(tzinfo=None) == midnight.replace(tzinfo=None):
        return earlier
    # Midnight does not exist. With the offset from after the change it falls before the change,
    # and vice versa.
    before = midnight.replace(fold=1).astimezone(UTC)
    return _first(before, earlier, lambda at: at.astimezone(zone).date() >= day)


def day_of(at: datetime, zone: ZoneInfo) -> date:
    """Return the product day that contains the instant."""
    day = at.astimezone(zone).date()
    while at >= day_start(day + _DAY, zone):  # the clock was set back over midnight
        day += _DAY
    return day


def day_window(at: datetime, zone: ZoneInfo) -> Window:
    """Return the product day that contains the instant; usually 23 to 25 hours long."""
    day = day_of(at, zone)
    return day_start(day, zone), day_start(day + _DAY, zone)


def hour_window(at: datetime, zone: ZoneInfo) -> Window:
    """Return the hour that contains the instant; shorter if the clock is changed within it."""
    at = at.astimezone(UTC)
    local = at.astimezone(zone)
    offset = local.utcoffset()
    start = at - timedelta(
        minutes=local.minute, seconds=local.second, microseconds=local.microsecond
    )
    end = start + _HOUR
    if start.astimezone(zone).utcoffset() != offset:
        start = _first(start, at, lambda moment: moment.astimezone(zone).utcoffset() == offset)
    if (end - _INSTANT).astimezone(zone).utcoffset() != offset:
        end = _first(start, end, lambda moment: moment.astimezone(zone).utcoffset() != offset)
    return start, end


# For each digest period, the function that returns the window containing an instant.
WINDOWS: dict[str, Callable[[datetime, ZoneInfo], Window]] = {
    "daily": day_window,
    "hourly": hour_window,
}


def edges(period: str, first: datetime, last: datetime, zone: ZoneInfo) -> list[datetime]:
    """Return the start of each window from ``first`` to ``last``, and the end of the last."""
    start, end = WINDOWS[period](first, zone)
    found = [start, end]
    while end <= last:
        _, end = WINDOWS[period](end, zone)
        found.append(end)
    return found


def last_days(at: datetime, count: int, zone: ZoneInfo) -> list[datetime]:
    """The edges of the last ``count`` product days; the last edge is the end of today."""
    start, end = day_window(at, zone)
    found = [end, start]
    while len(found) <= count:
        start, _ = day_window(start - _INSTANT, zone)
        found.append(start)
    return found[::-1]


def _first(start: datetime, end: datetime, holds: Callable[[datetime], bool]) -> datetime:
    """Return the first whole second from ``start`` to ``end`` from which ``holds`` stays true.

    Clocks change at whole seconds.
    """
    second = timedelta(seconds=1)
    return start + second * bisect_left(
        range((end - start) // second + 1), True, key=lambda number: holds(start + second * number)
    )
