"""Nights on which a clock is set, through the phases: quotas, digest windows, dates of scores."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from tests.support.digests import add_waiting, digests
from tests.support.phases import counts, utc
from tests.support.world import add_alert, add_index, add_pref, add_user, query

HOUR, HALF_HOUR, SECOND = timedelta(hours=1), timedelta(minutes=30), timedelta(seconds=1)
# A zone, the product day on which its clock is set or that it skips, its first instant and the
# next day's, in UTC.
NIGHTS = [
    ("Atlantic/Azores", "2026-10-25", "2026-10-25 00:00", "2026-10-26 01:00"),  # 01:00 to 00:00
    ("America/Havana", "2026-11-01", "2026-11-01 04:00", "2026-11-02 05:00"),
    ("Asia/Beirut", "2026-10-24", "2026-10-23 21:00", "2026-10-24 22:00"),  # 00:00 to 23:00
    ("America/St_Johns", "2010-11-07", "2010-11-07 02:30", "2010-11-08 03:30"),  # 00:01 to 23:01
    ("Asia/Beirut", "2026-03-29", "2026-03-28 22:00", "2026-03-29 21:00"),  # no midnight
    ("Pacific/Apia", "2011-12-31", "2011-12-30 10:00", "2011-12-31 10:00"),  # no day before
    ("Europe/Amsterdam", "2026-10-25", "2026-10-24 22:00", "2026-10-25 23:00"),
]


def windows(conn: Connection) -> dict[str, dict[str, Any]]:
    """The digests by key, in the order of their windows."""
    return dict(sorted(digests(conn).items(), key=lambda item: item[1]["window_start"]))


nights = pytest.mark.parametrize(("zone", "day", "first", "after"), NIGHTS)


def times(first: datetime, after: datetime) -> list[datetime]:
    """Every half hour of the day, its last second, and the first of the next one."""
    found = [first + n * HALF_HOUR for n in range(int((after - first) / HALF_HOUR))]
    return [*found, after - SECOND, after]


@nights
def test_plan_gives_its_instant_number_once_a_product_day(
    database_url: str, conn: Connection, zone: str, day: str, first: str, after: str
) -> None:
    user = add_user(conn, "trader")
    add_pref(conn, user)
    start, end = utc(first), utc(after)
    runs = [*times(start, start + 5 * HALF_HOUR), *times(end - 3 * HALF_HOUR, end)]
    for now in runs:
        add_alert(conn, created_at=now)
        counts(database_url, "b", now=now, environ={"ALERTS_TIMEZONE": zone})
    instant = query(
        conn,
        "SELECT created_at FROM user_alert_deliveries"
        " WHERE channel = 'email' AND delivery_kind = 'instant' ORDER BY id",
    )
    assert [row["created_at"] for row in instant] == [*runs[:3], end]


@nights
def test_daily_digest_holds_a_product_day_from_its_first_instant(
    database_url: str, conn: Connection, zone: str, day: str, first: str, after: str
) -> None:
    user = add_user(conn)
    start, end = utc(first), utc(after)
    inside = [add_waiting(conn, user, at) for at in times(start, end)[:-1]]
    before, later = add_waiting(conn, user, start - SECOND), add_waiting(conn, user, end)
    environ = {"ALERTS_TIMEZONE": zone}
    counts(database_url, "d", now=end - SECOND, environ=environ)
    assert [row["items"] for row in windows(conn).values()] == [[before]]
    counts(database_url, "d", now=end + 30 * HOUR, environ=environ)
    found = windows(conn)
    assert [row["items"] for row in found.values()] == [[before], inside, [later]]
    assert [row["window_end"] for row in found.values()][:2] == [start, end]
    own = found[f"{user}:email:daily:{start:%Y-%m-%dT%H:%M:%SZ}"]
    assert (own["window_start"], own["window_end"]) == (start, end)


@pytest.mark.parametrize(
    ("zone", "at", "edges"),
    [
        ("Europe/Amsterdam", "2026-10-25", "00:00 01:00 02:00 03:00"),
        ("Atlantic/Azores", "2026-10-25", "00:00 01:00 02:00"),
        ("Australia/Lord_Howe", "2026-04-04", "14:00 15:00 15:30 16:30"),  # half an hour back
        ("Australia/Lord_Howe", "2026-10-03", "14:30 15:30 16:00 17:00"),  # and on
        ("America/St_Johns", "2010-11-07", "01:30 02:30 02:31 03:30 04:30"),
        ("Asia/Kathmandu", "2026-10-25", "00:15 01:15 02:15"),
        ("Pacific/Chatham", "2026-04-04", "13:15 14:00 14:15 15:15"),  # 03:45 to 02:45
    ],
)
def test_hourly_windows_adjoin_on_nights_on_which_the_clock_is_set(
    database_url: str, conn: Connection, zone: str, at: str, edges: str
) -> None:
    user = add_user(conn)
    expected = [utc(f"{at} {edge}") for edge in edges.split()]
    for start, end in pairwise(expected):
        add_waiting(conn, user, start)
        add_waiting(conn, user, end - SECOND)
    environ = {"ALERTS_TIMEZONE": zone, "ALERTS_DIGEST_PERIOD": "hourly"}
    counts(database_url, "d", now=expected[-1], environ=environ)
    found = windows(conn)
    assert [(row["window_start"], row["window_end"]) for row in found.values()] == list(
        pairwise(expected)
    )
    assert all(len(row["items"]) == 2 for row in found.values())
    assert list(found) == [
        f"{user}:email:hourly:{edge:%Y-%m-%dT%H:%M:%SZ}" for edge in expected[:-1]
    ]


@pytest.mark.parametrize("period", ["daily", "hourly"])
def test_what_waits_longer_than_the_first_look_reaches_gets_its_windows_too(
    database_url: str, conn: Connection, period: str
) -> None:
    user, now = add_user(conn), utc("2022-03-08 18:00")
    ages = [timedelta(hours=2), timedelta(days=1), timedelta(days=40), timedelta(days=800)]
    waiting = [add_waiting(conn, user, now - age) for age in ages]
    environ = {"ALERTS_DIGEST_PERIOD": period}
    counted = counts(database_url, "d", now=now + timedelta(days=1), environ=environ)
    assert counted["digest_items_attached"] == counted["windows_built"] == len(ages)
    for row in windows(conn).values():
        (delivery,) = row["items"]
        at = now - ages[waiting.index(delivery)]
        assert row["window_start"] <= at < row["window_end"]


@nights
def test_score_has_the_date_of_the_product_day_it_was_made_on(
    database_url: str, conn: Connection, zone: str, day: str, first: str, after: str
) -> None:
    start, end = utc(first), utc(after)
    environ = {"ALERTS_TIMEZONE": zone}
    for at in times(start, end):
        db.execute(conn, "DELETE FROM risk_indices")
        add_index(conn, 75, at=at)
        counts(database_url, "a", now=at + SECOND, environ=environ)
    found = query(conn, "SELECT event_fingerprint AS f FROM alert_events ORDER BY id")
    next_day = datetime.fromisoformat(day).date() + timedelta(days=1)
    assert [row["f"] for row in found] == [
        f"REGIONAL_RISK_SPIKE:Europe:{day}",
        f"REGIONAL_RISK_SPIKE:Europe:{next_day}",
    ]


@nights
def test_score_of_the_same_product_day_is_no_earlier_one(
    database_url: str, conn: Connection, zone: str, day: str, first: str, after: str
) -> None:
    start, end = utc(first), utc(after)
    add_index(conn, 40, region="same day", at=start)
    add_index(conn, 40, region="day before", at=start - SECOND)
    for region in ("same day", "day before"):
        add_index(conn, 60, region=region, at=end - SECOND)
    counts(database_url, "a", now=end - SECOND, environ={"ALERTS_TIMEZONE": zone})
    found = query(conn, "SELECT scope_region FROM alert_events")
    assert [row["scope_region"] for row in found] == ["day before"]
