"""Which kept counts health reads: every minute once, and no bucket that an edge cuts."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from alerts.health import counts
from alerts.health.windows import DAY, HOUR, LEVELS, MINUTE, WEEK, pieces, product_days

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
ZONES = ["Europe/Amsterdam", "Asia/Kathmandu", "America/St_Johns", "Atlantic/Azores", "UTC"]


def moments() -> list[datetime]:
    """Round ones, the nights on which clocks change, and any."""
    rng = random.Random(11)
    found = [datetime(2022, 3, 8, hour, tzinfo=UTC) for hour in (0, 5, 6, 12, 18, 23)]
    found += [at - timedelta(microseconds=1) for at in found]
    found += [datetime(2022, 3, 27, 0, 59, 59, 999999, tzinfo=UTC)]
    found += [datetime(2022, 10, 30, 1, tzinfo=UTC), datetime(2022, 11, 6, 5, 30, tzinfo=UTC)]
    found += [datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 26, tzinfo=UTC)]
    start = datetime(2022, 1, 1, tzinfo=UTC)
    return found + [start + timedelta(seconds=rng.uniform(0, 3e7)) for _ in range(40)]


@pytest.mark.parametrize("zone", ZONES)
def test_every_minute_is_read_once_and_no_bucket_holds_a_mark(zone: str) -> None:
    for now in moments():
        asked = counts.parameters(now, ZoneInfo(zone))
        assert asked["end"] - MINUTE <= now < asked["end"], "the clock's own minute is the last"
        for source, start in (
            ("deliveries", asked["start"]),
            ("digests", asked["start"]),
            ("delivery_waits", asked["last_day"]),
            ("digest_waits", asked["last_day"]),
        ):
            at = start
            for level, first, end in sorted(read_of(asked, source), key=lambda piece: piece[1]):
                assert at == first, f"{now} {source}: a gap, or read twice"
                assert (first - EPOCH) % LEVELS[level] == timedelta()
                assert (end - first) % LEVELS[level] == timedelta()
                for mark in asked["marks"] if source in ("deliveries", "digests") else ():
                    assert not first < mark < end or (mark - EPOCH) % LEVELS[level] == timedelta()
                at = end
            assert at == asked["end"]
        assert asked["start"] <= asked["last_week"]
        marks = {*asked["per_hour"], *asked["per_day"]}
        assert {mark for mark in marks if mark < asked["end"]} <= set(asked["marks"])


def read_of(asked: dict[str, Any], source: str) -> list[tuple[str, datetime, datetime]]:
    columns = zip(asked["sources"], asked["levels"], asked["starts"], asked["ends"], strict=True)
    return [(level, start, end) for each, level, start, end in columns if each == source]


@pytest.mark.parametrize("zone", ZONES)
def test_windows_begin_at_the_minute_that_was_so_long_ago(zone: str) -> None:
    for now in moments():
        asked = counts.parameters(now, ZoneInfo(zone))
        minute = now.replace(second=0, microsecond=0)
        assert asked["last_hour"] == minute - HOUR
        assert asked["last_day"] == minute - DAY
        assert asked["last_week"] == minute - WEEK


def test_pieces_are_as_large_as_the_marks_allow() -> None:
    at = datetime(2022, 3, 8, tzinfo=UTC)
    assert pieces([at, at + 12 * HOUR]) == [("six_hours", at, at + 12 * HOUR)]
    assert pieces([at + MINUTE, at + 10 * MINUTE]) == [("minute", at + MINUTE, at + 10 * MINUTE)]
    assert pieces([at, at + 3 * HOUR, at + 7 * HOUR + 12 * MINUTE]) == [
        ("hour", at, at + 7 * HOUR),
        ("ten_minutes", at + 7 * HOUR, at + 7 * HOUR + 10 * MINUTE),
        ("minute", at + 7 * HOUR + 10 * MINUTE, at + 7 * HOUR + 12 * MINUTE),
    ]
    assert pieces([at]) == []


@pytest.mark.parametrize("zone", ZONES)
def test_a_week_takes_few_buckets(zone: str) -> None:
    """The reason that larger blocks are kept: a week has 10,080 minutes."""
    for now in moments():
        asked = counts.parameters(now, ZoneInfo(zone))
        read = read_of(asked, "deliveries")
        assert sum((end - start) // LEVELS[level] for level, start, end in read) <= 300


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
