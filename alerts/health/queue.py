"""What waits and what is in doubt: the queue as delivery health tells it."""

from __future__ import annotations

from datetime import datetime

from alerts import db

# Since when the oldest due row of each channel waits, on the business clock: the first one that a
# claim would take. And how many rows are held by leases that have lapsed, on the wall clock.
OLDEST_DUE = """
SELECT
    c.channel,
    (
        SELECT q.due_at
        FROM alerts_send_queue AS q
        WHERE q.source = 'deliveries' AND q.channel = c.channel AND q.due_at <= %(now)s
        ORDER BY q.due_at, q.id
        LIMIT 1
    ) AS delivery,
    (
        SELECT q.due_at
        FROM alerts_send_queue AS q
        WHERE q.source = 'digests' AND q.channel = c.channel AND q.due_at <= %(now)s
        ORDER BY q.due_at, q.id
        LIMIT 1
    ) AS digest,
    coalesce(lost.amount, 0) AS lapsed_claims
FROM unnest(%(channels)s::text[]) AS c (channel)
LEFT JOIN (
    SELECT held.channel, count(*) AS amount
    FROM (
        SELECT d.channel
        FROM alerts_leased AS l
        JOIN user_alert_deliveries AS d ON d.id = l.id
        WHERE l.source = 'deliveries' AND l.until < clock_timestamp() AND d.status = 'queued'
        UNION ALL
        SELECT g.channel
        FROM alerts_leased AS l
        JOIN user_alert_digests AS g ON g.id = l.id
        WHERE l.source = 'digests' AND l.until < clock_timestamp() AND g.status = 'queued'
    ) AS held
    GROUP BY held.channel
) AS lost ON lost.channel = c.channel
"""

# How many rows are to be sent by the counts, and how many of them the queue and the leases have.
# The queue is read no further than this: a difference that is lasting is seen once it is shorter.
QUEUE_READ = 5_000
MEMBERS = """
SELECT
    (
        SELECT coalesce(sum(c.amount), 0)::bigint
        FROM (
            SELECT amount, source, kind FROM alerts_health_counts
            WHERE level = 'six_hours' AND status = 'queued' AND amount <> 0
            UNION ALL
            SELECT amount, source, kind FROM alerts_health_changes WHERE status = 'queued'
        ) AS c
        WHERE c.source = 'digests' OR (c.source = 'deliveries' AND c.kind = 'instant')
    ) AS counted,
    (
        SELECT count(*) FROM (SELECT FROM alerts_send_queue LIMIT %(read)s) AS q
    ) AS queued,
    (
        SELECT count(*)
        FROM alerts_leased AS l
        LEFT JOIN user_alert_deliveries AS d ON l.source = 'deliveries' AND d.id = l.id
        LEFT JOIN user_alert_digests AS g ON l.source = 'digests' AND g.id = l.id
        WHERE (d.status = 'queued' AND d.delivery_kind = 'instant') OR g.status = 'queued'
    ) AS leased
"""


def read_queue(conn: db.Connection, channels: tuple[str, ...], now: datetime) -> dict[str, db.Row]:
    """By channel: ``delivery`` and ``digest`` (since when the oldest due one waits, or None) and
    ``lapsed_claims``."""
    rows = db.fetch_all(conn, OLDEST_DUE, {"now": now, "channels": list(channels)})
    return {row["channel"]: row for row in rows}


def queue_differs(conn: db.Connection) -> bool:
    """Whether the queue and the leases hold more or fewer rows than are to be sent, as far as the
    queue is read: of a longer one only a surplus is seen."""
    row = db.fetch_all(conn, MEMBERS, {"read": QUEUE_READ})[0]
    held = row["queued"] + row["leased"]
    differs: bool = row["counted"] < held or (row["queued"] < QUEUE_READ and row["counted"] > held)
    return differs


# How many messages of each source and channel are due. Counted no further than this: of a longer
# queue, the counts know how many wait.
DUE_COUNTED = 1_000
DUE = """
SELECT s.source, c.channel, due.amount
FROM unnest(%(sources)s::text[]) AS s (source)
CROSS JOIN unnest(%(channels)s::text[]) AS c (channel)
CROSS JOIN LATERAL (
    SELECT count(*) AS amount
    FROM (
        SELECT FROM alerts_send_queue AS q
        WHERE q.source = s.source AND q.channel = c.channel AND q.due_at <= %(now)s
        LIMIT %(most)s
    ) AS q
) AS due
"""


def read_due(
    conn: db.Connection, channels: tuple[str, ...], now: datetime
) -> dict[tuple[str, str], int]:
    """By source and channel how many messages are due, at most :data:`DUE_COUNTED`."""
    parameters = {
        "sources": ["deliveries", "digests"],
        "channels": list(channels),
        "now": now,
        "most": DUE_COUNTED,
    }
    return {
        (row["source"], row["channel"]): row["amount"]
        for row in db.fetch_all(conn, DUE, parameters)
    }
