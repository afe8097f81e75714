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
#
# What one step has found has no statistics, so the planner guesses how much it is, and a nested
# loop over two such results takes minutes. Tables are therefore looked up by key, row by row
# (LATERAL), and results are joined by FULL JOIN, which can only be hashed or merged; OFFSET 0 keeps
# both so.
BUILD_DIGESTS = """
WITH windows AS MATERIALIZED (  -- by their number, from 1
    SELECT array_agg(
        concat_ws(
            ':', %(period)s, to_char(starts AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
        )
        ORDER BY number
    ) AS labels
    FROM unnest(%(edges)s) WITH ORDINALITY AS edge (starts, number)
),
pending AS MATERIALIZED (
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
own AS MATERIALIZED (
    SELECT
        p.*,
        concat_ws(':', p.user_id, p.channel, (SELECT labels FROM windows)[p.number]) AS own_key
    FROM pending AS p
    WHERE p.number > 0
),
of_own_window AS MATERIALIZED (
    SELECT g.id, keys.digest_key
    FROM (SELECT DISTINCT own_key AS digest_key FROM own) AS keys
    CROSS JOIN LATERAL (
        SELECT id FROM user_alert_digests WHERE digest_key = keys.digest_key OFFSET 0
    ) AS g
),
standing AS MATERIALIZED (
    SELECT q.id
    FROM of_own_window AS g
    CROSS JOIN LATERAL (
        SELECT id FROM alerts_send_queue WHERE source = 'digests' AND id = g.id FOR UPDATE
    ) AS q
),
found AS (  -- with the digest of its own window, and whether that stands in the queue
    SELECT o.*, g.id AS own_id, g.stands
    FROM own AS o
    FULL JOIN (
        SELECT g.id, g.digest_key, s.id IS NOT NULL AS stands
        FROM of_own_window AS g
        FULL JOIN standing AS s ON s.id = g.id
        OFFSET 0
    ) AS g ON g.digest_key = o.own_key
    OFFSET 0
),
routed AS (  -- to their own window's digest, or if that has left the queue, to the current one
    SELECT
        delivery_id,
        user_id,
        channel,
        CASE WHEN own_id IS NULL OR stands THEN number ELSE cardinality(%(edges)s) - 1 END AS number
    FROM found
),
keyed AS MATERIALIZED (
    SELECT
        r.*,
        (%(edges)s)[r.number] AS starts,
        (%(edges)s)[r.number + 1] AS ends,
        concat_ws(':', r.user_id, r.channel, (SELECT labels FROM windows)[r.number]) AS digest_key
    FROM routed AS r
),
there AS MATERIALIZED (
    SELECT g.id, keys.digest_key
    FROM (SELECT DISTINCT digest_key FROM keyed) AS keys
    CROSS JOIN LATERAL (
        SELECT id, status FROM user_alert_digests WHERE digest_key = keys.digest_key OFFSET 0
    ) AS g
    CROSS JOIN LATERAL (
        SELECT FROM alerts_send_queue WHERE source = 'digests' AND id = g.id FOR UPDATE
    ) AS q
    WHERE g.status = 'queued'
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
placed AS MATERIALIZED (
    SELECT k.delivery_id, k.starts, g.id AS digest_id
    FROM keyed AS k
    FULL JOIN (
        SELECT id, digest_key FROM there UNION ALL SELECT id, digest_key FROM made
    ) AS g ON g.digest_key = k.digest_key
    OFFSET 0
),
items AS (
    INSERT INTO user_alert_digest_items (digest_id, delivery_id, created_at)
    SELECT digest_id, delivery_id, %(now)s
    FROM placed
    WHERE digest_id IS NOT NULL
    ON CONFLICT (delivery_id) DO NOTHING
    RETURNING delivery_id
),
batched AS (
    UPDATE user_alert_deliveries AS d
    SET status = 'skipped', failure_code = 'batched_into_digest', next_retry_at = NULL
    -- By key, however many the planner takes them for; COALESCE keeps it from estimating how many
    -- are queued.
    WHERE d.id = ANY (ARRAY(SELECT delivery_id FROM items)) AND coalesce(d.status = 'queued', FALSE)
    RETURNING d.id
)
SELECT
    (SELECT count(*) FROM pending) AS found,
    (SELECT max(user_id) FROM pending) AS last_user_id,
    (SELECT min(event_at) FROM pending) AS oldest,
    (SELECT array_agg(DISTINCT starts) FROM placed WHERE digest_id IS NOT NULL) AS windows,
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
