"""What is not queued again because sending would leave it out, and that sending asks as well."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection

from alerts.repair.requeue import INCLUDES
from tests.support.queue_rows import TABLES, Rows
from tests.support.requeue_world import KINDS, MAX_ATTEMPTS, TRANSIENT, outcome, retry
from tests.support.world import NOW, add_channel_pref, counts_of, query, run

OLD = NOW - timedelta(hours=73)
CODES = (
    "network", "provider_unavailable", "rate_limited", "outcome_unknown", "sender_lost",
    "recipient_invalid", "payload_invalid", "recipient_blocked",
)  # fmt: skip


def switch_off(conn: Connection, kind: str, row_id: int, channel: str) -> None:
    (row,) = query(conn, f"SELECT user_id FROM {TABLES[kind]} WHERE id = %s", row_id)
    add_channel_pref(conn, row["user_id"], channel, enabled=False)


def test_a_delivery_too_old_to_send_is_left_out_and_a_digest_is_not(conn: Connection) -> None:
    for kind, expected in (("deliveries", (0, 0, {"expired": 1})), ("digests", (1, 1, {}))):
        Rows(conn, kind).add(created_at=OLD)
        assert outcome(retry(conn, kind)) == expected


@KINDS
def test_a_channel_switched_off_since_is_left_out(conn: Connection, kind: str) -> None:
    rows = Rows(conn, kind)
    switch_off(conn, kind, rows.add(), "email")
    switch_off(conn, kind, rows.add(), "telegram")  # another channel of the user
    assert outcome(retry(conn, kind)) == (1, 1, {"channel_disabled": 1})


def test_attempts_are_named_only_where_they_alone_stand_in_the_way(conn: Connection) -> None:
    rows = Rows(conn)
    rows.add(attempts=MAX_ATTEMPTS)
    rows.add(attempts=MAX_ATTEMPTS, created_at=OLD)
    switch_off(conn, "deliveries", rows.add(attempts=MAX_ATTEMPTS), "email")
    excluded = {"attempts_exhausted": 1, "expired": 1, "channel_disabled": 1}
    assert outcome(retry(conn)) == (0, 0, excluded)


@KINDS
def test_filters_narrow_all_that_is_counted(conn: Connection, kind: str) -> None:
    rows = Rows(conn, kind)
    for channel in ("email", "telegram"):
        for code in ("network", "rate_limited", "recipient_invalid"):
            rows.add(channel=channel, failure_code=code)
    assert outcome(retry(conn, kind, dry_run=True)) == (4, 4, {"recipient_invalid": 2})
    only = {"dry_run": True, "channel": "email"}
    assert outcome(retry(conn, kind, **only)) == (2, 2, {"recipient_invalid": 1})
    assert outcome(retry(conn, kind, **only, failure_code="network")) == (1, 1, {})
    refused = retry(conn, kind, dry_run=True, failure_code="recipient_invalid")
    assert outcome(refused) == (0, 0, {"recipient_invalid": 2})


@KINDS
def test_sending_leaves_out_what_was_switched_off_meanwhile(
    conn: Connection, database_url: str, kind: str
) -> None:
    rows = Rows(conn, kind)
    off, on = rows.add(), rows.add()
    assert outcome(retry(conn, kind)) == (2, 2, {})
    switch_off(conn, kind, off, "email")
    counts = counts_of(run(database_url, "c"), "c")[kind]
    assert (counts["claimed"], counts["sent"], counts["skipped_channel_disabled"]) == (2, 1, 1)
    assert (rows.status(off), rows.status(on)) == ("skipped", "sent")
    (row,) = query(conn, f"SELECT * FROM {TABLES[kind]} WHERE id = %s", off)
    assert (row["failure_code"], row["attempts"]) == ("channel_disabled", 1)


def expected_exclusion(row: dict[str, Any], asked: dict[str, Any], kind: str) -> str | None:
    """The reason that keeps a row out, in plain Python; None for one to send again."""
    include = asked.get("include", ())
    if row["status"] == "failed" and row["failure_code"] not in TRANSIENT:
        of = {
            "unknown": ("outcome_unknown", "sender_lost"),
            "refused": ("recipient_invalid", "payload_invalid"),
        }
        if not any(row["failure_code"] in codes for name, codes in of.items() if name in include):
            return str(row["failure_code"])
    if kind == "deliveries" and row["created_at"] < NOW - timedelta(hours=72):
        return "expired"
    if row["off"]:
        return "channel_disabled"
    worn = row["failure_code"] in TRANSIENT and row["attempts"] >= MAX_ATTEMPTS
    return "attempts_exhausted" if worn and "exhausted" not in include else None


def looked_at(rows: list[dict[str, Any]], asked: dict[str, Any]) -> list[dict[str, Any]]:
    since = NOW - timedelta(hours=asked["since_hours"])
    return [
        row
        for row in rows
        if asked.get("channel") in (None, row["channel"])
        and asked.get("failure_code") in (None, row["failure_code"])
        and (
            (row["status"] == "failed" and since < row["failed_at"] <= NOW)
            or (
                row["failure_code"] == "channel_not_configured"
                and "not_configured" in asked.get("include", ())
                and since < row["created_at"] <= NOW
            )
        )
    ]


@KINDS
@pytest.mark.parametrize("seed", range(8))
def test_the_dry_run_the_recount_and_the_real_call_agree(
    conn: Connection, database_url: str, kind: str, seed: int
) -> None:
    rng, rows = random.Random(seed), Rows(conn, kind)
    for _ in range(40):
        channel = rng.choice(("email", "telegram"))
        created = NOW - timedelta(hours=rng.choice([0.1, 5, 71, 73, 100]))
        columns: dict[str, Any] = {"created_at": created, "attempts": rng.choice([0, 1, 4, 5, 9])}
        if rng.random() < 0.2:
            columns["failure_code"] = "channel_not_configured"
            row_id = rows.add("skipped", channel, **columns)
        else:
            columns["failed_at"] = NOW - timedelta(hours=rng.choice([0.1, 5, 30, 200]))
            row_id = rows.add("failed", channel, failure_code=rng.choice(CODES), **columns)
        if rng.random() < 0.25:
            switch_off(conn, kind, row_id, channel)
    asked: dict[str, Any] = {
        "since_hours": rng.choice([6, 24, 168]),
        "include": tuple(name for name in INCLUDES if rng.random() < 0.5),
        "channel": rng.choice([None, None, "email"]),
        "failure_code": rng.choice([None, None, "network"]),
        "limit": rng.choice([None, None, 3]),
    }  # fmt: skip
    before = query(
        conn,
        f"SELECT q.*, EXISTS (SELECT FROM user_channel_prefs AS p WHERE p.user_id = q.user_id"
        f" AND p.channel = q.channel AND NOT p.enabled) AS off FROM {TABLES[kind]} AS q",
    )
    reasons = {r["id"]: expected_exclusion(r, asked, kind) for r in looked_at(before, asked)}
    dry, real = retry(conn, kind, dry_run=True, **asked), retry(conn, kind, **asked)
    assert {**dry, "dry_run": False, "action_id": real["action_id"]} == real
    assert real["excluded"] == Counter(reason for reason in reasons.values() if reason)
    queued = {
        r["id"] for r in query(conn, f"SELECT id FROM {TABLES[kind]} WHERE status = 'queued'")
    }
    order = {row["id"]: (row["failed_at"] or row["created_at"], row["id"]) for row in before}
    eligible = sorted((i for i, reason in reasons.items() if reason is None), key=order.__getitem__)
    assert queued == set(eligible[: asked["limit"]])
    assert (real["eligible"], real["requeued"]) == (len(eligible), len(queued))
    channel_of = {row["id"]: row["channel"] for row in before}
    assert real["by_channel"] == Counter(channel_of[row_id] for row_id in queued)
    counts = counts_of(run(database_url, "c"), "c")[kind]
    assert (counts["skipped_expired"], counts["skipped_channel_disabled"]) == (0, 0)
    assert counts["claimed"] == len(queued)
