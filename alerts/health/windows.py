"""The time that health looks at, in whole minutes of UTC, and the kept counts to read for it.

Arithmetic only. A bucket is a minute, ten minutes, an hour or six hours; the database keeps counts
of each (:mod:`alerts.health.counts`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from alerts.product_days import last_days

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
DAY, WEEK = timedelta(days=1), timedelta(days=7)
LEVELS = {
    "six_hours": 6 * HOUR,
    "hour": HOUR,
    "ten_minutes": 10 * MINUTE,
    "minute": MINUTE,
}  # the largest first
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)

Piece = tuple[str, datetime, datetime]  # level, start, end


def pieces(marks: Iterable[datetime]) -> list[Piece]:
    """The time from the first mark to the last in the largest buckets that no mark cuts;
    neighbours of one level are one piece."""
    found: list[Piece] = []
    left = list(pairwise(sorted(set(marks))))
    for level, size in LEVELS.items():
        rest: list[tuple[datetime, datetime]] = []
        for start, end in left:
            first, last = ceil(start, size), floor(end, size)
            if first < last:
                found.append((level, first, last))
                rest += [(start, first), (last, end)]
            else:
                rest.append((start, end))
        left = [(start, end) for start, end in rest if start < end]
    return _joined(found)


def _joined(found: list[Piece]) -> list[Piece]:
    joined: list[Piece] = []
    for piece in found:
        if joined and joined[-1][::2] == piece[:2]:
            joined[-1] = (*joined[-1][:2], piece[2])
        else:
            joined.append(piece)
    return joined


def clock_hours(now: datetime) -> list[datetime]:
    """The edges of the last 24 clock hours."""
    first = floor(now, HOUR) - 23 * HOUR
    return [first + n * HOUR for n in range(25)]


def product_days(now: datetime, zone: ZoneInfo) -> list[datetime]:
    """The edges of the last 7 product days; the last one is tomorrow."""
    return [floor(edge, MINUTE) for edge in last_days(now, 7, zone)]


def floor(at: datetime, size: timedelta) -> datetime:
    """The start of the bucket that holds the time."""
    return at - (at - _EPOCH) % size


def ceil(at: datetime, size: timedelta) -> datetime:
    """The start of the first bucket that does not begin before the time."""
    return at + (_EPOCH - at) % size
