"""The figures of delivery health, each against plain Python over the raw rows."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.failures import FailureCode
from alerts.health.report import get_health
from tests.support import world
from tests.support.queue_rows import add_digest
from tests.support.world import (
    add_alert,
    add_delivery,
    add_user,
    query,
    settings_for,
)

DAY, WEEK, MICROSECOND = timedelta(hours=24), timedelta(days=7), timedelta(microseconds=1)
MINUTE = timedelta(minutes=1)
NOW = world.NOW + timedelta(minutes=17, seconds=23.456)  # in the middle of everything
MINUTE_OF_NOW = NOW.replace(second=0, microsecond=0)
CHANNELS = ("email", "telegram", "sms", "account")
DIGEST_CHANNELS = ("email", "telegram")
DELIVERY_KEYS = ("queued", "sending", "sent", "failed", "retried", "skipped", "batched")
DIGEST_KEYS = DELIVERY_KEYS[:-1]
SETTINGS = settings_for("postgresql://unused")


def health_of(conn: Connection, now: datetime = NOW) -> dict[str, Any]:
    return get_health(conn, SETTINGS, now)


# The recount: nothing of the product is used to find the expected figures.


def in_window(row: dict[str, Any], span: timedelta) -> bool:
    return bool(MINUTE_OF_NOW - span <= row["created_at"] < MINUTE_OF_NOW + MINUTE)


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


def failures_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return broken_down(
        [row for row in rows if row["status"] == "failed"], "channel", "failure_code"
    )


def rounded_up(seconds: float) -> int:
    """Four steps an octave from 8 on, whole seconds below; the product counts by logarithm."""
    value, step = max(1, math.ceil(seconds)), 1
    while value > 8 * step:
        step *= 2
    return -(-value // step) * step


def waits_of(rows: list[dict[str, Any]], channel: str) -> dict[str, int | None]:
    mine = [row for row in rows if row["status"] == "sent" and row["channel"] == channel]
    return shares_of(
        r["sent_at"] - max(r["created_at"], r.get("window_end", r["created_at"])) for r in mine
    )


def risk_waits_of(rows: list[dict[str, Any]], channel: str) -> dict[str, int | None]:
    return shares_of(
        row["sent_at"] - row["risk_at"]
        for row in rows
        if row["status"] == "sent" and row["channel"] == channel and row["risk_at"]
    )


def shares_of(took: Iterable[timedelta]) -> dict[str, int | None]:
    waited = sorted(rounded_up(each.total_seconds()) for each in took)
    ranks = {name: math.ceil(share * len(waited) / 100) for name, share in PERCENTS.items()}
    return {
        "count": len(waited),
        **{name: waited[rank - 1] if waited else None for name, rank in ranks.items()},
    }


PERCENTS = {"p50": 50, "p95": 95, "p99": 99}


def doubts_of(rows: list[dict[str, Any]], channel: str) -> dict[str, int]:
    unknown = [
        row["status"]
        for row in rows
        if row["channel"] == channel and row["failure_code"] in ("outcome_unknown", "sender_lost")
    ]
    return {"waiting": unknown.count("queued"), "failed": unknown.count("failed")}


def points_of(
    starts: list[datetime], deliveries: list[dict[str, Any]], digests: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    points = []
    for start, end in itertools.pairwise([*starts, NOW + DAY]):
        point: dict[str, Any] = {"starts": start.astimezone(UTC).isoformat()}
        for name, rows in (("deliveries", deliveries), ("digests", digests)):
            states = [r["status"] for r in rows if start <= r["created_at"] < end]
            point[name] = {
                "created": len(states),
                "sent": states.count("sent"),
                "failed": states.count("failed"),
            }
        points.append(point)
    return points


def with_sending(conn: Connection, source: str) -> list[dict[str, Any]]:
    """All rows; what a lease holds has the status that answers call it."""
    held = {
        row["id"] for row in query(conn, "SELECT id FROM alerts_leased WHERE source = %s", source)
    }
    rows = query(conn, f"SELECT * FROM user_alert_{source}")
    return [
        {**row, "status": "sending"} if row["status"] == "queued" and row["id"] in held else row
        for row in rows
    ]


def recount(conn: Connection) -> dict[str, Any]:
    """What health must say, from the raw rows."""
    deliveries = with_sending(conn, "deliveries")
    digests = with_sending(conn, "digests")
    day = [row for row in deliveries if in_window(row, DAY)]
    week = [row for row in deliveries if in_window(row, WEEK)]
    digest_day = [row for row in digests if in_window(row, DAY)]
    digest_week = [row for row in digests if in_window(row, WEEK)]
    end = MINUTE_OF_NOW + MINUTE  # what is later lies after the clock
    existing = [row for row in deliveries if row["created_at"] < end]
    instant = [row for row in existing if row["delivery_kind"] == "instant"]
    sent = [row for row in day if row["delivery_kind"] == "instant"]
    parts = ("channel", "status", "delivery_kind")
    hour = NOW.replace(minute=0, second=0, microsecond=0)
    today = NOW.astimezone(AMSTERDAM).replace(hour=0, minute=0, second=0, microsecond=0)
    own_existing = [row for row in existing if own(row)]
    digests_existing = [row for row in digests if row["created_at"] < end]
    return {
        "deliveries_24h": counted([r for r in day if own(r)], CHANNELS, DELIVERY_KEYS),
        "deliveries_7d": counted([r for r in week if own(r)], CHANNELS, DELIVERY_KEYS),
        "digests_24h": counted(digest_day, DIGEST_CHANNELS, DIGEST_KEYS),
        "digests_7d": counted(digest_week, DIGEST_CHANNELS, DIGEST_KEYS),
        "oldest_queued_delivery_minutes": due_minutes(
            instant, lambda row: max(row["created_at"], row["next_retry_at"] or row["created_at"])
        ),
        "oldest_queued_digest_minutes": due_minutes(
            digests, lambda row: max(row["window_end"], row["next_retry_at"] or row["window_end"])
        ),
        "breakdown": {
            "deliveries_24h": broken_down(day, *parts),
            "deliveries_7d": broken_down(week, *parts),
            "digests_24h": broken_down(digest_day, "channel", "status"),
            "digests_7d": broken_down(digest_week, "channel", "status"),
        },
        "failures_24h": failures_of([row for row in day if own(row)]),
        "failures": {
            name: {
                "deliveries": failures_of([r for r in week if own(r) and in_window(r, span)]),
                "digests": failures_of([r for r in digest_week if in_window(r, span)]),
            }
            for name, span in (("1h", timedelta(hours=1)), ("24h", DAY), ("7d", WEEK))
        },
        "per_hour": points_of(
            [hour - n * timedelta(hours=1) for n in reversed(range(24))],
            own_existing, digests_existing,
        ),
        "per_day": points_of(
            [today - n * DAY for n in reversed(range(7))], own_existing, digests_existing
        ),
        "channels": {
            channel: {
                "oldest_due_delivery_minutes": due_minutes(
                    [row for row in instant if row["channel"] == channel],
                    lambda row: max(row["created_at"], row["next_retry_at"] or row["created_at"]),
                ),
                "waits": {
                    "instant": waits_of(sent, channel),
                    **({"digest": waits_of(digest_day, channel)}
                       if channel in DIGEST_CHANNELS else {}),
                },
                "risk_waits": risk_waits_of(sent, channel),
                "doubts": doubts_of([*(r for r in week if own(r)), *digest_week], channel),
            }
            for channel in CHANNELS
        },
    }  # fmt: skip


def told(health: dict[str, Any]) -> dict[str, Any]:
    """Health with its channels cut down to what the recount gives."""
    channels = {
        name: {
            "oldest_due_delivery_minutes": channel["oldest_due_delivery_minutes"],
            "waits": channel["queued_to_sent_seconds_24h"],
            "risk_waits": channel["risk_to_phone_seconds_24h"],
            "doubts": {key: channel["in_doubt"][key] for key in ("waiting", "failed")},
        }
        for name, channel in health["channels"].items()
    }
    return {**health, "channels": channels}


AMSTERDAM = ZoneInfo("Europe/Amsterdam")
EDGES = [
    NOW, NOW + MICROSECOND, NOW + DAY,
    *(MINUTE_OF_NOW - span + n * MICROSECOND
      for span in (-MINUTE, timedelta(hours=1), DAY, WEEK) for n in (-1, 0, 1)),
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
    if status == "sent":
        state["waited"] = rng.choice([0, 0.4, 1, 16, 16.5, 17, 31, 33, 600, 1025, 90_000])
    if status == "queued" and rng.random() < 0.3:
        state["failure_code"] = rng.choice(["outcome_unknown", "sender_lost", "network"])
    if status == "queued" and rng.random() < 0.5:
        state["next_retry_at"] = NOW + timedelta(minutes=rng.choice([-90, -1, 0, 1, 30]))
    return state


def fill_at_random(conn: Connection, rng: random.Random) -> None:
    db.execute(
        conn,
        "DELETE FROM user_alert_deliveries; DELETE FROM user_alert_digests;"
        " DELETE FROM alerts_leases",
    )
    user = query(conn, "SELECT min(id) AS id FROM users")[0]["id"]
    events = [row["id"] for row in query(conn, "SELECT id FROM alert_events")]
    for event in events[: rng.choice([0, 3, len(events)])]:
        kind = rng.choice(["instant", "instant", "digest", "index_digest"])
        own_event = event if kind != "index_digest" or rng.random() < 0.5 else None
        moment = random_moment(rng)
        channel = rng.choice(CHANNELS)
        state = random_state(rng)
        if kind != "instant" and state["status"] == "sending":  # only messages are sent
            state["status"] = "queued"
        if "waited" in state:
            state["sent_at"] = moment + timedelta(seconds=state.pop("waited"))
        if rng.random() < 0.7:
            state["risk_at"] = moment - timedelta(seconds=rng.choice([0, 0.2, 5, 300, 7200]))
        add_delivery(conn, user, own_event, channel, kind=kind, created_at=moment, **state)
    for _ in range(rng.choice([0, 2, 15])):
        window_end = NOW - timedelta(minutes=rng.choice([-60, 0, 1, 600, 6000]))
        moment, state = random_moment(rng), random_state(rng)
        if "waited" in state:
            waited = timedelta(seconds=state.pop("waited"))
            state["sent_at"] = max(moment, window_end) + waited
        channel = rng.choice(DIGEST_CHANNELS)
        add_digest(conn, user, channel, window_end=window_end, created_at=moment, **state)


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
        health, expected = told(health_of(conn)), recount(conn)
        for name in expected:
            assert health[name] == expected[name], f"seed {seed}, {name}"
        seen_oldest += health["oldest_queued_delivery_minutes"] is not None
    assert seen_oldest  # the histories are not all empty


def test_a_window_begins_with_the_minute_that_was_so_long_ago(conn: Connection) -> None:
    user = add_user(conn)
    for span in (DAY, WEEK):
        for step in (-MICROSECOND, timedelta()):
            at = MINUTE_OF_NOW - span + step
            add_delivery(conn, user, add_alert(conn), status="sent", created_at=at)
            add_digest(conn, user, status="sent", created_at=at)
    health = health_of(conn)
    assert health["deliveries_24h"]["email"]["sent"] == 1
    assert health["breakdown"]["deliveries_7d"][0]["count"] == 3
    assert health["digests_7d"]["email"]["sent"] == 3


@pytest.mark.parametrize("hours", [0, 1, 5, 18, 24, 200])
def test_what_lies_after_the_clock_is_not_there_yet(conn: Connection, hours: int) -> None:
    """As when days of the past are replayed on a database that has later ones."""
    user, later = add_user(conn), MINUTE_OF_NOW + MINUTE + timedelta(hours=hours)
    add_delivery(conn, user, add_alert(conn), status="sent", created_at=NOW, sent_at=NOW)
    expected = told(health_of(conn))
    add_delivery(conn, user, add_alert(conn), status="sent", created_at=later, sent_at=later)
    add_delivery(conn, user, add_alert(conn), created_at=later, attempts=1)
    add_digest(conn, user, status="sent", created_at=later, sent_at=later)
    for fold in ("SELECT 1", "SELECT alerts_health_fold()"):
        db.execute(conn, fold)
        found = told(health_of(conn))
        assert {name: found[name] for name in recount(conn)} == {
            name: expected[name] for name in recount(conn)
        }


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


# The counts follow whatever changes the rows


def agree(conn: Connection, what: str) -> None:
    health, expected = told(health_of(conn)), recount(conn)
    for name in expected:
        assert health[name] == expected[name], f"{what}, {name}"


def test_the_counts_follow_updates_deletes_folds_and_a_truncate(conn: Connection) -> None:
    add_user(conn)
    for _ in range(40):
        add_alert(conn)
    rng = random.Random(7)
    fill_at_random(conn, rng)
    for step in range(12):
        table = rng.choice(["user_alert_deliveries", "user_alert_digests"])
        change = rng.choice([
            f"UPDATE {table} SET status = 'sent', sent_at = created_at + interval '33 s'"
            " WHERE id %% 3 = %s",
            f"UPDATE {table} SET created_at = created_at - interval '1 hour' WHERE id %% 4 = %s",
            f"UPDATE {table} SET status = 'queued', attempts = 1 WHERE id %% 3 = %s",
            f"DELETE FROM {table} WHERE id %% 9 = %s",
        ])  # fmt: skip
        db.execute(conn, change, (rng.randrange(3),))
        if step % 3 == 0:
            db.execute(conn, "SELECT alerts_health_fold()")
        agree(conn, f"step {step}: {change}")
    db.execute(conn, "SELECT alerts_health_rebuild()")
    agree(conn, "recounted")
    db.execute(conn, "TRUNCATE user_alert_deliveries, user_alert_digest_items")
    agree(conn, "truncated")


def test_what_is_rolled_back_is_not_counted(conn: Connection) -> None:
    user = add_user(conn)
    db.execute(conn, "BEGIN")
    add_delivery(conn, user, add_alert(conn))
    db.execute(conn, "ROLLBACK")
    assert health_of(conn)["breakdown"]["deliveries_24h"] == []
