"""Fan-out, digests, sending and the cost of health's triggers, compared with bare statements."""

from __future__ import annotations

import psycopg2

from scripts.bench.place import database, seconds
from scripts.bench.world import QUEUE, ROUNDS, Instant, Row, add_event, compared, run_phase, world

BARE_FANOUT = """
INSERT INTO user_alert_deliveries
    (user_id, alert_event_id, channel, delivery_kind, status, sent_at, created_at)
SELECT u.id, %s, c.channel, 'instant', CASE c.channel WHEN 'account' THEN 'sent' ELSE 'queued' END,
    CASE c.channel WHEN 'account' THEN now() END, now()
FROM users AS u, unnest(ARRAY['email', 'telegram', 'account']) AS c (channel)
ON CONFLICT (alert_event_id, user_id, channel, delivery_kind) DO NOTHING
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


DIGEST_QUEUE = """
INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, delivery_kind, created_at)
SELECT u.id, e.id, 'email', 'digest', e.created_at
FROM users AS u, alert_events AS e WHERE e.id = ANY (%s)
"""
BARE_DIGESTS = """
WITH waiting AS MATERIALIZED (
    SELECT id, user_id FROM user_alert_deliveries
    WHERE status = 'queued' AND delivery_kind = 'digest'
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
    """Rows per second for one event to ``2000 x size`` users on three channels."""
    users = max(1, round(2_000 * size))
    rates: dict[str, list[float]] = {"subject": [], "reference": []}
    with database() as url:
        cursor = world(url, users)
        for _ in range(ROUNDS):
            event_id = add_event(cursor)
            took = seconds(lambda event_id=event_id: cursor.execute(BARE_FANOUT, (event_id,)))
            rates["reference"].append(3 * users / took)
            cursor.execute("UPDATE alert_events SET fanout_completed_at = now()")
            add_event(cursor)
            rates["subject"].append(3 * users / seconds(lambda: run_phase(url, "b")))
    return compared("fan-out", 3 * users, rates, "bare insert", "at least 80 % of it", 0.8)


def sending(size: float, batch: int = 1000, record: int = 200) -> Row:
    """Messages per second with an adapter that returns at once, against bare claim and mark."""
    rows = max(1, round((2_000 if record > 1 else 200) * size))
    rates: dict[str, list[float]] = {"subject": [], "reference": []}
    with database() as url:
        cursor = world(url, rows)
        for _ in range(ROUNDS):
            cursor.execute(QUEUE, (add_event(cursor),))
            cursor.execute("ANALYZE user_alert_deliveries")  # autovacuum does on a busy server
            took = seconds(lambda: _bare_sending(cursor, batch if record > 1 else 1))
            rates["reference"].append(rows / took)
            cursor.execute(QUEUE, (add_event(cursor),))
            cursor.execute("ANALYZE user_alert_deliveries")  # autovacuum does on a busy server
            work = {"ALERTS_RECORD_BATCH": str(record)}
            took = seconds(
                lambda work=work: run_phase(url, "c", batch, {"telegram": Instant()}, **work)
            )
            rates["subject"].append(rows / took)
    target = 20_000 if record > 1 else 2_500
    name = f"sending, batch {batch}" if record > 1 else "sending, recorded one by one"
    return compared(name, rows, rates, "bare claim and mark", f"{target:,}/s", None, target)


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
                cursor.execute(f"ALTER TABLE user_alert_deliveries {switches[kind]} TRIGGER USER")
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
                cursor.execute("ANALYZE user_alert_deliveries")
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
