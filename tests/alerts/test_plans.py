"""Whatever the statistics say, a statement's work grows with the rows it is for, not with their
square: after a restore, a migration or a first large fan-out the planner knows nothing, or knows
what is no longer so."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import psycopg2
import pytest
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from alerts.lookup import deliveries
from alerts.phases import digest, fanout
from alerts.phases.send import claims, leases
from alerts.phases.send.statements import array, text_array
from alerts.repair import prune
from tests.support.databases import TestServer
from tests.support.world import NOW, value

USERS = 2_000
# Rows that one step of a plan may look at for each user; each with each would be two thousand.
MOST = 50
FEW = 10  # the same where rows are looked up by their keys
WEEK = timedelta(days=7)

PEOPLE = """
INSERT INTO users (email, email_verified, telegram_chat_id)
SELECT 'user' || n || '@example.com', TRUE, n::text FROM generate_series(1, %(users)s) AS n;
INSERT INTO user_plans (user_id, plan) SELECT id, 'trader' FROM users;
INSERT INTO user_alert_prefs (user_id, region) SELECT id, 'Europe' FROM users;
INSERT INTO user_channel_prefs (user_id, channel, digest_only)
SELECT id, channel, id %% 3 = 0 FROM users, unnest(ARRAY['email', 'telegram']) AS c (channel)
"""
EVENTS = """
INSERT INTO alert_events
    (alert_type, scope_region, severity, headline, body, cooldown_key, event_fingerprint,
    created_at)
SELECT 'HIGH_IMPACT_EVENT', 'Europe', 5, 'x', 'x', k, k, %(now)s - n * interval '1 day'
FROM (SELECT n, 'event ' || n AS k FROM generate_series(0, 20) AS n) AS events
"""
DELIVERIES = """
INSERT INTO user_alert_deliveries
    (user_id, alert_event_id, channel, delivery_kind, status, sent_at, created_at)
SELECT u.id, e.id, %(channel)s, %(kind)s, %(status)s, CASE %(status)s WHEN 'sent' THEN %(at)s END,
    %(at)s
FROM users AS u, alert_events AS e WHERE e.event_fingerprint = 'event ' || %(event)s
"""
AGED = "UPDATE user_alert_deliveries SET created_at = created_at - interval '20 days'"
LEASED = """
WITH taken AS (DELETE FROM alerts_send_queue WHERE source = 'deliveries' RETURNING id)
INSERT INTO alerts_leases (run_id, source, until, ids)
SELECT 'ours', 'deliveries', now() + interval '1 hour', array_agg(id) FROM taken
RETURNING id, ids
"""


@pytest.fixture(
    scope="module",
    params=["no statistics", "statistics of empty tables", "statistics of other days"],
)
def conn(test_server: TestServer, request: pytest.FixtureRequest) -> Iterator[Connection]:
    """A database with rows of everything, in a transaction that each test leaves as it was."""
    name = test_server.create(migrated=True)
    connection = psycopg2.connect(test_server.url(name))
    connection.autocommit = True
    with connection.cursor() as cursor:
        if request.param == "statistics of empty tables":
            cursor.execute("VACUUM ANALYZE")
        cursor.execute(PEOPLE, {"users": USERS})
        cursor.execute(EVENTS, {"now": NOW})
        for event in range(3, 21):
            _deliver(cursor, event, "telegram", "instant", "sent")
        if request.param == "statistics of other days":
            cursor.execute("VACUUM ANALYZE")
        cursor.execute(AGED)
        _deliver(cursor, 2, "email", "digest", "queued")
        _deliver(cursor, 0, "telegram", "instant", "queued")
        cursor.execute("SET work_mem = '32MB'; SET random_page_cost = 1.1; SET jit = off")
    yield connection
    connection.close()
    test_server.drop(name)


def _deliver(cursor: Any, event: int, channel: str, kind: str, status: str) -> None:
    at = NOW - timedelta(minutes=event)
    values = {"event": event, "channel": channel, "kind": kind, "status": status, "at": at}
    cursor.execute(DELIVERIES, values)


def most_looked_at(conn: Connection, statement: Any, values: Any, before: Any = None) -> int:
    """How many rows the busiest step of the statement looks at."""
    return max(map(_looked_at, steps_of(conn, statement, values, before)))


def steps_of(
    conn: Connection, statement: Any, values: Any, before: Any = None
) -> list[Mapping[str, Any]]:
    """The steps of the statement's plan, as they ran; nothing that it does stays."""
    with conn.cursor() as cursor:
        cursor.execute("BEGIN")
        try:
            if before is not None:
                cursor.execute(before)
            explained = sql.SQL("EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) ") + statement
            cursor.execute(explained, values)
            ((plans,),) = cursor.fetchall()
        finally:
            cursor.execute("ROLLBACK")
    found = json.loads(plans) if isinstance(plans, str) else plans
    return list(_steps(found[0]["Plan"]))


def _steps(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _steps(inner)


def _looked_at(step: Mapping[str, Any]) -> int:
    removed = sum(amount for name, amount in step.items() if name.startswith("Rows Removed by"))
    return round((step["Actual Rows"] + removed) * step["Actual Loops"])


def test_fan_out_with_a_days_quota_to_count(conn: Connection) -> None:
    event = value(conn, "SELECT id FROM alert_events WHERE event_fingerprint = 'event 1'")
    values = {
        "event_id": event, "after_user_id": 0, "range_size": 50_000, "allowlist": None,
        "channels_off": [], "now": NOW, "day_start": NOW - timedelta(hours=12),
    }  # fmt: skip
    hashed = sql.SQL(fanout.HASH_JOINS)
    assert most_looked_at(conn, fanout.FAN_OUT, values, hashed) < MOST * USERS


def test_digests(conn: Connection) -> None:
    midnight = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
    edges = [midnight - timedelta(days=days) for days in (3, 2, 1, 0, -1)]
    values = {
        "channels": ["email"], "period": "daily", "edges": edges, "current_start": midnight,
        "now": NOW, "after_user_id": 0, "batch_size": 50_000,
    }  # fmt: skip
    steps = steps_of(conn, sql.SQL(digest.BUILD_DIGESTS), values)
    assert max(map(_looked_at, steps)) < MOST * USERS
    read = [each.get("Relation Name") for each in steps if each["Node Type"] == "Seq Scan"]
    assert "user_alert_deliveries" not in read  # which holds the history


@pytest.fixture
def lease(conn: Connection) -> Iterator[tuple[int, list[int]]]:
    """Everything that is due, under one lease of the run ``ours``: its id, and theirs."""
    with conn.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(LEASED)
        ((number, ids),) = cursor.fetchall()
        cursor.execute("COMMIT")
        yield number, ids
        cursor.execute("DELETE FROM alerts_leases; SELECT alerts_queue_rebuild()")


def test_outcomes(conn: Connection, lease: tuple[int, list[int]]) -> None:
    number, ids = lease
    some = len(ids)
    values = {
        "run_id": "ours", "leases": array([number]), "now": NOW, "ids": array(ids),
        "statuses": array(["sent"] * some), "tried": array([1] * some),
        "retries": text_array([None] * some), "codes": array([None] * some),
        "errors": text_array([None] * some), "message_ids": text_array(["id"] * some),
    }  # fmt: skip
    record = leases._RECORDS["deliveries"]
    listed = [values[name] for name in record.parameters]
    with conn.cursor() as cursor:
        cursor.execute(record.prepare)
    assert most_looked_at(conn, record.execute, listed) < FEW * some


def test_rescue(conn: Connection, lease: tuple[int, list[int]]) -> None:
    parts = claims.parts_of(claims.DELIVERIES)
    lost = sql.SQL(leases._LOST).format(in_doubt=sql.SQL(leases._IN_DOUBT).format(**parts), **parts)
    values = {"lease": lease[0], "run_id": "ours", "limit": 10_000}
    assert most_looked_at(conn, lost, values) < FEW * len(lease[1])


def test_list_of_what_is_being_sent(
    conn: Connection, lease: tuple[int, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, Any]] = []
    monkeypatch.setattr(
        deliveries.db, "fetch_all", lambda _, query, values: asked.append((query, values)) or []
    )
    monkeypatch.setattr(deliveries.db, "fetch_one", lambda *_: None)
    deliveries.list_rows(conn, deliveries.DELIVERIES, limit=200, status="sending")
    ((query, values),) = asked
    assert most_looked_at(conn, query, values) < 200 * len(lease[1]) + MOST * USERS


@pytest.mark.parametrize("step", prune._STEPS, ids=lambda step: step["name"])
def test_prune(conn: Connection, step: dict[str, str]) -> None:
    values = {"after_time": NOW - 52 * WEEK, "after_id": 0, "cutoff": NOW - WEEK, "batch": 5_000}
    assert most_looked_at(conn, prune.walk(step), values) < MOST * USERS
