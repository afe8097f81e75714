"""The rules of fan-out as SQL: who gets an event on which channel, or the first reason why not.

Phase B creates deliveries by them, and ``explain`` answers by them.
"""

from __future__ import annotations

from psycopg2 import sql

from alerts.channels.names import QUOTA_CHANNELS
from alerts.phases.channel_sql import (
    CHANNEL_ROWS,
    REFUSALS_OF_AN_ADDRESS,
    USER_COLUMNS,
    destination,
)

# Why a user gets nothing on a channel, in the order in which the reasons are looked at.
SKIP_REASONS = (
    "channel_off",
    "plan_type",
    "prefs",
    "missing_destination",
    "channel_not_in_plan",
    "exists",
    "quota",
)

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
range_channels AS MATERIALIZED (
    SELECT cp.user_id, cp.channel, cp.enabled, cp.digest_only
    FROM user_channel_prefs AS cp, bounds AS b
    WHERE cp.user_id BETWEEN b.first_id AND b.last_id
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
    LEFT JOIN range_channels AS cp ON cp.user_id = a.user_id AND cp.channel = c.channel
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
    CROSS JOIN LATERAL (
        SELECT user_id, channel, delivery_kind, status, created_at
        FROM user_alert_deliveries
        WHERE alert_event_id = e.alert_event_id AND user_id BETWEEN b.first_id AND b.last_id
        OFFSET 0
    ) AS d
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
