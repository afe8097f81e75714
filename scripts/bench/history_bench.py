"""The engine's phases on top of 30 days of history with a full queue, beside the same on a database
without either."""

from __future__ import annotations

import psycopg2

from scripts.bench.place import connect, database, seconds
from scripts.bench.web_bench import history
from scripts.bench.world import (
    ROUNDS,
    USERS,
    WISHES,
    Instant,
    Row,
    add_event,
    backlog,
    compared,
    run_phase,
)

Cursor = psycopg2.extensions.cursor
PHASES = ("fan-out", "sending", "digests")

# What waits already is not due, so that both databases have the same work.
NOT_DUE = """
UPDATE alerts_send_queue SET due_at = now() + interval '1 day';
DELETE FROM alerts_leases
"""
DIGEST_DELIVERIES = """
INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, delivery_kind, created_at)
SELECT u.id, %(event)s, 'email', 'digest', now() - interval '2 days'
FROM users AS u
"""
OF_BEFORE = """
UPDATE alert_events SET created_at = now() - interval '2 days', fanout_completed_at = now()
WHERE id = %(event)s
"""


def phases(size: float) -> list[Row]:
    """Rows a second of phases B, C and D for one event to 50,000 users on three channels, on top of
    ``100,000 x size`` deliveries of which one in 26 waits, beside the same without history."""
    rows = max(1, round(100_000 * size))
    users = max(100, round(min(1.0, size) * 50_000))
    rates: dict[str, dict[str, list[float]]] = {
        name: {"subject": [], "reference": []} for name in PHASES
    }
    with database() as empty, database() as grown:
        places = {"reference": (empty, connect(empty)), "subject": (grown, connect(grown))}
        for kind, (_, cursor) in places.items():
            cursor.execute(USERS, (users,))
            if kind == "subject":  # the quota of today is no history: both find none
                history(cursor, rows, users, until=2)
                backlog(cursor, rows // 26, days=2)
                cursor.execute(NOT_DUE)
            cursor.execute(WISHES)
            cursor.execute("VACUUM ANALYZE")
        for number in range(ROUNDS if size >= 1 else 1):
            for kind in sorted(places, reverse=number % 2 == 0):
                for name, rate in _round(*places[kind], users).items():
                    rates[name][kind].append(rate)
    return [
        compared(f"{name} in a history", rows, rates[name], "without one", "at least 80 % of it",
                 0.8)
        for name in PHASES
    ]  # fmt: skip


def _round(url: str, cursor: Cursor, users: int) -> dict[str, float]:
    """One event: rows a second of its fan-out, of sending what is instant, and of digests."""
    cursor.execute("UPDATE alert_events SET fanout_completed_at = now()")
    add_event(cursor)
    cursor.execute("CHECKPOINT")
    rates = {"fan-out": 3 * users / seconds(lambda: run_phase(url, "b"))}
    cursor.execute("ANALYZE alerts_send_queue")
    cursor.execute(
        "SELECT count(*) FROM alerts_send_queue WHERE source = 'deliveries' AND due_at <= now()"
    )
    (due,) = cursor.fetchone() or (0,)
    channels = {"email": Instant(), "telegram": Instant()}
    rates["sending"] = due / seconds(lambda: run_phase(url, "c", 1_000, channels))
    event = {"event": add_event(cursor)}
    cursor.execute(OF_BEFORE, event)
    cursor.execute(DIGEST_DELIVERIES, event)
    rates["digests"] = users / seconds(lambda: run_phase(url, "d"))
    return rates
