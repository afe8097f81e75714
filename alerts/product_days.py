"""Days and hours of the product's zone: where each begins and ends.

A day begins at its first instant. Where a clock is set back over midnight, that is the earlier of
the two midnights, and what the clock then shows of the day before belongs to the new one; where
midnight is skipped, it is the first time there is. So every instant belongs to one day and days
adjoin, which PostgreSQL's ``date_trunc`` does not give. An hour is a stretch in which the clock
shows one hour and is not set: an hour that comes twice is two.

Statements take the edges as parameters. Python's zone database alone decides, so that a server
whose database is older, or lacks the zone, changes nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

_DAY, _HOUR, _INSTANT = timedelta(days=1), timedelta(hours=1), timedelta(microseconds=1)

Window = tuple[datetime, datetime]  # its first instant, and the first after it; both in UTC


def day_start(day: date, zone: ZoneInfo) -> datetime:
    """The first instant of the day, in UTC; of a day that the zone skips, that of the next."""
    midnight = datetime.combine(day, time(), tzinfo=zone)
    earlier = midnight.astimezone(UTC)
    if earlier.astimezone(zone).replace(tzinfo=None) == midnight.replace(tzinfo=None):
        return earlier
    # There is no midnight. Read with the offset of after the change it lies before the change,
    # and the other way round.
    before = midnight.replace(fold=1).astimezone(UTC)
    return _first(before, earlier, lambda at: at.astimezone(zone).date() >= day)


def day_of(at: datetime, zone: ZoneInfo) -> date:
    """The product day that an instant belongs to."""
    day = at.astimezone(zone).date()
    while at >= day_start(day + _DAY, zone):  # the clock was set back over midnight
        day += _DAY
    return day


def day_window(at: datetime, zone: ZoneInfo) -> Window:
    """The product day that holds the instant, of 23 to 25 hours as a rule."""
    day = day_of(at, zone)
    return day_start(day, zone), day_start(day + _DAY, zone)


def hour_window(at: datetime, zone: ZoneInfo) -> Window:
    """The hour that holds the instant; shorter where the clock is set within it."""
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


# The window of each digest period that holds an instant.
WINDOWS: dict[str, Callable[[datetime, ZoneInfo], Window]] = {
    "daily": day_window,
    "hourly": hour_window,
}


def edges(period: str, first: datetime, last: datetime, zone: ZoneInfo) -> list[datetime]:
    """Where the windows from the one of ``first`` to that of ``last`` begin, and the last ends."""
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
    """The first whole second from ``start`` to ``end`` at which something holds from then on.

    Clocks are set at whole seconds.
    """
    second = timedelta(seconds=1)
    return start + second * bisect_left(
        range((end - start) // second + 1), True, key=lambda number: holds(start + second * number)
    )
