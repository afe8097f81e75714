"""Phase D: digest deliveries of a closed window become one digest per user and channel."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from alerts import db
from alerts.channels.names import DIGEST_CHANNELS
from alerts.phases.context import Counts, PhaseContext
from alerts.product_days import edges as window_edges

# Deliveries of one statement and transaction.
DELIVERIES_PER_BATCH = 50_000

# How far back the first look goes; what has waited longer is found by a second one.
LOOK_BACK = timedelta(days=3)

# One batch: the unattached deliveries of closed windows, the digest each belongs to, the
# digests, their items and the deliveries' mark. `edges` are where the windows begin; the last two
# are the ends of the current one. What waits for a window before the first is told (`oldest`) and
# not touched.
#
# A digest that is there already takes items only while it stands in the send queue, and is locked
# there until they are in, so that no sender claims it without them. The deliveries of one that
# somebody makes or claims at this very moment stay for the next run.
BUILD_DIGESTS = """
WITH windows AS MATERIALIZED (  -- numbered from 1
    SELECT
        number,
        starts,
        lead(starts) OVER (ORDER BY number) AS ends,
        concat_ws(
            ':', %(period)s, to_char(starts AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
        ) AS label
    FROM unnest(%(edges)s) WITH ORDINALITY AS edge (starts, number)
),
pending AS MATERIALIZED (  -- row by row over the keys, whatever the statistics of the day say
    SELECT
        d.id AS delivery_id,
        d.user_id,
        d.channel,
        e.created_at::timestamptz AS event_at,
        width_bucket(e.created_at::timestamptz, %(edges)s) AS number
    FROM (
        SELECT user_id, delivery_id
        FROM alerts_digest_waiting
        WHERE user_id > %(after_user_id)s
        ORDER BY user_id
        OFFSET 0
    ) AS waiting
    CROSS JOIN LATERAL (
        SELECT id, user_id, channel, alert_event_id, status, delivery_kind
        FROM user_alert_deliveries
        WHERE id = waiting.delivery_id
        OFFSET 0
    ) AS d
    JOIN alert_events AS e ON e.id = d.alert_event_id
    WHERE d.status = 'queued'
      AND d.delivery_kind = 'digest'
      AND d.channel = ANY (%(channels)s)
      AND e.created_at < %(current_start)s
    ORDER BY waiting.user_id
    LIMIT %(batch_size)s
),
own AS (
    SELECT p.*, concat_ws(':', p.user_id, p.channel, w.label) AS own_key
    FROM pending AS p
    JOIN windows AS w ON w.number = p.number
),
of_own_window AS MATERIALIZED (
    SELECT g.id, g.digest_key
    FROM user_alert_digests AS g
    WHERE g.digest_key = ANY (ARRAY(SELECT DISTINCT own_key FROM own))
),
standing AS MATERIALIZED (
    SELECT q.id
    FROM of_own_window AS g
    JOIN alerts_send_queue AS q ON q.source = 'digests' AND q.id = g.id
    FOR UPDATE OF q
),
routed AS (  -- to their own window's digest, or if that has left the queue, to the current one
    SELECT
        o.delivery_id,
        o.user_id,
        o.channel,
        CASE
            WHEN g.id IS NULL OR s.id IS NOT NULL THEN o.number ELSE cardinality(%(edges)s) - 1
        END AS number
    FROM own AS o
    LEFT JOIN of_own_window AS g ON g.digest_key = o.own_key
    LEFT JOIN standing AS s ON s.id = g.id
),
keyed AS (
    SELECT
        r.*,
        w.starts,
        w.ends,
        concat_ws(':', r.user_id, r.channel, w.label) AS digest_key
    FROM routed AS r
    JOIN windows AS w ON w.number = r.number
),
of_window AS MATERIALIZED (
    SELECT g.id, g.digest_key
    FROM user_alert_digests AS g
    WHERE g.digest_key = ANY (ARRAY(SELECT DISTINCT digest_key FROM keyed))
      AND g.status = 'queued'
),
there AS MATERIALIZED (
    SELECT g.id, g.digest_key
    FROM of_window AS g
    JOIN alerts_send_queue AS q ON q.source = 'digests' AND q.id = g.id
    FOR UPDATE OF q
),
made AS (
    INSERT INTO user_alert_digests (
        user_id, channel, period, window_start, window_end, digest_key, created_at
    )
    SELECT DISTINCT user_id, channel, %(period)s, starts, ends, digest_key, %(now)s::timestamptz
    FROM keyed
    ON CONFLICT (digest_key) DO NOTHING
    RETURNING id, digest_key
),
digests AS (
    SELECT id, digest_key FROM there UNION ALL SELECT id, digest_key FROM made
),
items AS (
    INSERT INTO user_alert_digest_items (digest_id, delivery_id, created_at)
    SELECT g.id, k.delivery_id, %(now)s
    FROM keyed AS k
    JOIN digests AS g ON g.digest_key = k.digest_key
    ON CONFLICT (delivery_id) DO NOTHING
    RETURNING delivery_id
),
batched AS (
    UPDATE user_alert_deliveries AS d
    SET status = 'skipped', failure_code = 'batched_into_digest', next_retry_at = NULL
    FROM items
    WHERE d.id = items.delivery_id AND d.status = 'queued'
    RETURNING d.id
)
SELECT
    (SELECT count(*) FROM pending) AS found,
    (SELECT max(user_id) FROM pending) AS last_user_id,
    (SELECT min(event_at) FROM pending) AS oldest,
    (
        SELECT array_agg(DISTINCT k.starts)
        FROM keyed AS k JOIN items AS i ON i.delivery_id = k.delivery_id
    ) AS windows,
    (SELECT count(*) FROM made) AS digests_created,
    (SELECT count(*) FROM items) AS digest_items_attached,
    (SELECT count(*) FROM batched) AS deliveries_marked_batched
"""


def run(context: PhaseContext) -> Counts:
    """Build every closed window that still has unattached deliveries."""
    now = context.clock.now()
    period, zone = context.settings.digest_period, context.settings.timezone
    tally: Counter[str] = Counter()
    windows: set[object] = set()
    edges = window_edges(period, now - LOOK_BACK, now, zone)
    after_user_id = 0
    stopped = None
    while (stopped := context.stop.reason()) is None:
        context.ensure_lock()
        row = db.fetch_all(
            context.conn,
            BUILD_DIGESTS,
            {
                "channels": list(DIGEST_CHANNELS),
                "period": period,
                "edges": edges,
                "current_start": edges[-2],
                "now": now,
                "after_user_id": after_user_id,
                "batch_size": DELIVERIES_PER_BATCH,
            },
        )[0]
        windows.update(row.pop("windows") or ())
        found, last_user_id, oldest = (row.pop(n) for n in ("found", "last_user_id", "oldest"))
        tally.update(row)
        if oldest is not None and oldest < edges[0]:
            edges = window_edges(period, oldest, now, zone)  # and the same batch once more
        elif found < DELIVERIES_PER_BATCH:
            break
        else:
            # The limit may have cut the last user's deliveries, so he is looked at again, unless
            # nothing of the batch could be attached.
            after_user_id = last_user_id - 1 if row["digest_items_attached"] else last_user_id
    counts: Counts = {
        "windows_built": len(windows),
        "digests_created": tally["digests_created"],
        "digest_items_attached": tally["digest_items_attached"],
        "deliveries_marked_batched": tally["deliveries_marked_batched"],
    }
    if stopped:
        counts["stopped_early"] = stopped
    return counts
