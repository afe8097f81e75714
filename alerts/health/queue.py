"""What waits and what is in doubt: the queue as delivery health tells it."""

from __future__ import annotations

from datetime import datetime

from alerts import db

# Since when the oldest due row of each channel waits, on the business clock. Rows never tried
# and rows whose retry is due are two ranges of the queue's index; of the first range the first row
# is the oldest. And how many claims have lapsed, on the wall clock.
OLDEST_DUE = """
SELECT
    c.channel,
    least(
        (
            SELECT q.created_at
            FROM user_alert_deliveries AS q
            WHERE q.status = 'queued' AND q.delivery_kind = 'instant' AND q.channel = c.channel
              AND q.next_retry_at IS NULL AND q.created_at <= %(now)s
            ORDER BY q.created_at
            LIMIT 1
        ),
        (
            SELECT q.next_retry_at
            FROM user_alert_deliveries AS q
            WHERE q.status = 'queued' AND q.delivery_kind = 'instant' AND q.channel = c.channel
              AND q.next_retry_at <= %(now)s AND q.created_at <= %(now)s
            ORDER BY q.next_retry_at
            LIMIT 1
        )
    )::timestamptz AS delivery,
    least(
        (
            SELECT g.window_end
            FROM user_alert_digests AS g
            WHERE g.status = 'queued' AND g.channel = c.channel
              AND g.next_retry_at IS NULL AND g.window_end <= %(now)s
            ORDER BY g.window_end
            LIMIT 1
        ),
        (
            SELECT min(greatest(g.window_end, g.next_retry_at))
            FROM user_alert_digests AS g
            WHERE g.status = 'queued' AND g.channel = c.channel
              AND g.next_retry_at <= %(now)s AND g.window_end <= %(now)s
        )
    )::timestamptz AS digest,
    coalesce(lost.amount, 0) AS lapsed_claims
FROM unnest(%(channels)s::text[]) AS c (channel)
LEFT JOIN (
    SELECT s.channel, count(*) AS amount
    FROM (
        SELECT d.channel
        FROM user_alert_deliveries AS d
        WHERE d.status = 'sending' AND d.delivery_kind IN ('instant', 'digest')
          AND (d.claimed_until < clock_timestamp() OR d.claimed_until IS NULL)
        UNION ALL
        SELECT g.channel
        FROM user_alert_digests AS g
        WHERE g.status = 'sending'
          AND (g.claimed_until < clock_timestamp() OR g.claimed_until IS NULL)
    ) AS s
    GROUP BY s.channel
) AS lost ON lost.channel = c.channel
"""


def read_queue(conn: db.Connection, channels: tuple[str, ...], now: datetime) -> dict[str, db.Row]:
    """By channel: ``delivery`` and ``digest`` (since when the oldest due one waits, or None) and
    ``lapsed_claims``."""
    rows = db.fetch_all(conn, OLDEST_DUE, {"now": now, "channels": list(channels)})
    return {row["channel"]: row for row in rows}
