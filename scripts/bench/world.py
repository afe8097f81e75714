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
    (alert_type, scope_region, severity, headline, body, cooldown_key, event_fingerprint)
SELECT 'HIGH_IMPACT_EVENT', 'Europe', 5, 'Benchmark', 'Benchmark', k, k
FROM (SELECT gen_random_uuid()::text AS k) AS keys
RETURNING id
"""
QUEUE = """
INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, created_at)
SELECT id, %s, 'telegram', now() FROM users
"""


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
