"""Phase D: windows, keys, marks and counts."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection

from alerts.phases.digest import BUILD_DIGESTS
from tests.support.digests import (
    DAY,
    HOUR,
    SECOND,
    TODAY,
    TOMORROW,
    YESTERDAY,
    add_waiting,
    batched,
    daily,
    digests,
    items,
)
from tests.support.phases import counts, use_plain_timestamps, utc
from tests.support.world import NOW, add_alert, add_delivery, add_user, query, value

HOURLY = {"ALERTS_DIGEST_PERIOD": "hourly"}
NOTHING = {
    "windows_built": 0,
    "digests_created": 0,
    "digest_items_attached": 0,
    "deliveries_marked_batched": 0,
}


def windows(conn: Connection) -> list[tuple[datetime, datetime]]:
    rows = digests(conn).values()
    return sorted((row["window_start"], row["window_end"]) for row in rows)


def test_window_is_built_once_it_has_closed(database_url: str, conn: Connection) -> None:
    user = add_user(conn)
    first, last = add_waiting(conn, user, TODAY), add_waiting(conn, user, TOMORROW - SECOND)
    assert counts(database_url, "d", now=TOMORROW - SECOND) == NOTHING
    assert counts(database_url, "d", now=TOMORROW) == {
        "windows_built": 1,
        "digests_created": 1,
        "digest_items_attached": 2,
        "deliveries_marked_batched": 2,
    }
    assert items(conn) == {daily(user, "2022-03-07"): [first, last]}


def test_second_run_finds_nothing_to_do(database_url: str, conn: Connection) -> None:
    for _ in range(3):
        add_waiting(conn, add_user(conn), YESTERDAY)
    counts(database_url, "d")
    before = digests(conn)
    assert counts(database_url, "d") == NOTHING
    assert digests(conn) == before


def test_three_days_without_a_run_give_three_digests(database_url: str, conn: Connection) -> None:
    user = add_user(conn)
    waiting = [add_waiting(conn, user, TODAY - days * DAY + HOUR) for days in (3, 2, 1)]
    counted = counts(database_url, "d")
    assert (counted["windows_built"], counted["digests_created"]) == (3, 3)
    assert items(conn) == {
        daily(user, f"2022-03-0{4 + number}"): [delivery] for number, delivery in enumerate(waiting)
    }


def test_time_of_the_event_decides_not_that_of_the_delivery(
    database_url: str, conn: Connection
) -> None:
    """A fan-out just after midnight delivers events of just before."""
    user = add_user(conn)
    before = add_waiting(conn, user, TODAY - SECOND, created_at=TODAY + SECOND)
    add_waiting(conn, user, TODAY, created_at=TODAY - SECOND)
    counts(database_url, "d")
    assert items(conn) == {daily(user, "2022-03-06"): [before]}


def test_digest_is_queued_with_its_window_and_the_clocks_time(
    database_url: str, conn: Connection
) -> None:
    user = add_user(conn)
    add_waiting(conn, user, YESTERDAY + HOUR, "telegram")
    counts(database_url, "d")
    (row,) = digests(conn).values()
    expected = {
        "digest_key": f"{user}:telegram:daily:2022-03-06T23:00:00Z",
        "user_id": user,
        "channel": "telegram",
        "period": "daily",
        "window_start": YESTERDAY,
        "window_end": TODAY,
        "status": "queued",
        "attempts": 0,
        "next_retry_at": None,
        "sent_at": None,
        "created_at": NOW,
    }
    assert {name: row[name] for name in expected} == expected
    assert value(conn, "SELECT created_at FROM user_alert_digest_items") == NOW


def test_deliveries_are_marked_as_batched(database_url: str, conn: Connection) -> None:
    user = add_user(conn)
    delivery = add_waiting(conn, user, YESTERDAY, next_retry_at=NOW)
    later = add_waiting(conn, user, TODAY)
    counts(database_url, "d")
    rows = {row["id"]: row for row in query(conn, "SELECT * FROM user_alert_deliveries")}
    row = rows[delivery]
    assert (row["status"], row["failure_code"]) == ("skipped", "batched_into_digest")
    assert (row["next_retry_at"], row["attempts"], row["sent_at"]) == (None, 0, None)
    assert (rows[later]["status"], rows[later]["failure_code"]) == ("queued", None)


def test_users_and_channels_have_digests_of_their_own(database_url: str, conn: Connection) -> None:
    users = [add_user(conn) for _ in range(3)]
    expected = {}
    for user in users:
        for channel in ("email", "telegram"):
            key = daily(user, "2022-03-06", channel)
            expected[key] = [add_waiting(conn, user, YESTERDAY, channel) for _ in range(2)]
    counted = counts(database_url, "d")
    assert items(conn) == expected
    assert counted == {
        "windows_built": 1,
        "digests_created": 6,
        "digest_items_attached": 12,
        "deliveries_marked_batched": 12,
    }
    assert batched(conn) == {delivery for group in expected.values() for delivery in group}


def test_only_queued_digest_deliveries_are_taken(database_url: str, conn: Connection) -> None:
    user = add_user(conn)
    for status in ("sent", "failed", "skipped"):
        add_waiting(conn, user, YESTERDAY, status=status)
    others = [("instant", "email"), ("instant", "sms"), ("weekly_report", "email")]
    others.append(("digest", "sms"))  # a row of old: there are no digests by SMS
    for kind, channel in others:
        add_waiting(conn, user, YESTERDAY, channel, kind=kind)
    add_waiting(conn, user, YESTERDAY, "account", kind="instant", status="sent")
    before = query(conn, "SELECT * FROM user_alert_deliveries ORDER BY id")
    assert counts(database_url, "d") == NOTHING
    assert query(conn, "SELECT * FROM user_alert_deliveries ORDER BY id") == before


def test_event_of_several_users_is_in_a_digest_of_each(database_url: str, conn: Connection) -> None:
    event = add_alert(conn, created_at=YESTERDAY)
    users = [add_user(conn) for _ in range(3)]
    for user in users:
        add_delivery(conn, user, event, kind="digest")
    counts(database_url, "d")
    assert set(digests(conn)) == {daily(user, "2022-03-06") for user in users}


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2022-03-25 23:00", "2022-03-26 23:00"),
        ("2022-03-26 23:00", "2022-03-27 22:00"),  # 23 hours
        ("2022-03-27 22:00", "2022-03-28 22:00"),
        ("2022-10-28 22:00", "2022-10-29 22:00"),
        ("2022-10-29 22:00", "2022-10-30 23:00"),  # 25 hours
        ("2022-10-30 23:00", "2022-10-31 23:00"),
    ],
)
@pytest.mark.parametrize("plain", [False, True])
def test_daily_window_is_a_product_day(
    database_url: str, conn: Connection, start: str, end: str, plain: bool
) -> None:
    user = add_user(conn)
    first, last = utc(start), utc(end)
    inside = [add_waiting(conn, user, at) for at in (first, last - SECOND)]
    if plain:
        use_plain_timestamps(conn)
    assert counts(database_url, "d", now=last - SECOND) == NOTHING
    assert counts(database_url, "d", now=last)["digests_created"] == 1
    key = f"{user}:email:daily:{first:%Y-%m-%dT%H:%M:%SZ}"
    assert items(conn) == {key: inside}
    assert [(a.replace(tzinfo=None), b.replace(tzinfo=None)) for a, b in windows(conn)] == [
        (first.replace(tzinfo=None), last.replace(tzinfo=None))
    ]


def test_repeated_hour_of_october_has_two_digests(database_url: str, conn: Connection) -> None:
    """Between 02:00 and 03:00 in Amsterdam, twice."""
    user = add_user(conn)
    summer, winter = utc("2022-10-30 00:30"), utc("2022-10-30 01:30")
    first, second = add_waiting(conn, user, summer), add_waiting(conn, user, winter)
    counts(database_url, "d", now=utc("2022-10-30 01:59:59"), environ=HOURLY)
    assert items(conn) == {f"{user}:email:hourly:2022-10-30T00:00:00Z": [first]}
    counts(database_url, "d", now=utc("2022-10-30 02:00"), environ=HOURLY)
    assert items(conn) == {
        f"{user}:email:hourly:2022-10-30T00:00:00Z": [first],
        f"{user}:email:hourly:2022-10-30T01:00:00Z": [second],
    }
    hours = [utc(f"2022-10-30 0{hour}:00") for hour in range(3)]
    assert windows(conn) == [(hours[0], hours[1]), (hours[1], hours[2])]


def test_hourly_windows_adjoin_where_march_skips_an_hour(
    database_url: str, conn: Connection
) -> None:
    user = add_user(conn)
    add_waiting(conn, user, utc("2022-03-27 00:59:59"))
    add_waiting(conn, user, utc("2022-03-27 01:00"))
    counts(database_url, "d", now=utc("2022-03-27 02:00"), environ=HOURLY)
    hours = [utc(f"2022-03-27 0{hour}:00") for hour in range(3)]
    assert windows(conn) == [(hours[0], hours[1]), (hours[1], hours[2])]


@pytest.mark.parametrize(
    ("zone", "period", "event_at", "start", "end"),
    [
        ("UTC", "daily", "2022-03-08 12:00", "2022-03-08 00:00", "2022-03-09 00:00"),
        ("Asia/Kolkata", "daily", "2022-03-08 12:00", "2022-03-07 18:30", "2022-03-08 18:30"),
        ("Asia/Kolkata", "hourly", "2022-03-08 12:00", "2022-03-08 11:30", "2022-03-08 12:30"),
        # The clock goes from 00:00 to 01:00: the day begins at 01:00 and still ends at 00:00.
        ("Asia/Beirut", "daily", "2022-03-26 12:00", "2022-03-25 22:00", "2022-03-26 22:00"),
        ("Asia/Beirut", "daily", "2022-03-27 12:00", "2022-03-26 22:00", "2022-03-27 21:00"),
    ],
)
def test_windows_follow_the_configured_zone(
    database_url: str,
    conn: Connection,
    zone: str,
    period: str,
    event_at: str,
    start: str,
    end: str,
) -> None:
    add_waiting(conn, add_user(conn), utc(event_at))
    environ = {"ALERTS_TIMEZONE": zone, "ALERTS_DIGEST_PERIOD": period}
    counts(database_url, "d", now=utc(end) - SECOND, environ=environ)
    assert digests(conn) == {}
    counts(database_url, "d", now=utc(end), environ=environ)
    assert windows(conn) == [(utc(start), utc(end))]


def test_hours_without_a_run_give_a_digest_each(database_url: str, conn: Connection) -> None:
    user = add_user(conn)
    times = [NOW - hours * HOUR for hours in (3, 2, 1)]
    expected: dict[str, Any] = {
        f"{user}:email:hourly:{at:%Y-%m-%dT%H}:00:00Z": [add_waiting(conn, user, at)]
        for at in times
    }
    counts(database_url, "d", environ=HOURLY)
    assert items(conn) == expected


@pytest.mark.parametrize("waiting", [0, 3_000])
def test_waiting_deliveries_are_looked_up_by_their_keys_whatever_the_statistics_say(
    database_url: str, conn: Connection, waiting: int
) -> None:
    """As after a migration or a large fan-out: the server has not counted the rows yet, and an
    earlier deployment left its index of the status. A join by that took half a minute."""
    event, user = add_alert(conn, created_at=NOW), add_user(conn)
    with conn.cursor() as cursor:
        cursor.execute("CREATE INDEX of_earlier_days ON user_alert_deliveries (status)")
        cursor.execute(
            "INSERT INTO users (email)"
            " SELECT 'u' || n || '@example.com' FROM generate_series(1, 3000) AS n"
        )
        cursor.execute(
            "INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, delivery_kind,"
            " status, created_at) SELECT id, %s, 'email', 'digest', 'queued', %s FROM users"
            " WHERE id > %s ORDER BY id LIMIT %s",
            (event, NOW, user, waiting),
        )
    edges = [YESTERDAY, TODAY, TOMORROW]
    values = {
        "channels": ["email"], "period": "daily", "edges": edges, "current_start": TODAY,
        "now": NOW, "after_user_id": 0, "batch_size": 50_000,
    }  # fmt: skip
    with conn.cursor() as cursor:
        cursor.execute("EXPLAIN " + BUILD_DIGESTS, values)
        plan = "\n".join(row[0] for row in cursor)
    pending = plan[plan.index("CTE pending") : plan.index("CTE own")]
    assert "Index Cond: (id = alerts_digest_waiting.delivery_id)" in pending, pending
    assert "Seq Scan on user_alert_deliveries" not in pending
