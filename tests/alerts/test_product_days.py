"""Days and hours of every zone, against a model that walks the instants one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.product_days import (
    WINDOWS,
    Window,
    day_of,
    day_start,
    day_window,
    edges,
    hour_window,
    last_days,
)

SECOND, MINUTE, HOUR, DAY = (timedelta(**{n: 1}) for n in ("seconds", "minutes", "hours", "days"))
MICROSECOND = timedelta(microseconds=1)
ZONES = sorted(available_timezones())
# From before standard time to where zones follow the rules of their last change.
FIRST, LAST = datetime(1840, 1, 1, tzinfo=UTC), datetime(2038, 1, 1, tzinfo=UTC)


def offset(at: datetime, zone: ZoneInfo) -> timedelta:
    found = at.astimezone(zone).utcoffset()
    assert found is not None
    return found


def naive(at: datetime, zone: ZoneInfo) -> datetime:
    return at.astimezone(zone).replace(tzinfo=None)


def changes(zone: ZoneInfo) -> Iterator[datetime]:
    """The instants at which the zone's clock was or will be set."""
    at, there = FIRST, offset(FIRST, zone)
    while at < LAST:
        later = at + 20 * DAY
        if offset(later, zone) != there:
            low, high = at, later
            while high - low > SECOND:
                middle = low + (high - low) // 2
                middle -= timedelta(microseconds=middle.microsecond)
                if offset(middle, zone) == there:
                    low = middle
                else:
                    high = middle
            yield high
            later, there = high, offset(high, zone)
        at = later


def is_around_midnight(change: datetime, zone: ZoneInfo) -> bool:
    """Whether the clock was set from, to or over a time within two minutes of midnight."""
    before = naive(change - SECOND, zone) + SECOND
    after = naive(change, zone)
    low, high = min(before, after) - 2 * MINUTE, max(before, after) + 2 * MINUTE
    return low.date() != high.date()


@lru_cache
def notable_changes() -> dict[str, list[datetime]]:
    """By zone: of each kind of change around midnight the first and the last, and of the others
    the last. Zones with the same clock stand for each other."""
    found: dict[str, list[datetime]] = {}
    seen = set()
    for name in ZONES:
        zone = ZoneInfo(name)
        kinds: dict[object, list[datetime]] = {}
        for change in changes(zone):
            before, after = naive(change - SECOND, zone) + SECOND, naive(change, zone)
            around = is_around_midnight(change, zone)
            kind = (around, around and before.time(), after - before)
            kinds.setdefault(kind, []).append(change)
        chosen = sorted({at for all_ in kinds.values() for at in (all_[0], all_[-1])})
        clock = tuple((at, offset(at - SECOND, zone), offset(at, zone)) for at in chosen)
        if clock and clock not in seen:
            seen.add(clock)
            found[name] = chosen
    return found


@lru_cache
def changes_by_surroundings() -> list[tuple[ZoneInfo, datetime]]:
    """The notable changes, one of those around which zones have the same clock."""
    found = {}
    for name, changes_of_zone in notable_changes().items():
        zone = ZoneInfo(name)
        for at in changes_of_zone:
            around = [at - SECOND, *(at + n * 12 * HOUR for n in range(-5, 6))]
            clock = tuple(offset(each, zone) for each in around)
            found.setdefault((at, clock), (zone, at))
    return list(found.values())


def instants(change: datetime, zone: ZoneInfo) -> list[datetime]:
    """Those around a change at which any day or hour may begin, and the seconds beside it."""
    found = {change - SECOND, change, change + SECOND, change - MICROSECOND}
    for at in (change - SECOND, change):
        first = change - timedelta(hours=52)
        first += (FIRST - first - offset(at, zone)) % HOUR  # a whole hour of the zone's clock
        found |= {first + n * HOUR for n in range(104)}
    return sorted(found)


def walked_days(walk: list[datetime], zone: ZoneInfo) -> list[date]:
    """The day of each instant: a day that has begun is not undone by setting the clock back."""
    found: list[date] = []
    for at in walk:
        day = naive(at, zone).date()
        found.append(max(day, found[-1]) if found else day)
    return found


def walked_hours(walk: list[datetime], zone: ZoneInfo) -> list[object]:
    """The hour of each instant: what the clock shows, and how it is set."""
    return [(naive(at, zone).replace(minute=0, second=0, microsecond=0), offset(at, zone))
            for at in walk]  # fmt: skip


def assert_agrees(
    walk: list[datetime],
    labels: list[date] | list[object],
    window: Callable[[datetime, ZoneInfo], Window],
    zone: ZoneInfo,
) -> None:
    """The windows are the runs of instants with one label, and adjoin."""
    starts = [at for at, label, last in zip(walk[1:], labels[1:], labels, strict=False)
              if label != last]  # fmt: skip
    for begins, ends in pairwise(starts):
        for at in [at for at in walk if begins <= at < ends] + [ends - MICROSECOND]:
            assert window(at, zone) == (begins, ends), f"{zone} {at}"


def test_every_zone_that_changed_its_clock_around_midnight_has_days_that_adjoin() -> None:
    changed = 0
    for zone, change in changes_by_surroundings():
        walk = instants(change, zone)
        days = walked_days(walk, zone)
        assert_agrees(walk, days, day_window, zone)
        assert [day_of(at, zone) for at in walk[60:-40]] == days[60:-40]
        changed += is_around_midnight(change, zone)
    assert changed > 300


def test_every_zone_has_hours_that_adjoin_and_do_not_hold_a_change() -> None:
    for zone, change in changes_by_surroundings():
        walk = instants(change, zone)
        assert_agrees(walk, walked_hours(walk, zone), hour_window, zone)


@given(
    at=st.integers(-(10**9), 3 * 10**9).map(lambda number: datetime.fromtimestamp(number, UTC)),
    name=st.sampled_from(ZONES),
    period=st.sampled_from(sorted(WINDOWS)),
)
def test_every_instant_is_in_one_window_and_windows_adjoin(
    at: datetime, name: str, period: str
) -> None:
    window, zone = WINDOWS[period], ZoneInfo(name)
    start, end = window(at, zone)
    assert start <= at < end
    assert window(start, zone) == window(end - MICROSECOND, zone) == (start, end)
    assert window(end, zone)[0] == end
    assert window(start - MICROSECOND, zone)[1] == start


@pytest.mark.parametrize(
    ("name", "day", "start", "hours"),
    [
        ("Europe/Amsterdam", "2022-03-08", "2022-03-07 23:00", 24),
        ("Europe/Amsterdam", "2022-03-27", "2022-03-26 23:00", 23),
        ("Europe/Amsterdam", "2022-10-30", "2022-10-29 22:00", 25),
        # Set back from 01:00 to 00:00: the first of two midnights.
        ("Atlantic/Azores", "2026-10-25", "2026-10-25 00:00", 25),
        ("America/Havana", "2026-11-01", "2026-11-01 04:00", 25),
        # Set back from 00:00 to 23:00, to a minute after and to a minute before.
        ("Asia/Beirut", "2026-10-24", "2026-10-23 21:00", 25),
        ("America/St_Johns", "2010-11-07", "2010-11-07 02:30", 25),
        ("America/St_Johns", "2010-11-06", "2010-11-06 02:30", 24),
        # From 00:00 to 01:00, and from 23:30 to 00:30.
        ("Asia/Beirut", "2026-03-29", "2026-03-28 22:00", 23),
        ("America/Toronto", "1919-03-31", "1919-03-31 04:30", 23.5),
        # Over the date line: a day that never was, and one that was there twice.
        ("Pacific/Apia", "2011-12-29", "2011-12-29 10:00", 24),
        ("Pacific/Apia", "2011-12-30", "2011-12-30 10:00", 0),
        ("Pacific/Apia", "2011-12-31", "2011-12-30 10:00", 24),
        ("Pacific/Kwajalein", "1969-09-30", "1969-09-29 13:00", 47),
    ],
)
def test_day_begins_at_its_first_instant(name: str, day: str, start: str, hours: float) -> None:
    zone, first = ZoneInfo(name), date.fromisoformat(day)
    begins = day_start(first, zone)
    assert begins == datetime.fromisoformat(start).replace(tzinfo=UTC)
    assert day_start(first + DAY, zone) - begins == hours * HOUR
    if hours:
        assert day_of(begins, zone) == first
        assert day_of(begins - MICROSECOND, zone) < first


def test_half_an_hour_that_comes_twice_is_a_window_of_its_own() -> None:
    """Lord Howe: at 02:00 the clock is set back to 01:30."""
    at = datetime(2026, 4, 4, 14, 10, tzinfo=UTC)
    found = edges("hourly", at, at + 2 * HOUR, ZoneInfo("Australia/Lord_Howe"))
    assert [f"{edge:%H:%M}" for edge in found] == ["14:00", "15:00", "15:30", "16:30"]


@pytest.mark.parametrize("name", ["Asia/Kathmandu", "America/St_Johns", "Pacific/Chatham"])
def test_hours_are_those_of_the_zones_clock(name: str) -> None:
    zone = ZoneInfo(name)
    start, end = hour_window(datetime(2022, 3, 8, 18, 5, 7, 9, tzinfo=UTC), zone)
    assert (naive(start, zone).minute, naive(start, zone).second, end - start) == (0, 0, HOUR)


@pytest.mark.parametrize("name", ["Europe/Amsterdam", "Atlantic/Azores", "Pacific/Apia"])
@pytest.mark.parametrize("at", ["2026-10-28 12:00", "2012-01-02 12:00", "2022-03-27 00:59:59.9"])
def test_last_days_are_the_days_before_one_after_the_other(name: str, at: str) -> None:
    zone, now = ZoneInfo(name), datetime.fromisoformat(at).replace(tzinfo=UTC)
    found = last_days(now, 7, zone)
    assert len(found) == 8
    assert found[-2] <= now < found[-1]
    assert all(day_window(start, zone) == (start, end) for start, end in pairwise(found))
    assert found == edges("daily", found[0], now, zone)
