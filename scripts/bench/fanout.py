"""Fan-out of one event to many users, beside the bare insert of the same rows.

    .dev/venv/bin/python scripts/bench/fanout.py [USERS]

Uses the database server that DATABASE_URL names, or the embedded development one, and a database
of its own that it drops. Both figures come from the same run: quote their ratio.
"""

from __future__ import annotations

import os
import secrets
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import psycopg2  # noqa: E402

from alerts import migrations  # noqa: E402
from alerts.config import Settings  # noqa: E402
from alerts.engine import Hooks, RunRequest, run_engine  # noqa: E402

# Every user takes the event on three channels: email and telegram within the plan, the inbox.
USERS = """
INSERT INTO users (email, email_verified, telegram_chat_id)
SELECT 'user' || n || '@example.com', TRUE, n::text FROM generate_series(1, %s) AS n
"""
PLANS = "INSERT INTO user_plans (user_id, plan) SELECT id, 'trader' FROM users"
PREFS = "INSERT INTO user_alert_prefs (user_id, region) SELECT id, 'Europe' FROM users"
EVENT = """
INSERT INTO alert_events
    (alert_type, scope_region, severity, headline, body, cooldown_key, event_fingerprint)
VALUES ('HIGH_IMPACT_EVENT', 'Europe', 5, 'Benchmark', 'Benchmark', %s, %s)
RETURNING id
"""
BARE = """
INSERT INTO user_alert_deliveries
    (user_id, alert_event_id, channel, delivery_kind, status, sent_at, created_at)
SELECT u.id, %s, c.channel, 'instant', CASE c.channel WHEN 'account' THEN 'sent' ELSE 'queued' END,
    CASE c.channel WHEN 'account' THEN now() END, now()
FROM users AS u, unnest(ARRAY['email', 'telegram', 'account']) AS c (channel)
ON CONFLICT (alert_event_id, user_id, channel, delivery_kind) DO NOTHING
"""


def main(users: int) -> None:
    server = os.environ.get("DATABASE_URL") or _embedded_server()
    name = f"alerts_bench_{secrets.token_hex(4)}"
    admin = psycopg2.connect(server)
    admin.autocommit = True
    admin.cursor().execute(f"CREATE DATABASE {name}")
    try:
        _measure(urlunsplit(urlsplit(server)._replace(path=f"/{name}")), users)
    finally:
        admin.cursor().execute(f"DROP DATABASE {name} WITH (FORCE)")


def _embedded_server() -> str:
    from devdb import ensure_server

    return ensure_server("dev").url()


def _measure(url: str, users: int) -> None:
    migrations.migrate(url)
    conn = psycopg2.connect(url)
    conn.autocommit = True
    cursor = conn.cursor()
    cursor.execute(USERS, (users,))
    cursor.execute(PLANS)
    cursor.execute(PREFS)
    cursor.execute("VACUUM ANALYZE")
    settings = Settings.from_env({"DATABASE_URL": url})
    print("| what | rows | seconds | rows/s |\n| --- | --- | --- | --- |")
    rates = {"bare insert": 0.0, "fan-out": 0.0}
    for number in range(2):  # twice, alternating: the second pair runs beside the first's rows
        event_id = _add_event(cursor, f"bare{number}")
        started = time.perf_counter()
        cursor.execute(BARE, (event_id,))
        rates["bare insert"] = _print("bare insert", cursor.rowcount, started)
        cursor.execute("UPDATE alert_events SET fanout_completed_at = now()")
        _add_event(cursor, f"fanout{number}")
        started = time.perf_counter()
        report = run_engine(settings, RunRequest(phase="b"), Hooks(channels={}))
        assert report.status == "success", report.record.error_summary  # noqa: S101
        created = report.record.counts["b"]["deliveries_created"]
        rates["fan-out"] = _print("fan-out", created, started)
        print(f"fan-out runs at {rates['fan-out'] / rates['bare insert']:.0%} of the bare insert")


def _add_event(cursor: psycopg2.extensions.cursor, key: str) -> int:
    cursor.execute(EVENT, (key, key))
    (event_id,) = cursor.fetchone() or (0,)
    return int(event_id)


def _print(what: str, rows: int, started: float) -> float:
    seconds = time.perf_counter() - started
    print(f"| {what} | {rows:,} | {seconds:.2f} | {rows / seconds:,.0f} |", flush=True)
    return rows / seconds


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000)
