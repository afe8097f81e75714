"""Which kept counts health reads: every minute once, and no bucket that an edge cuts."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from alerts.health.windows import DAY, HOUR, MICROSECOND, MINUTE, WEEK, product_days, spans_of

SIZES = {"minute": MINUTE, "hour": HOUR, "six_hours": 6 * HOUR}
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def floor(moment: datetime, size: timedelta) -> datetime:
    return moment - (moment - EPOCH) % size


def moments() -> list[datetime]:
    """Round ones, the nights on which clocks change, and any."""
    rng = random.Random(11)
    found = [datetime(2022, 3, 8, hour, tzinfo=UTC) for hour in (0, 5, 6, 12, 18, 23)]
    found += [at - MICROSECOND for at in found]
    found += [datetime(2022, 3, 27, 0, 59, 59, 999999, tzinfo=UTC)]
    found += [datetime(2022, 10, 30, 1, tzinfo=UTC), datetime(2022, 11, 6, 5, 30, tzinfo=UTC)]
    found += [datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 26, tzinfo=UTC)]
    start = datetime(2022, 1, 1, tzinfo=UTC)
    return found + [start + timedelta(seconds=rng.uniform(0, 3e7)) for _ in range(40)]


@pytest.mark.parametrize(
    "zone", ["Europe/Amsterdam", "Asia/Kathmandu", "America/St_Johns", "Atlantic/Azores", "UTC"]
)
def test_every_minute_is_read_once_and_no_bucket_holds_an_edge(zone: str) -> None:
    for now in moments():
        since = [now - span + MICROSECOND for span in (WEEK, DAY, HOUR)]
        spans = spans_of(now, ZoneInfo(zone))
        for pieces, cuts, edges in (
            (spans.shared, since, spans.edges),
            (spans.day, since[1:2], [since[1], spans.edges[-1]]),
        ):
            read: dict[datetime, int] = {}
            for level, start, end, sign in pieces:
                size = SIZES[level]
                assert floor(start, size) == start, f"{now} {level} {start}"
                bucket = start
                while bucket < end:
                    assert not any(bucket < edge < bucket + size for edge in edges)
                    for minute in range(size // MINUTE):
                        at = bucket + minute * MINUTE
                        read[at] = read.get(at, 0) + sign
                    bucket += size
            wanted, at = {}, floor(cuts[0], MINUTE)
            while at <= now:
                wanted[at] = 1
                at += MINUTE
            for cut in cuts:
                del wanted[floor(cut, MINUTE)]
            assert {at: times for at, times in read.items() if times} == wanted, f"{now} {zone}"


def test_a_week_takes_few_buckets() -> None:
    """Blocks of six hours where nothing but the days' edges lies: the reason they are kept."""
    spans = spans_of(datetime(2022, 3, 8, 18, 20, tzinfo=UTC), ZoneInfo("Europe/Amsterdam"))
    buckets = dict.fromkeys(SIZES, 0)
    for level, start, end, sign in spans.shared:
        if sign > 0:
            buckets[level] += -(-(end - start) // SIZES[level])
    assert buckets["six_hours"] >= 16
    assert buckets["hour"] <= 75


@pytest.mark.parametrize(
    ("zone", "now", "edges"),
    [
        (
            "Atlantic/Azores",
            "2026-10-25 00:30",
            "10-23 00:00, 10-24 00:00, 10-25 00:00, 10-26 01:00",
        ),
        (
            "America/Havana",
            "2026-11-01 04:30",
            "10-30 04:00, 10-31 04:00, 11-01 04:00, 11-02 05:00",
        ),
        ("Asia/Beirut", "2026-03-29 12:00", "03-26 22:00, 03-27 22:00, 03-28 22:00, 03-29 21:00"),
        ("Pacific/Apia", "2011-12-31 09:00", "12-28 10:00, 12-29 10:00, 12-30 10:00, 12-31 10:00"),
    ],
)
def test_chart_has_the_product_days_that_there_were(zone: str, now: str, edges: str) -> None:
    found = product_days(datetime.fromisoformat(now).replace(tzinfo=UTC), ZoneInfo(zone))
    assert len(found) == 8
    assert ", ".join(f"{edge:%m-%d %H:%M}" for edge in found[-4:]) == edges
