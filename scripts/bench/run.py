"""The benchmarks: each figure beside its reference from the same run.

    .dev/venv/bin/python scripts/bench/run.py [--only NAME,...] [--sizes 1,10,100] [--json FILE]

Prints a Markdown table a benchmark. docs/benchmarks.md says what the rows mean.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import urllib3
from place import ROOT, connect, database, seconds

from alerts.channels.base import Message
from alerts.config import Settings
from alerts.engine import Hooks, RunRequest, run_engine

Row = dict[str, Any]
ROUNDS = 3
TOKEN = "benchmark"  # noqa: S105

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
BARE_FANOUT = """
INSERT INTO user_alert_deliveries
    (user_id, alert_event_id, channel, delivery_kind, status, sent_at, created_at)
SELECT u.id, %s, c.channel, 'instant', CASE c.channel WHEN 'account' THEN 'sent' ELSE 'queued' END,
    CASE c.channel WHEN 'account' THEN now() END, now()
FROM users AS u, unnest(ARRAY['email', 'telegram', 'account']) AS c (channel)
ON CONFLICT (alert_event_id, user_id, channel, delivery_kind) DO NOTHING
"""
QUEUE = """
INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, created_at)
SELECT id, %s, 'telegram', now() FROM users
"""
BARE_CLAIM = """
UPDATE user_alert_deliveries AS d
SET status = 'sending', claimed_by = 'bare', claimed_until = now() + interval '2 minutes'
FROM (
    SELECT id FROM user_alert_deliveries
    WHERE status = 'queued' AND delivery_kind = 'instant' AND channel = 'telegram'
      AND next_retry_at IS NULL
    ORDER BY created_at, id LIMIT %s FOR UPDATE SKIP LOCKED
) AS due
WHERE d.id = due.id RETURNING d.id
"""
BARE_SENT = """
UPDATE user_alert_deliveries
SET status = 'sent', sent_at = now(), attempts = attempts + 1, claimed_by = NULL,
    claimed_until = NULL
WHERE id = ANY (%s)
"""


class Instant:
    """An adapter that returns at once."""

    name = "instant"

    def send(self, message: Message) -> str:
        return message.key

    def close(self) -> None:
        pass


def fanout(size: int) -> Row:
    """Rows a second of one event to ``2000 x size`` users on three channels."""
    users = 2_000 * size
    rates: dict[str, list[float]] = {"subject": [], "reference": []}
    with database() as url:
        cursor = _world(url, users)
        for _ in range(ROUNDS):
            event_id = _event(cursor)
            took = seconds(lambda event_id=event_id: cursor.execute(BARE_FANOUT, (event_id,)))
            rates["reference"].append(3 * users / took)
            cursor.execute("UPDATE alert_events SET fanout_completed_at = now()")
            _event(cursor)
            rates["subject"].append(3 * users / seconds(lambda: _run(url, "b")))
    return _rates("fan-out", 3 * users, rates, "bare insert", "at least 80 % of it", 0.8)


def sending(size: int, batch: int = 1000, record: int = 200) -> Row:
    """Messages a second through an adapter that returns at once, beside bare claim and mark."""
    rows = 2_000 * size if record > 1 else 200 * size
    rates: dict[str, list[float]] = {"subject": [], "reference": []}
    with database() as url:
        cursor = _world(url, rows)
        for _ in range(ROUNDS):
            cursor.execute(QUEUE, (_event(cursor),))
            cursor.execute("ANALYZE user_alert_deliveries")  # autovacuum does on a busy server
            took = seconds(lambda: _bare_sending(cursor, batch if record > 1 else 1))
            rates["reference"].append(rows / took)
            cursor.execute(QUEUE, (_event(cursor),))
            cursor.execute("ANALYZE user_alert_deliveries")  # autovacuum does on a busy server
            work = {"ALERTS_RECORD_BATCH": str(record)}
            took = seconds(lambda work=work: _run(url, "c", batch_size=batch, **work))
            rates["subject"].append(rows / took)
    target = 20_000 if record > 1 else 2_500
    name = f"sending, batch {batch}" if record > 1 else "sending, recorded one by one"
    return _rates(name, rows, rates, "bare claim and mark", f"{target:,}/s", None, target)


def trigger_cost(size: int) -> Row:
    """What the triggers that keep health cost the bare insert and claim and mark."""
    users = 2_000 * size
    rates: dict[str, list[float]] = {"subject": [], "reference": []}
    with database() as url:
        cursor = _world(url, users)
        for number in range(2 * ROUNDS):
            switch = "ENABLE" if number % 2 else "DISABLE"
            cursor.execute(f"ALTER TABLE user_alert_deliveries {switch} TRIGGER USER")
            event_id = _event(cursor)
            took = seconds(lambda event_id=event_id: cursor.execute(BARE_FANOUT, (event_id,)))
            took += seconds(lambda: _bare_sending(cursor, 1000))
            rates["subject" if number % 2 else "reference"].append(3 * users / took)
            cursor.execute("UPDATE user_alert_deliveries SET status = 'sent', sent_at = now()"
                           " WHERE status <> 'sent'")  # fmt: skip
    return _rates("health's triggers", 3 * users, rates, "without", "at least 92 %", 0.92)


def health(size: int) -> Row:
    """Milliseconds of GET /health over HTTP at ``100,000 x size`` deliveries of 30 days."""
    rows = 100_000 * size
    with database() as url:
        cursor = connect(url)
        cursor.execute(USERS, (50_000,))
        _history(cursor, rows)
        times = sorted(_poll(url, "health"))
        grouped = seconds(
            lambda: cursor.execute(
                "SELECT channel, status, count(*) FROM user_alert_deliveries"
                " WHERE created_at > now() - interval '24 hours' GROUP BY 1, 2"
            )
        )
    p95 = times[int(len(times) * 0.95)]
    return {
        "benchmark": "GET /health", "size": rows, "figure": f"p95 {p95:.1f} ms, "
        f"p50 {statistics.median(times):.1f} ms", "reference": f"GROUP BY {grouped * 1e3:.0f} ms",
        "target": "p95 at most 10 ms", "met": p95 <= 10,
    }  # fmt: skip


BENCHMARKS: dict[str, Callable[[int], Row]] = {
    "fanout": fanout,
    "sending": sending,
    "sending200": lambda size: sending(size, batch=200),
    "recording1": lambda size: sending(size, record=1),
    "triggers": trigger_cost,
    "health": health,
}


def _world(url: str, users: int) -> psycopg2.extensions.cursor:
    cursor = connect(url)
    cursor.execute(USERS, (users,))
    cursor.execute(WISHES)
    cursor.execute("VACUUM ANALYZE")
    return cursor


def _event(cursor: psycopg2.extensions.cursor) -> int:
    cursor.execute(EVENT)
    (event_id,) = cursor.fetchone() or (0,)
    return int(event_id)


def _run(url: str, phase: str, batch_size: int | None = None, **environ: str) -> None:
    known = {"DATABASE_URL": url, "ALERTS_MAX_SEND_PER_RUN": "1000000", **environ}
    request = RunRequest(phase=phase, batch_size=batch_size)
    report = run_engine(Settings.from_env(known), request, Hooks(channels={"telegram": Instant()}))
    if report.status != "success":
        sys.exit(f"the run failed: {report.record.error_summary}")


def _bare_sending(cursor: psycopg2.extensions.cursor, batch: int) -> None:
    while True:
        cursor.execute(BARE_CLAIM, (batch,))
        ids = [row[0] for row in cursor.fetchall()]
        if not ids:
            return
        cursor.execute(BARE_SENT, (ids,))


def _history(cursor: psycopg2.extensions.cursor, rows: int) -> None:
    """30 days of runs every ten minutes: most rows share their run's time, as fan-out makes
    them, one in ten has its own."""
    for day in range(30, 0, -1):
        cursor.execute(
            """
            WITH events AS (
                INSERT INTO alert_events (alert_type, severity, headline, body, cooldown_key,
                    event_fingerprint, created_at, fanout_completed_at)
                SELECT 'HIGH_IMPACT_EVENT', 5, 'x', 'x', %(day)s || ':' || n, %(day)s || ':' || n,
                    now() - %(day)s * interval '1 day' + n * interval '10 minutes', now()
                FROM generate_series(0, 143) AS n
                RETURNING id, created_at
            )
            SELECT array_agg(id) FROM events
            """,
            {"day": day},
        )
        (ids,) = cursor.fetchone() or ([],)
        cursor.execute(
            """
            INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, status, attempts,
                failure_code, failed_at, sent_at, created_at)
            SELECT 1 + (m * 7919 + e.id * 13) %% 50000, e.id, (ARRAY['email', 'telegram', 'sms',
                'account'])[1 + m %% 4], s.status, 1 + (m %% 20 = 1)::integer,
                CASE s.status WHEN 'failed' THEN 'network' END,
                CASE s.status WHEN 'failed' THEN t.at END,
                CASE s.status WHEN 'sent' THEN t.at + random() * interval '90 s' END, t.at
            FROM alert_events AS e, generate_series(1, %(each)s) AS m,
                LATERAL (SELECT CASE WHEN m %% 50 = 7 THEN 'failed' ELSE 'sent' END) AS s (status),
                LATERAL (SELECT e.created_at + CASE WHEN m %% 10 = 3
                    THEN random() * interval '10 minutes' ELSE interval '0' END) AS t (at)
            WHERE e.id = ANY (%(ids)s)
            ON CONFLICT DO NOTHING
            """,
            {"each": rows // 30 // 144, "ids": ids},
        )
    cursor.execute(
        """
        INSERT INTO alerts_engine_runs (run_id, triggered_by, phase, started_at, finished_at,
            duration_ms, status)
        SELECT gen_random_uuid()::text, 'github_actions_schedule', 'all', t, t, 0, 'success'
        FROM generate_series(now() - interval '30 days', now(), interval '10 minutes') AS t
        """
    )
    cursor.execute("VACUUM ANALYZE")


def _poll(url: str, path: str, requests: int = 300) -> Iterator[float]:
    """Milliseconds of each request to the app under gunicorn, one after the other."""
    port = 5_790
    server = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "gunicorn.conf.py"),
         "-b", f"127.0.0.1:{port}", "app:create_app()"],
        cwd=ROOT, env={"DATABASE_URL": url, "INTERNAL_RUNNER_TOKEN": TOKEN},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        pool = urllib3.PoolManager(retries=urllib3.Retry(connect=8, backoff_factor=0.2))
        address = f"http://127.0.0.1:{port}/internal/alerts/engine/{path}"
        for number in range(requests + 20):
            started = time.perf_counter()
            answer = pool.request("GET", address, headers={"x-internal-token": TOKEN})
            if answer.status != 200:
                sys.exit(f"GET {path} answered {answer.status}")
            if number >= 20:  # the workers have their connections by then
                yield (time.perf_counter() - started) * 1e3
    finally:
        server.terminate()
        server.wait()


def _rates(
    name: str, rows: int, rates: dict[str, list[float]], reference: str, target: str,
    share: float | None, least: float = 0.0,
) -> Row:  # fmt: skip
    subject, bare = (statistics.median(rates[key]) for key in ("subject", "reference"))
    met = subject / bare >= share if share else subject >= least
    return {
        "benchmark": name, "size": rows, "figure": f"{subject:,.0f}/s",
        "reference": f"{reference} {bare:,.0f}/s ({subject / bare:.0%})", "target": target,
        "met": met,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Benchmarks of the engine and its health.")
    parser.add_argument("--only", default=",".join(BENCHMARKS), help="names, with commas")
    parser.add_argument("--sizes", default="1,10,100", help="factors, with commas")
    parser.add_argument("--json", type=Path, help="write the rows here as well")
    options = parser.parse_args()
    names = options.only.split(",")
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(BENCHMARKS)}")
    print(f"Python {platform.python_version()}, {platform.machine()}\n", flush=True)
    print("| benchmark | rows | figure | reference, same run | target | met |")
    print("| --- | --- | --- | --- | --- | --- |")
    rows = []
    for name in names:
        for size in (int(part) for part in options.sizes.split(",")):
            row = BENCHMARKS[name](size)
            rows.append(row)
            met = "yes" if row["met"] else "no"
            cells = (row["benchmark"], f"{row['size']:,}", row["figure"], row["reference"],
                     row["target"], met)  # fmt: skip
            print(f"| {' | '.join(cells)} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
