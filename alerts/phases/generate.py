"""Phase A: risk data becomes global alert events."""

from __future__ import annotations

from alerts import db
from alerts.phases.context import Counts, PhaseContext

# One statement for all three types: what fires, what drove it, and the insert. `::timestamptz`
# reads the plain TIMESTAMP columns of old deployments as UTC. A row of the fingerprint, or of
# the cooldown key that old deployments keep unique too, is the event already there.
GENERATE_EVENTS = """
WITH fresh_index AS (  -- the newest 7-day index of each region, at most a day old
    SELECT DISTINCT ON (region)
        region,
        risk_score::numeric AS score,
        trend,
        (calculated_at::timestamptz AT TIME ZONE %(zone)s)::date AS product_day
    FROM risk_indices
    WHERE window_days = 7
      AND calculated_at BETWEEN %(now)s - interval '24 hours' AND %(now)s
      AND region IS NOT NULL
      AND risk_score IS NOT NULL
    ORDER BY region, calculated_at DESC, id DESC
),
regional AS (
    SELECT
        'REGIONAL_RISK_SPIKE' AS alert_type,
        f.region,
        '{}'::text[] AS assets,
        f.score,
        format('REGIONAL_RISK_SPIKE:%%s:%%s', f.region, f.product_day) AS fingerprint,
        format('%%s energy risk at %%s of 100', f.region, round(f.score)) AS headline,
        format(
            'The 7-day energy risk index for %%s stands at %%s of 100 and is %%s.',
            f.region, round(f.score, 1), f.trend
        ) || CASE
            WHEN earlier.score > 0 AND f.score > earlier.score
                THEN format(
                    ' It rose by %%s %%%% from %%s on %%s.',
                    round((f.score / earlier.score - 1) * 100), round(earlier.score, 1),
                    to_char(earlier.product_day, 'FMDD Mon YYYY')
                )
            ELSE ''
        END AS facts
    FROM fresh_index AS f
    LEFT JOIN LATERAL (  -- the region's newest score of an earlier product day
        SELECT
            p.risk_score::numeric AS score,
            (p.calculated_at::timestamptz AT TIME ZONE %(zone)s)::date AS product_day
        FROM risk_indices AS p
        WHERE p.window_days = 7
          AND p.region = f.region
          AND p.risk_score IS NOT NULL
          AND p.calculated_at < f.product_day::timestamp AT TIME ZONE %(zone)s
          AND p.calculated_at >= (f.product_day - 7)::timestamp AT TIME ZONE %(zone)s
        ORDER BY p.calculated_at DESC, p.id DESC
        LIMIT 1
    ) AS earlier ON TRUE
    WHERE f.score >= 70
       OR (f.score >= 50 AND earlier.score > 0 AND f.score * 100 >= earlier.score * 120)
),
asset AS (
    SELECT
        'ASSET_RISK_SPIKE' AS alert_type,
        f.region,
        ARRAY[f.asset] AS assets,
        f.score,
        format('ASSET_RISK_SPIKE:%%s:%%s:%%s', f.region, f.asset, f.product_day) AS fingerprint,
        format(
            '%%s risk in %%s at %%s of 100', initcap(f.asset), f.region, round(f.score)
        ) AS headline,
        format(
            'The 7-day risk score of %%s in %%s stands at %%s of 100; %%s.',
            f.asset, f.region, round(f.score, 1),
            CASE f.direction
                WHEN 'up' THEN 'the direction is up'
                WHEN 'down' THEN 'the direction is down'
                ELSE 'the direction is unclear'
            END
        ) AS facts
    FROM (
        SELECT DISTINCT ON (asset, region)
            asset,
            region,
            risk_score::numeric AS score,
            direction,
            (calculated_at::timestamptz AT TIME ZONE %(zone)s)::date AS product_day
        FROM asset_risk
        WHERE window_days = 7
          AND calculated_at BETWEEN %(now)s - interval '24 hours' AND %(now)s
          AND asset IS NOT NULL
          AND region IS NOT NULL
          AND risk_score IS NOT NULL
        ORDER BY asset, region, calculated_at DESC, id DESC
    ) AS f
    WHERE f.score >= 70
),
spike AS (
    SELECT
        s.alert_type,
        s.region,
        s.assets,
        CASE WHEN s.score >= 90 THEN 5 WHEN s.score >= 80 THEN 4 ELSE 3 END AS severity,
        s.score,
        s.headline,
        concat_ws(E'\\n\\n', s.facts, E'What drives it:\\n' || drivers.titles) AS body,
        drivers.ids AS driver_event_ids,
        s.fingerprint
    FROM (SELECT * FROM regional UNION ALL SELECT * FROM asset) AS s
    CROSS JOIN LATERAL (  -- at most three events of the region or Global from the last week
        SELECT
            array_agg(d.id ORDER BY d.place) AS ids,
            string_agg('- ' || left(d.title, 300), E'\\n' ORDER BY d.place) AS titles
        FROM (
            SELECT
                e.id,
                e.title,
                row_number() OVER (
                    ORDER BY
                        (
                            SELECT max(r.weighted_score)
                            FROM risk_events AS r
                            WHERE r.event_id = e.id
                        ) DESC NULLS LAST,
                        e.severity_score DESC NULLS LAST,
                        e.id
                ) AS place
            FROM events AS e
            WHERE e.inserted_at BETWEEN %(now)s - interval '7 days' AND %(now)s
              AND lower(e.region) IN (lower(s.region), 'global')
        ) AS d
        WHERE d.place <= 3
    ) AS drivers
),
high_impact AS (
    SELECT
        'HIGH_IMPACT_EVENT' AS alert_type,
        e.region,
        '{}'::text[] AS assets,
        least(e.severity_score, 5) AS severity,
        NULL::numeric AS score,
        e.title AS headline,
        format(
            'Category: %%s.%%s Source: %%s.',
            replace(e.category, '_', ' '),
            to_char(e.event_time, '" Date: "FMDD Mon YYYY"."'),
            e.source_name
        ) AS body,
        ARRAY[e.id] AS driver_event_ids,
        'HIGH_IMPACT_EVENT:' || e.id AS fingerprint
    FROM events AS e
    WHERE e.severity_score >= 4
      AND e.inserted_at BETWEEN %(now)s - interval '24 hours' AND %(now)s
),
fired AS (
    SELECT * FROM spike UNION ALL SELECT * FROM high_impact
),
created AS (
    INSERT INTO alert_events (
        alert_type, scope_region, scope_assets, severity, risk_score, headline, body,
        driver_event_ids, cooldown_key, event_fingerprint, created_at
    )
    SELECT
        alert_type, region, assets, severity, score, headline, body,
        driver_event_ids, fingerprint, fingerprint, %(now)s
    FROM fired
    ORDER BY fingerprint
    ON CONFLICT DO NOTHING
    RETURNING alert_type
)
SELECT
    (SELECT count(*) FROM fired) AS fired,
    count(*) AS created,
    count(*) FILTER (WHERE alert_type = 'REGIONAL_RISK_SPIKE') AS regional,
    count(*) FILTER (WHERE alert_type = 'ASSET_RISK_SPIKE') AS asset,
    count(*) FILTER (WHERE alert_type = 'HIGH_IMPACT_EVENT') AS high_impact
FROM created
"""


def run(context: PhaseContext) -> Counts:
    """Create the events that fire at the context's time; those already there stay as they are."""
    context.ensure_lock()
    row = db.fetch_all(
        context.conn,
        GENERATE_EVENTS,
        {"now": context.clock.now(), "zone": context.settings.timezone.key},
    )[0]
    return {
        "events_created": row["created"],
        "events_existing": row["fired"] - row["created"],
        "regional_risk_spikes": row["regional"],
        "asset_risk_spikes": row["asset"],
        "high_impact_events": row["high_impact"],
    }
