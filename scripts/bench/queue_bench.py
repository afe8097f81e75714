"""Fan-out, digests, sending and the cost of health's triggers, compared with bare statements."""

from __future__ import annotations

import psycopg2

from scripts.bench.place import database, seconds
from scripts.bench.world import QUEUE, ROUNDS, Instant, Row, add_event, compared, run_phase, world

BARE_FANOUT = """
INSERT INTO user_alert_deliveries
    (user_id, alert_event_id, channel, delivery_kind, status, sent_at, risk_at, created_at)
SELECT u.id, %s, c.channel, 'instant', CASE c.channel WHEN 'account' THEN 'sent' ELSE 'queued' END,
    CASE c.channel WHEN 'account' THEN now() END, now(), now()
FROM users AS u, unnest(ARRAY['email', 'telegram', 'account']) AS c (channel)
ON CONFLICT (alert_event_id, user_id, channel, delivery_kind) DO NOTHING
"""
BARE_CLAIM = """
DELETE FROM alerts_send_queue AS q
USING (
    SELECT id FROM alerts_send_queue
    WHERE source = 'deliveries' AND channel = 'telegram'
    ORDER BY due_at, id LIMIT %s FOR UPDATE SKIP LOCKED
) AS due
WHERE q.source = 'deliveries' AND q.id = due.id RETURNING q.id
"""
BARE_SENT = """
UPDATE user_alert_deliveries
SET status = 'sent', sent_at = now(), attempts = attempts + 1
WHERE id = ANY (%s)
"""


DIGEST_QUEUE = """
INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, delivery_kind, created_at)
SELECT u.id, e.id, 'email', 'digest', e.created_at
FROM users AS u, alert_events AS e WHERE e.id = ANY (%s)
"""
BARE_DIGESTS = """
WITH waiting AS MATERIALIZED (
    SELECT delivery_id AS id, user_id FROM alerts_digest_waiting
),
made AS (
    INSERT INTO user_alert_digests
        (user_id, channel, period, window_start, window_end, digest_key)
    SELECT DISTINCT user_id, 'email', 'daily', now() - interval '1 day', now(),
        'bare:' || user_id || ':' || now()
    FROM waiting
    RETURNING id, user_id
),
items AS (
    INSERT INTO user_alert_digest_items (digest_id, delivery_id)
    SELECT made.id, waiting.id FROM made JOIN waiting USING (user_id)
)
UPDATE user_alert_deliveries AS d
SET status = 'skipped', failure_code = 'batched_into_digest'
FROM waiting WHERE d.id = waiting.id
"""


def fanout(size: float) -> Row:
    """Rows per second for one event to ``2000 x size`` users on three channels.

    Every round begins with an empty table: what users got earlier that day is counted against
    their quotas, which the bare insert does not do.
    """
    users = max(1, round(2_000 * size))
    rates: dict[str, list[float]] = {"subject": [], "reference": []}
    with database() as url:
        cursor = world(url, users)
        for _ in range(ROUNDS):
            cursor.execute("TRUNCATE user_alert_deliveries CASCADE")
            event_id = add_event(cursor)
            took = seconds(lambda event_id=event_id: cursor.execute(BARE_FANOUT, (event_id,)))
            rates["reference"].append(3 * users / took)
            cursor.execute("TRUNCATE user_alert_deliveries CASCADE")
            cursor.execute("UPDATE alert_events SET fanout_completed_at = now()")
            add_event(cursor)
            rates["subject"].append(3 * users / seconds(lambda: run_phase(url, "b")))
    return compared("fan-out", 3 * users, rates, "bare insert", "at least 80 % of it", 0.8)


def sending(size: float, record: int = 200) -> Row:
    """Messages a second through an adapter that returns at once, claimed by 1,000 and recorded by
    at most ``record``, beside bare claim and mark."""
    rows = max(1, round((2_000 if record > 1 else 200) * size))
    rates: dict[str, list[float]] = {"subject": [], "reference": []}
    with database() as url:
        cursor = world(url, rows)
        for _ in range(ROUNDS):
            _queue(cursor)
            took = seconds(lambda: _bare_sending(cursor, 1_000 if record > 1 else 1))
            rates["reference"].append(rows / took)
            rates["subject"].append(_rate(cursor, url, rows, record))
    target = {1: 2_500, 200: 25_000, 1_000: 37_000}[record]
    name = f"sending, recorded by {record:,}" if record > 1 else "sending, recorded one by one"
    return compared(name, rows, rates, "bare claim and mark", f"{target:,}/s", None, target)


def sending_growth(size: float) -> Row:
    """Messages a second with five times as many due, between two rounds with ``2000 x size``."""
    rows = max(1, round(2_000 * size))
    rates: dict[str, list[float]] = {"subject": [], "reference": []}
    with database() as few, database() as many:
        places = {"reference": (world(few, rows), few, rows)}
        places["subject"] = (world(many, 5 * rows), many, 5 * rows)
        for kind in ("reference", "subject", "reference"):
            rates[kind].append(_rate(*places[kind], record=200))
    name = "sending, five times as many due"
    return compared(name, 5 * rows, rates, f"{rows:,} due", "at least 90 % of it", 0.9)


def _queue(cursor: psycopg2.extensions.cursor) -> None:
    cursor.execute(QUEUE, (add_event(cursor),))
    cursor.execute("ANALYZE user_alert_deliveries, alerts_send_queue")  # autovacuum does as well


def _rate(cursor: psycopg2.extensions.cursor, url: str, rows: int, record: int) -> float:
    """Messages a second of a phase C that finds so many rows due."""
    _queue(cursor)
    work = {"ALERTS_RECORD_BATCH": str(record)}
    return rows / seconds(lambda: run_phase(url, "c", 1_000, {"telegram": Instant()}, **work))


def trigger_cost(size: float) -> Row:
    """What the triggers that maintain health's counts add to a bare insert, claim and mark.

    Both variants take turns at going first and start with an empty table: a table grown by earlier
    work costs more than the triggers do.
    """
    users = max(1, round(2_000 * size))
    rates: dict[str, list[float]] = {"subject": [], "reference": []}
    switches = {"subject": "ENABLE", "reference": "DISABLE"}
    with database() as url:
        cursor = world(url, users)
        for number in range(2 * ROUNDS):
            for kind in sorted(switches, reverse=number % 2 == 0):
                cursor.execute("TRUNCATE user_alert_deliveries CASCADE")
                for name in ("insert", "update"):
                    cursor.execute(
                        f"ALTER TABLE user_alert_deliveries {switches[kind]} TRIGGER"
                        f" alerts_health_{name}"
                    )
                event_id = add_event(cursor)
                took = seconds(lambda event_id=event_id: cursor.execute(BARE_FANOUT, (event_id,)))
                cursor.execute("ANALYZE user_alert_deliveries")
                took += seconds(lambda: _bare_sending(cursor, 1000))
                rates[kind].append(3 * users / took)
    return compared("health's triggers", 3 * users, rates, "without", "at least 92 %", 0.92)


def digests(size: float) -> Row:
    """Digest deliveries per second collected into daily digests: ``2000 x size`` deliveries of a
    quarter as many users."""
    users = max(1, round(500 * size))
    rates: dict[str, list[float]] = {"subject": [], "reference": []}
    with database() as url:
        cursor = world(url, users)
        cursor.execute("UPDATE user_alert_prefs SET enabled = TRUE")
        for _ in range(ROUNDS):
            for kind in ("reference", "subject"):
                ids = [add_event(cursor) for _ in range(4)]
                cursor.execute(
                    "UPDATE alert_events SET created_at = now() - interval '2 days',"
                    " fanout_completed_at = now() WHERE id = ANY (%s)",
                    (ids,),
                )
                cursor.execute(DIGEST_QUEUE, (ids,))
                cursor.execute("ANALYZE user_alert_deliveries, alerts_digest_waiting")
                took = seconds(
                    (lambda: cursor.execute(BARE_DIGESTS))
                    if kind == "reference"
                    else (lambda: run_phase(url, "d"))
                )
                rates[kind].append(4 * users / took)
    return compared("digests", 4 * users, rates, "bare statements", "at least 50 % of them", 0.5)


def _bare_sending(cursor: psycopg2.extensions.cursor, batch: int) -> None:
    while True:
        cursor.execute(BARE_CLAIM, (batch,))
        ids = [row[0] for row in cursor.fetchall()]
        if not ids:
            return
        cursor.execute(BARE_SENT, (ids,))
