"""Shared by the benchmarks: users, an event, an engine run, a row of the table."""

from __future__ import annotations

import statistics
import sys
from typing import Any

import psycopg2

from alerts.channels.base import Channel, Message
from alerts.engine import Hooks, RunRequest, run_engine
from alerts.settings.config import Settings
from scripts.bench.place import connect

Row = dict[str, Any]
ROUNDS = 3

USERS = """
INSERT INTO users (email, email_verified, telegram_chat_id)
SELECT 'user' || n || '@example.com', TRUE, n::text FROM generate_series(1, %s) AS n
"""
WISHES = """
INSERT INTO user_plans (user_id, plan) SELECT id, 'trader' FROM users;
INSERT INTO user_alert_prefs (user_id, region) SELECT id, 'Europe' FROM users
"""
EVENT = """
INSERT INTO alert_events
    (alert_type, scope_region, severity, headline, body, cooldown_key, event_fingerprint, risk_at)
SELECT 'HIGH_IMPACT_EVENT', 'Europe', 5, 'Benchmark', 'Benchmark', k, k, now()
FROM (SELECT gen_random_uuid()::text AS k) AS keys
RETURNING id
"""
QUEUE = """
INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, risk_at, created_at)
SELECT id, %s, 'telegram', now(), now() FROM users
"""


# What a reading may have to find its way around, of the last day: rows that wait (a tenth of them
# for another try, some for a channel that nobody sends), digests that are open, and leases that
# have lapsed.
BACKLOG = """
INSERT INTO alert_events
    (alert_type, severity, headline, body, cooldown_key, event_fingerprint, fanout_completed_at)
SELECT 'HIGH_IMPACT_EVENT', 5, 'x', 'x', k, k, now()
FROM (SELECT 'backlog:' || n AS k FROM generate_series(1, %(events)s) AS n) AS keys;
INSERT INTO user_alert_deliveries
    (user_id, alert_event_id, channel, delivery_kind, attempts, next_retry_at, failure_code,
    created_at)
SELECT u.id, e.id, (ARRAY['email', 'telegram', 'sms'])[1 + u.id %% 3],
    CASE WHEN u.id %% 7 = 0 THEN 'digest' ELSE 'instant' END, (u.id %% 10 = 0)::integer,
    CASE WHEN u.id %% 10 = 0 THEN now() + (u.id %% 100 - 50) * interval '1 minute' END,
    CASE WHEN u.id %% 10 = 0 THEN 'network' END,
    now() - %(days)s * interval '1 day' - u.id %% 1200 * interval '1 second'
FROM users AS u, alert_events AS e WHERE e.event_fingerprint LIKE 'backlog:%%';
INSERT INTO user_alert_digests
    (user_id, channel, period, window_start, window_end, digest_key, created_at)
SELECT id, 'email', 'daily', now() - interval '1 day', now() - id %% 60 * interval '1 minute',
    'backlog:' || id, now()
FROM users WHERE id %% 5 = 0;
WITH taken AS (
    DELETE FROM alerts_send_queue
    WHERE id IN (SELECT id FROM alerts_send_queue WHERE source = 'deliveries' LIMIT 400)
      AND source = 'deliveries'
    RETURNING id
)
INSERT INTO alerts_leases (run_id, source, until, ids)
SELECT 'lost', 'deliveries', now() - interval '1 minute', array_agg(id)
FROM (SELECT id, row_number() OVER () / 200 AS part FROM taken) AS t GROUP BY part
"""
LARGE_TABLES = (
    "user_alert_deliveries", "user_alert_digests", "alerts_send_queue", "alerts_engine_runs",
)  # fmt: skip


class Instant:
    """An adapter that returns at once."""

    name = "instant"

    def send(self, message: Message) -> str:
        return message.key

    def close(self) -> None:
        pass


def world(url: str, users: int) -> psycopg2.extensions.cursor:
    """A cursor on a database with this many users who want alerts on all their channels."""
    cursor = connect(url)
    cursor.execute(USERS, (users,))
    cursor.execute(WISHES)
    cursor.execute("VACUUM ANALYZE")
    return cursor


def backlog(cursor: psycopg2.extensions.cursor, rows: int, days: int = 0) -> None:
    """About so many rows that wait since so many days, for the users that there are, and what goes
    with them."""
    cursor.execute("SELECT count(*) FROM users")
    (users,) = cursor.fetchone() or (1,)
    cursor.execute(BACKLOG, {"events": max(1, rows // users), "days": days})


def rows_scanned(cursor: psycopg2.extensions.cursor) -> int:
    """How many rows of the large tables have been read from end to end, by sessions that have
    ended: what must not grow with a reading."""
    cursor.execute(
        "SELECT sum(seq_tup_read)::bigint FROM pg_stat_user_tables WHERE relname = ANY (%s)",
        (list(LARGE_TABLES),),
    )
    (rows,) = cursor.fetchone() or (0,)
    return int(rows)


def add_event(cursor: psycopg2.extensions.cursor) -> int:
    """Insert an event for every user and return its id."""
    cursor.execute(EVENT)
    (event_id,) = cursor.fetchone() or (0,)
    return int(event_id)


def run_phase(
    url: str,
    phase: str,
    batch_size: int | None = None,
    channels: dict[str, Channel] | None = None,
    **environ: str,
) -> None:
    """Run the engine, which must succeed; phase C sends through ``channels`` or as configured."""
    known = {"DATABASE_URL": url, "ALERTS_MAX_SEND_PER_RUN": "1000000", **environ}
    request = RunRequest(phase=phase, batch_size=batch_size)
    report = run_engine(Settings.from_env(known), request, Hooks(channels=channels))
    if report.record.status != "success":
        sys.exit(f"the run failed: {report.record.error_summary}")


def compared(
    name: str, rows: int, rates: dict[str, list[float]], reference: str, target: str,
    share: float | None, least: float = 0.0,
) -> Row:  # fmt: skip
    """A row with two rates per second; the target is a share of the reference, or a rate."""
    subject, bare = (statistics.median(rates[key]) for key in ("subject", "reference"))
    met = subject / bare >= share if share else subject >= least
    return {
        "benchmark": name, "size": rows, "value": subject, "reference_value": bare,
        "figure": f"{subject:,.0f}/s",
        "reference": f"{reference} {bare:,.0f}/s ({subject / bare:.0%})", "target": target,
        "met": met,
    }  # fmt: skip
