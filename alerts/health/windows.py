"""The time that health looks at, cut into stretches, and the kept counts to read for them.

Arithmetic only. A bucket is a minute, an hour or six hours of UTC; the database keeps counts of
each (:mod:`alerts.health.counts`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from alerts.product_days import last_days

MICROSECOND, MINUTE, HOUR = timedelta(microseconds=1), timedelta(minutes=1), timedelta(hours=1)
DAY, WEEK = timedelta(days=1), timedelta(days=7)
_LEVELS = (("six_hours", 6 * HOUR), ("hour", HOUR), ("minute", MINUTE))
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)

Span = tuple[str, datetime, datetime, int]  # level, start, end, sign


class Spans(NamedTuple):
    """How the time looked at is cut and read."""

    since: list[datetime]  # the older edges of the windows: a week, a day, an hour
    edges: list[datetime]  # of all stretches, those among them
    shared: list[Span]  # what of the kept counts is read for the stretches
    day: list[Span]  # and for the last day as a whole


def spans_of(now: datetime, zone: ZoneInfo) -> Spans:
    """The stretches at ``now`` (UTC), with the days of ``zone``, and the buckets to read."""
    since = [now - span + MICROSECOND for span in (WEEK, DAY, HOUR)]
    end = floor(now, HOUR) + HOUR
    marks = (edge for edge in (*clock_hours(now), *product_days(now, zone)) if edge < end)
    edges = sorted({*since, *marks, end})
    day = _pieces(since[1:2], [since[1], end], now)
    return Spans(since, edges, _pieces(since, edges, now), day)


def _pieces(since: list[datetime], edges: list[datetime], now: datetime) -> list[Span]:
    """The largest buckets between the first and the last edge that no edge cuts, and with a
    minus the minutes after ``now``. The minutes of ``since`` are left to be read row by row."""
    found: list[Span] = []
    left = [(floor(edges[0], MINUTE), edges[-1])]
    for level, size in _LEVELS:
        cut = {floor(edge, size) for edge in since}
        cut |= {floor(edge, size) for edge in edges if edge != floor(edge, size)}
        smaller: list[tuple[datetime, datetime]] = []
        for start, end in left:
            first = floor(start, size)
            found += [(level, *run, 1) for run in _runs(first, end, size, cut)]
            for bucket in sorted(b for b in cut if first <= b < end):
                part = max(bucket, start), min(bucket + size, end)
                if smaller and smaller[-1][1] == part[0]:
                    part = smaller.pop()[0], part[1]
                smaller.append(part)
        left = smaller
    return [*found, ("minute", floor(now, MINUTE) + MINUTE, edges[-1], -1)]


def _runs(
    start: datetime, end: datetime, size: timedelta, left_out: set[datetime]
) -> Iterator[tuple[datetime, datetime]]:
    """The longest stretches of whole buckets without those left out."""
    for bucket in sorted({b for b in left_out if start <= b < end}):
        if start < bucket:
            yield start, bucket
        start = bucket + size
    if start < end:
        yield start, end


def clock_hours(now: datetime) -> list[datetime]:
    """The edges of the last 24 clock hours."""
    first = floor(now, HOUR) - 23 * HOUR
    return [first + n * HOUR for n in range(25)]


def product_days(now: datetime, zone: ZoneInfo) -> list[datetime]:
    """The edges of the last 7 product days; the last one is tomorrow."""
    return [floor(edge, MINUTE) for edge in last_days(now, 7, zone)]


def floor(moment: datetime, size: timedelta) -> datetime:
    """The start of the bucket that holds the moment."""
    return _EPOCH + (moment - _EPOCH) // size * size
