"""Phase B: every event becomes at most one delivery per user and channel."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from psycopg2 import sql

from alerts import db
from alerts.channels.names import QUOTA_CHANNELS
from alerts.phases.channel_sql import (
    CHANNEL_ROWS,
    REFUSALS_OF_AN_ADDRESS,
    USER_COLUMNS,
    destination,
)
from alerts.phases.context import Counts, PhaseContext
from alerts.product_days import day_window

# Users of one statement and transaction: large audiences are taken in ranges of ids, so that
# a kill costs one range and no transaction grows without bound.
USERS_PER_RANGE = 50_000

SKIP_REASONS = (
    "channel_off",
    "plan_type",
    "prefs",
    "missing_destination",
    "channel_not_in_plan",
    "exists",
    "quota",
)

# The work list in its order, and how many events are past it.
PENDING_EVENTS = """
SELECT
    coalesce(
        array_agg(id ORDER BY severity DESC, created_at, id) FILTER (WHERE created_at > %(since)s),
        '{}'
    ) AS event_ids,
    count(*) FILTER (WHERE created_at <= %(since)s) AS expired
FROM alert_events
WHERE fanout_completed_at IS NULL AND created_at <= %(now)s
"""

# What a preference p asks of an event e. NULL in a preference means any; a condition that is not
# TRUE is not met.
FITS = {
    "type": sql.SQL("(p.alert_type IS NULL OR p.alert_type = e.alert_type)"),
    "region": sql.SQL(
        "(p.region IS NULL OR lower(p.region) = 'global'"
        " OR e.region IS NULL OR e.region = 'global' OR lower(p.region) = e.region)"
    ),
    "asset": sql.SQL("(p.asset IS NULL OR lower(p.asset) = ANY (e.scope_assets))"),
    "threshold": sql.SQL("(p.threshold IS NULL OR e.measure >= p.threshold)"),
}

# Which users, on which channel, and the first reason that holds: the rules of fan-out, here
# and nowhere else. Gives audience(user_id, ...) and decisions(user_id, channel, reason, kind,
# overflow); reason NULL means deliver.
DECISIONS = sql.SQL("""
event AS (
    SELECT
        id,
        alert_type,
        lower(scope_region) AS region,
        scope_assets,
        risk_at,
        CASE WHEN alert_type = 'HIGH_IMPACT_EVENT' THEN severity ELSE risk_score END AS measure
    FROM alert_events
    WHERE id = %(event_id)s
),
audience AS MATERIALIZED (
    SELECT
        u.id AS user_id,
        {user_columns}
    FROM users AS u
    WHERE u.id > %(after_user_id)s
      AND (%(allowlist)s::bigint[] IS NULL OR u.id = ANY (%(allowlist)s::bigint[]))
    ORDER BY u.id
    LIMIT %(range_size)s
),
bounds AS (
    SELECT min(user_id) AS first_id, max(user_id) AS last_id FROM audience
),
-- Of the large tables only the rows of the range, so that each range costs the same.
range_plans AS MATERIALIZED (
    SELECT up.user_id, p.plan_code
    FROM user_plans AS up, bounds AS b, plan_settings AS p
    WHERE up.user_id BETWEEN b.first_id AND b.last_id
      AND p.plan_code = lower(up.plan)
      AND p.is_active IS NOT FALSE
),
range_prefs AS MATERIALIZED (
    SELECT p.id AS pref_id, p.user_id, p.region, p.alert_type, p.asset, p.threshold, p.enabled
    FROM user_alert_prefs AS p, bounds AS b
    WHERE p.user_id BETWEEN b.first_id AND b.last_id
),
effective_prefs AS (  -- a user without any row has one default
    SELECT pref_id, user_id, region, alert_type, asset, threshold
    FROM range_prefs
    WHERE enabled IS NOT FALSE
    UNION ALL
    SELECT NULL, a.user_id, 'Europe', 'HIGH_IMPACT_EVENT', NULL, 4
    FROM audience AS a
    WHERE NOT EXISTS (SELECT FROM range_prefs AS p WHERE p.user_id = a.user_id)
),
matching AS (
    SELECT p.user_id, p.pref_id
    FROM effective_prefs AS p, event AS e
    WHERE {fits}
),
interested AS MATERIALIZED (
    SELECT DISTINCT user_id FROM matching
),
offers AS MATERIALIZED (  -- what each plan gives on each channel for this type of event
    SELECT
        p.plan_code,
        l.channel,
        coalesce(
            'ALL' = ANY (p.allowed_alert_types) OR e.alert_type = ANY (p.allowed_alert_types), FALSE
        ) AS type_allowed,
        l.allowed,
        l.instant_per_day
    FROM plan_settings AS p
    JOIN plan_channel_limits AS l ON l.plan_code = p.plan_code
    CROSS JOIN event AS e
),
delivered AS (
    SELECT DISTINCT d.user_id, d.channel
    FROM user_alert_deliveries AS d, bounds AS b
    WHERE d.alert_event_id = %(event_id)s
      AND d.delivery_kind IN ('instant', 'digest')
      AND d.user_id BETWEEN b.first_id AND b.last_id
),
ruled AS (
    SELECT
        a.user_id,
        c.channel,
        c.digests,
        c.quota,
        c.sent_on_creation,
        offer.plan_code,
        offer.instant_per_day,
        coalesce(cp.digest_only, FALSE) AS digest_only,
        -- What the reason rests on, for whoever asks why; fan-out itself does not read them.
        coalesce(offer.type_allowed, FALSE) AS type_allowed,
        i.user_id IS NOT NULL AS wanted,
        cp.enabled IS NOT FALSE AS channel_enabled,
        destination.reachable,
        coalesce(offer.allowed, FALSE) AS channel_allowed,
        CASE
            WHEN c.channel = ANY (%(channels_off)s) THEN 'channel_off'
            WHEN NOT coalesce(offer.type_allowed, FALSE) THEN 'plan_type'
            WHEN i.user_id IS NULL
                OR cp.enabled IS FALSE
                OR (cp.digest_only AND NOT c.digests AND NOT c.sent_on_creation) THEN 'prefs'
            WHEN NOT destination.reachable THEN 'missing_destination'
            WHEN NOT offer.allowed THEN 'channel_not_in_plan'
            WHEN d.user_id IS NOT NULL THEN 'exists'
        END AS reason
    FROM audience AS a
    LEFT JOIN range_plans AS plan ON plan.user_id = a.user_id
    LEFT JOIN interested AS i ON i.user_id = a.user_id
    CROSS JOIN (VALUES {channels}) AS c (channel, digests, quota, sent_on_creation)
    CROSS JOIN LATERAL (
        SELECT {destination} AS address
    ) AS place
    LEFT JOIN alerts_refused_addresses AS refused
        ON refused.user_id = a.user_id AND refused.channel = c.channel
        AND refused.refusals >= {refusals}
    CROSS JOIN LATERAL (  -- an address that was refused too often counts as none
        SELECT c.sent_on_creation OR (
            place.address IS NOT NULL AND (
                refused.user_id IS NULL
                OR refused.address_hash IS DISTINCT FROM alerts_address_hash(
                    a.user_id::bigint, c.channel, place.address
                )
            )
        ) AS reachable
    ) AS destination
    LEFT JOIN offers AS offer  -- no plan, an unknown one and an inactive one all mean free
        ON offer.plan_code = coalesce(plan.plan_code, 'free') AND offer.channel = c.channel
    LEFT JOIN user_channel_prefs AS cp ON cp.user_id = a.user_id AND cp.channel = c.channel
    LEFT JOIN delivered AS d ON d.user_id = a.user_id AND d.channel = c.channel
),
-- The events that have deliveries of this product day: a step of the index for each, however many
-- the deliveries are.
events_of_day AS MATERIALIZED (
    WITH RECURSIVE step AS (
        (
            SELECT created_at, alert_event_id
            FROM user_alert_deliveries
            WHERE created_at >= %(day_start)s AND created_at <= %(now)s
              AND alert_event_id IS NOT NULL
            ORDER BY created_at, alert_event_id
            LIMIT 1
        )
        UNION ALL
        SELECT next.created_at, next.alert_event_id
        FROM step
        CROSS JOIN LATERAL (
            SELECT d.created_at, d.alert_event_id
            FROM user_alert_deliveries AS d
            WHERE (d.created_at, d.alert_event_id) > (step.created_at, step.alert_event_id)
              AND d.created_at <= %(now)s AND d.alert_event_id IS NOT NULL
            ORDER BY d.created_at, d.alert_event_id
            LIMIT 1
        ) AS next
    )
    SELECT DISTINCT alert_event_id FROM step
),
used AS MATERIALIZED (  -- instant deliveries of this product day
    SELECT d.user_id, d.channel, count(*) AS instant
    FROM events_of_day AS e
    CROSS JOIN bounds AS b
    JOIN user_alert_deliveries AS d
        ON d.alert_event_id = e.alert_event_id AND d.user_id BETWEEN b.first_id AND b.last_id
    WHERE (%(allowlist)s::bigint[] IS NULL OR d.user_id = ANY (%(allowlist)s::bigint[]))
      AND d.channel = ANY ({quota_channels})
      AND d.delivery_kind = 'instant'
      AND d.status IN ('queued', 'sent')
      AND d.created_at >= %(day_start)s
      AND d.created_at <= %(now)s
    GROUP BY d.user_id, d.channel
),
metered AS (
    SELECT
        r.*,
        coalesce(u.instant, 0) AS instant,
        r.quota AND coalesce(
            coalesce(u.instant, 0) >= r.instant_per_day, FALSE
        ) AS used_up,
        r.digests AND (
            r.plan_code = 'free' OR r.digest_only OR coalesce(r.instant_per_day = 0, FALSE)
        ) AS always_digest
    FROM ruled AS r
    LEFT JOIN used AS u ON u.user_id = r.user_id AND u.channel = r.channel
),
decisions AS (
    SELECT
        user_id,
        channel,
        coalesce(reason, CASE WHEN used_up AND NOT digests THEN 'quota' END) AS reason,
        CASE WHEN always_digest OR (used_up AND digests) THEN 'digest' ELSE 'instant' END
            AS kind,
        used_up AND digests AND NOT always_digest AS overflow,
        sent_on_creation,
        instant AS quota_used,
        instant_per_day AS quota_limit
    FROM metered
)
""").format(
    fits=sql.SQL(" AND ").join(FITS.values()),
    user_columns=USER_COLUMNS,
    channels=CHANNEL_ROWS,
    destination=destination("a", "c"),
    refusals=sql.Literal(REFUSALS_OF_AN_ADDRESS),
    quota_channels=sql.Literal(list(QUOTA_CHANNELS)),
)

# One range of one event: decide, insert, count, and with the last range set the marker, all in
# one statement and so in one transaction. Under an allowlist the marker stays NULL: whoever is
# not on the list gets the event when the list is lifted.
FAN_OUT = sql.SQL("""
WITH {decisions},
created AS (
    INSERT INTO user_alert_deliveries (
        user_id, alert_event_id, channel, delivery_kind, status, sent_at, risk_at, created_at
    )
    SELECT
        user_id,
        %(event_id)s,
        channel,
        kind,
        CASE WHEN sent_on_creation THEN 'sent' ELSE 'queued' END,
        CASE WHEN sent_on_creation THEN %(now)s::timestamptz END,
        (SELECT risk_at FROM event),
        %(now)s
    FROM decisions
    WHERE reason IS NULL
    ON CONFLICT (alert_event_id, user_id, channel, delivery_kind) DO NOTHING
    RETURNING delivery_kind
),
marked AS (
    UPDATE alert_events
    SET fanout_completed_at = %(now)s
    WHERE id = %(event_id)s
      AND %(allowlist)s::bigint[] IS NULL
      AND (SELECT count(*) FROM audience) < %(range_size)s
    RETURNING id
)
SELECT
    (SELECT count(*) FROM audience) AS users,
    (SELECT last_id FROM bounds) AS last_user_id,
    (SELECT count(*) FROM marked) AS marked,
    (SELECT count(*) FROM created WHERE delivery_kind = 'instant') AS instant_created,
    (SELECT count(*) FROM created WHERE delivery_kind = 'digest') AS digest_created,
    count(*) AS considered,
    count(*) FILTER (WHERE reason IS NULL) AS eligible,
    count(*) FILTER (WHERE reason IS NULL AND overflow) AS overflow_to_digest,
    count(*) FILTER (WHERE reason = 'channel_off') AS channel_off,
    count(*) FILTER (WHERE reason = 'plan_type') AS plan_type,
    count(*) FILTER (WHERE reason = 'prefs') AS prefs,
    count(*) FILTER (WHERE reason = 'missing_destination') AS missing_destination,
    count(*) FILTER (WHERE reason = 'channel_not_in_plan') AS channel_not_in_plan,
    count(*) FILTER (WHERE reason = 'exists') AS "exists",
    count(*) FILTER (WHERE reason = 'quota') AS quota
FROM decisions
""").format(decisions=DECISIONS)


def run(context: PhaseContext) -> Counts:
    """Fan out the events of the window; those older are counted, since nobody will."""
    now = context.clock.now()
    window = {"now": now, "since": now - context.since}
    pending = db.fetch_all(context.conn, PENDING_EVENTS, window)[0]
    tally: Counter[str] = Counter()
    stopped = None
    for event_id in pending["event_ids"]:
        stopped = _fan_out_event(context, event_id, now, tally)
        if stopped:
            break
        tally["events_processed"] += 1
        context.progress("events", tally["events_processed"], len(pending["event_ids"]))
    tally["events_expired"] = pending["expired"]
    counts = _counts(tally, allowlist_active=context.settings.allowlist is not None)
    if stopped:
        counts["stopped_early"] = stopped
    return counts


def _fan_out_event(
    context: PhaseContext, event_id: int, now: datetime, tally: Counter[str]
) -> str | None:
    """All ranges of one event; the reason to stop when there was one between two ranges."""
    allowlist = context.settings.allowlist
    day_start, _ = day_window(now, context.settings.timezone)
    after_user_id = seen = 0
    while True:
        reason = context.stop.reason()
        if reason:
            return reason
        context.ensure_lock()
        row = db.fetch_all(
            context.conn,
            FAN_OUT,
            {
                "event_id": event_id,
                "after_user_id": after_user_id,
                "range_size": USERS_PER_RANGE,
                "allowlist": list(allowlist) if allowlist is not None else None,
                "channels_off": sorted(context.settings.channels.off),
                "now": now,
                "day_start": day_start,
            },
        )[0]
        users, after_user_id = row.pop("users"), row.pop("last_user_id")
        tally.update(row)
        if users < USERS_PER_RANGE:
            return None
        seen += users
        context.progress("users", seen, None)


def _counts(tally: Counter[str], *, allowlist_active: bool) -> Counts:
    """The counts of the phase; considered is always created plus the skipped."""
    created = tally["instant_created"] + tally["digest_created"]
    # A row that was eligible and not inserted was there already after all.
    tally["exists"] += tally["eligible"] - created
    return {
        "events_processed": tally["events_processed"],
        "events_expired": tally["events_expired"],
        "deliveries_considered": tally["considered"],
        "deliveries_created": created,
        "instant_created": tally["instant_created"],
        "digest_created": tally["digest_created"],
        "overflow_to_digest": tally["overflow_to_digest"],
        **{f"deliveries_skipped_{reason}": tally[reason] for reason in SKIP_REASONS},
        "allowlist_active": allowlist_active,
    }
