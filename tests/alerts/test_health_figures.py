"""The figures of delivery health, each against plain Python over the raw rows."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.failures import FailureCode
from alerts.health import get_health
from tests.queue_rows import add_digest
from tests.world import (
    NOW,
    add_alert,
    add_delivery,
    add_user,
    query,
    settings_for,
)

DAY, WEEK, MICROSECOND = timedelta(hours=24), timedelta(days=7), timedelta(microseconds=1)
MINUTE = timedelta(minutes=1)
CHANNELS = ("email", "telegram", "sms", "account")
DIGEST_CHANNELS = ("email", "telegram")
DELIVERY_KEYS = ("queued", "sending", "sent", "failed", "retried", "skipped", "batched")
DIGEST_KEYS = DELIVERY_KEYS[:-1]
SETTINGS = settings_for("postgresql://unused")


def health_of(conn: Connection, now: datetime = NOW) -> dict[str, Any]:
    return get_health(conn, SETTINGS, now)


# The recount: nothing of the product is used to find the expected figures.


def in_window(row: dict[str, Any], span: timedelta) -> bool:
    return bool(NOW - span < row["created_at"] <= NOW)


def retried(row: dict[str, Any]) -> bool:
    return bool(row["attempts"] > 1 or (row["status"] == "queued" and row["attempts"] >= 1))


def own(row: dict[str, Any]) -> bool:
    return row["delivery_kind"] in ("instant", "digest")


def counted(
    rows: list[dict[str, Any]], channels: tuple[str, ...], keys: tuple[str, ...]
) -> dict[str, dict[str, int]]:
    found = {channel: dict.fromkeys(keys, 0) for channel in channels}
    for row in rows:
        batched = row["status"] == "skipped" and row["failure_code"] == "batched_into_digest"
        key = "batched" if batched and "batched" in keys else row["status"]
        found[row["channel"]][key] += 1
        found[row["channel"]]["retried"] += retried(row)
    return found


def broken_down(rows: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    tally = Counter(tuple(row[name] for name in names) for row in rows)
    return [
        {**dict(zip(names, values, strict=True)), "count": count}
        for values, count in sorted(tally.items(), key=lambda item: [str(v) for v in item[0]])
    ]


def due_minutes(
    rows: list[dict[str, Any]], since: Callable[[dict[str, Any]], datetime]
) -> float | None:
    waiting = [since(row) for row in rows if row["status"] == "queued" and since(row) <= NOW]
    return round((NOW - min(waiting)).total_seconds() / 60, 1) if waiting else None


def recount(conn: Connection) -> dict[str, Any]:
    """What health must say, from the raw rows."""
    deliveries = query(conn, "SELECT * FROM user_alert_deliveries")
    digests = query(conn, "SELECT * FROM user_alert_digests")
    day = [row for row in deliveries if in_window(row, DAY)]
    week = [row for row in deliveries if in_window(row, WEEK)]
    digest_week = [row for row in digests if in_window(row, WEEK)]
    existing = [row for row in deliveries if row["created_at"] <= NOW]
    instant = [row for row in existing if row["delivery_kind"] == "instant"]
    failed = [row for row in day if row["status"] == "failed" and own(row)]
    parts = ("channel", "status", "delivery_kind")
    return {
        "deliveries_24h": counted([r for r in day if own(r)], CHANNELS, DELIVERY_KEYS),
        "digests_7d": counted(digest_week, DIGEST_CHANNELS, DIGEST_KEYS),
        "oldest_queued_delivery_minutes": due_minutes(
            instant, lambda row: row["next_retry_at"] or row["created_at"]
        ),
        "oldest_queued_digest_minutes": due_minutes(
            digests, lambda row: max(row["window_end"], row["next_retry_at"] or row["window_end"])
        ),
        "breakdown": {
            "deliveries_24h": broken_down(day, *parts),
            "deliveries_7d": broken_down(week, *parts),
            "digests_7d": broken_down(digest_week, "channel", "status"),
        },
        "failures_24h": broken_down(failed, "channel", "failure_code"),
    }


EDGES = [
    NOW, NOW + MICROSECOND, NOW + DAY,
    *(NOW - span + n * MICROSECOND for span in (DAY, WEEK) for n in (-1, 0, 1)),
]  # fmt: skip
CODES = [code.value for code in FailureCode]


def random_moment(rng: random.Random) -> datetime:
    """Often an edge of a window, otherwise any time from 9 days ago to an hour ahead."""
    if rng.random() < 0.35:
        return rng.choice(EDGES)
    return NOW - timedelta(seconds=rng.uniform(-3600, 9 * 86_400))


def random_state(rng: random.Random) -> dict[str, Any]:
    status = rng.choice(["queued", "queued", "sending", "sent", "failed", "failed", "skipped"])
    state: dict[str, Any] = {"status": status, "attempts": rng.choice([0, 0, 1, 1, 2, 5])}
    if status in ("failed", "skipped"):
        state["failure_code"] = rng.choice(CODES)
    if status == "skipped" and rng.random() < 0.5:
        state["failure_code"] = "batched_into_digest"
    if status == "queued" and rng.random() < 0.5:
        state["next_retry_at"] = NOW + timedelta(minutes=rng.choice([-90, -1, 0, 1, 30]))
    return state


def fill_at_random(conn: Connection, rng: random.Random) -> None:
    db.execute(conn, "DELETE FROM user_alert_deliveries; DELETE FROM user_alert_digests")
    user = query(conn, "SELECT min(id) AS id FROM users")[0]["id"]
    events = [row["id"] for row in query(conn, "SELECT id FROM alert_events")]
    for event in events[: rng.choice([0, 3, len(events)])]:
        kind = rng.choice(["instant", "instant", "digest", "index_digest"])
        own_event = event if kind != "index_digest" or rng.random() < 0.5 else None
        moment = random_moment(rng)
        channel = rng.choice(CHANNELS)
        state = random_state(rng)
        add_delivery(conn, user, own_event, channel, kind=kind, created_at=moment, **state)
    for _ in range(rng.choice([0, 2, 15])):
        window_end = NOW - timedelta(minutes=rng.choice([-60, 0, 1, 600, 6000]))
        add_digest(
            conn,
            user,
            rng.choice(DIGEST_CHANNELS),
            window_end=window_end,
            created_at=random_moment(rng),
            **random_state(rng),
        )


@pytest.mark.parametrize("block", range(4))
def test_every_figure_agrees_with_a_recount_over_random_histories(
    conn: Connection, block: int
) -> None:
    add_user(conn)
    for _ in range(40):
        add_alert(conn)
    seen_oldest = 0
    for seed in range(block * 10, block * 10 + 10):
        fill_at_random(conn, random.Random(seed))
        health, expected = health_of(conn), recount(conn)
        assert {name: health[name] for name in expected} == expected, f"seed {seed}"
        seen_oldest += health["oldest_queued_delivery_minutes"] is not None
    assert seen_oldest  # the histories are not all empty


def test_a_row_exactly_24_hours_or_7_days_old_has_left_the_window(conn: Connection) -> None:
    user = add_user(conn)
    for span in (DAY, WEEK):
        for step in (timedelta(), MICROSECOND):
            add_delivery(conn, user, add_alert(conn), status="sent", created_at=NOW - span + step)
            add_digest(conn, user, status="sent", created_at=NOW - span + step)
    health = health_of(conn)
    assert health["deliveries_24h"]["email"]["sent"] == 1
    assert health["breakdown"]["deliveries_7d"][0]["count"] == 3
    assert health["digests_7d"]["email"]["sent"] == 3


# Oldest queued


def oldest(conn: Connection) -> tuple[float | None, float | None]:
    health = health_of(conn)
    return health["oldest_queued_delivery_minutes"], health["oldest_queued_digest_minutes"]


def test_a_delivery_never_tried_waits_since_it_was_made(conn: Connection) -> None:
    add_delivery(conn, add_user(conn), add_alert(conn), created_at=NOW - 90 * MINUTE)
    assert oldest(conn) == (90.0, None)


def test_a_delivery_from_after_the_clock_does_not_wait_yet(conn: Connection) -> None:
    user, later = add_user(conn), NOW + MINUTE
    add_delivery(conn, user, add_alert(conn), created_at=later)
    retry = {"attempts": 1, "next_retry_at": NOW - MINUTE}
    add_delivery(conn, user, add_alert(conn), created_at=later, **retry)
    assert oldest(conn) == (None, None)


def test_a_retry_scheduled_for_later_is_no_stuck_queue(conn: Connection) -> None:
    user, old = add_user(conn), NOW - 20 * 60 * MINUTE
    later = {"created_at": old, "attempts": 1, "next_retry_at": NOW + MINUTE}
    add_delivery(conn, user, add_alert(conn), **later)
    add_digest(conn, user, window_end=old, **later)
    assert oldest(conn) == (None, None)


def test_a_due_retry_waits_since_it_was_due(conn: Connection) -> None:
    user, old = add_user(conn), NOW - 20 * 60 * MINUTE
    due = {"created_at": old, "attempts": 1, "next_retry_at": NOW - 7 * MINUTE}
    add_delivery(conn, user, add_alert(conn), **due)
    add_digest(conn, user, window_end=old, **due)
    assert oldest(conn) == (7.0, 7.0)


def test_a_digest_waits_since_its_window_closed(conn: Connection) -> None:
    user = add_user(conn)
    add_digest(conn, user, window_end=NOW + MINUTE, created_at=NOW - DAY)
    assert oldest(conn) == (None, None)
    add_digest(conn, user, window_end=NOW - 3 * MINUTE, created_at=NOW - DAY)
    assert oldest(conn) == (None, 3.0)


def test_digest_deliveries_that_wait_for_their_window_are_no_queue(conn: Connection) -> None:
    user = add_user(conn)
    add_delivery(conn, user, add_alert(conn), kind="digest", created_at=NOW - 23 * 60 * MINUTE)
    other = {"kind": "index_digest", "created_at": NOW - DAY}
    add_delivery(conn, user, add_alert(conn), **other)
    assert oldest(conn) == (None, None)


def test_every_row_of_plain_timestamps_reads_as_utc(database_url: str, conn: Connection) -> None:
    for table, columns in (
        ("user_alert_deliveries", ("created_at", "next_retry_at")),
        ("user_alert_digests", ("created_at", "next_retry_at", "window_start", "window_end")),
    ):
        for column in columns:
            db.execute(conn, f"ALTER TABLE {table} ALTER COLUMN {column} TYPE timestamp")
    user = add_user(conn)
    add_delivery(conn, user, add_alert(conn), created_at=NOW - 5 * MINUTE)
    due = {"attempts": 1, "created_at": NOW - 30 * MINUTE, "next_retry_at": NOW - 2 * MINUTE}
    add_delivery(conn, user, add_alert(conn), **due)
    add_digest(conn, user, window_end=NOW - 9 * MINUTE)
    assert oldest(conn) == (5.0, 9.0)
