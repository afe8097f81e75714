"""What waits, what runs hold, and what is in doubt: the queue as delivery health tells it."""

from __future__ import annotations

# The rows that leases hold and that are still to be sent; whether the lease has lapsed, on the
# wall clock.
HELD = """
held AS MATERIALIZED (
    SELECT
        'deliveries' AS source, d.created_at::timestamptz AS created_at, d.channel,
        d.delivery_kind AS kind, d.failure_code, d.attempts, l.until < clock_timestamp() AS lapsed
    FROM alerts_leased AS l
    JOIN user_alert_deliveries AS d ON d.id = l.id
    WHERE l.source = 'deliveries' AND d.status = 'queued'
    UNION ALL
    SELECT
        'digests', g.created_at::timestamptz, g.channel, 'digest', g.failure_code, g.attempts,
        l.until < clock_timestamp()
    FROM alerts_leased AS l
    JOIN user_alert_digests AS g ON g.id = l.id
    WHERE l.source = 'digests' AND g.status = 'queued'
)
"""

# Since when the oldest due row of each channel waits, on the business clock: the first one that a
# claim would take. And how many rows are held by leases that have lapsed.
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
    (SELECT count(*) FROM held AS h WHERE h.lapsed AND h.channel = c.channel) AS lapsed_claims
FROM unnest(%(channels)s::text[]) AS c (channel)
"""

# How many messages of each source and channel are due, counted up to this limit; beyond it the
# kept counts say how many wait. In index order, or the planner may read the whole queue.
DUE_COUNTED = 500
DUE = """
SELECT s.source, c.channel, due.amount
FROM (VALUES ('deliveries'), ('digests')) AS s (source)
CROSS JOIN unnest(%(channels)s::text[]) AS c (channel)
CROSS JOIN LATERAL (
    SELECT count(*) AS amount
    FROM (
        SELECT FROM alerts_send_queue AS q
        WHERE q.source = s.source AND q.channel = c.channel AND q.due_at <= %(now)s
        ORDER BY q.due_at, q.id
        LIMIT %(due_counted)s
    ) AS q
) AS due
"""

# How many rows are to be sent by the counts, and how many of them the queue and the leases have.
# The queue is read no further than this: a difference that is lasting is seen once it is shorter.
QUEUE_READ = 1_000
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
        SELECT count(*) FROM (SELECT FROM alerts_send_queue LIMIT %(queue_read)s) AS q
    ) AS queued,
    (SELECT count(*) FROM held WHERE source = 'digests' OR kind = 'instant') AS held
"""


def queue_differs(counted: int, queued: int, held: int) -> bool:
    """Whether the queue and the leases hold more or fewer rows than are to be sent, as far as the
    queue is read: of a longer one only a surplus is seen."""
    return counted < queued + held or (queued < QUEUE_READ and counted > queued + held)
