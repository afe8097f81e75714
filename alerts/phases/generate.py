"""Phase A: creates global alert events from risk data."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from alerts import db
from alerts.messages import events
from alerts.phases.context import Counts, PhaseContext
from alerts.product_days import day_of, day_start

REGIONAL, ASSET, HIGH_IMPACT = "REGIONAL_RISK_SPIKE", "ASSET_RISK_SPIKE", "HIGH_IMPACT_EVENT"

FIRES_AT = 70  # a score from which on it is an alert by itself
EARLIER_DAYS = 7  # how many days back to look for an earlier product day's score

# Everything of all three types that fires at a given time, with its drivers. `::timestamptz` reads
# the plain TIMESTAMP columns of old deployments as UTC. `days` are the dates from the earliest
# relevant product day to today, `day_starts` their first instants.
FIRED = """
WITH fresh_index AS (  -- the newest 7-day index of each region, at most a day old
    SELECT DISTINCT ON (region)
        region,
        risk_score::numeric AS score,
        trend,
        calculated_at::timestamptz AS risk_at,
        width_bucket(calculated_at::timestamptz, %(day_starts)s) AS day
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
        NULL AS asset,
        f.score,
        format('REGIONAL_RISK_SPIKE:%%s:%%s', f.region, (%(days)s)[f.day]) AS fingerprint,
        f.trend AS moves,
        f.risk_at,
        earlier.score AS earlier_score,
        earlier.product_day AS earlier_day
    FROM fresh_index AS f
    LEFT JOIN LATERAL (  -- the region's newest score of an earlier product day
        SELECT
            p.risk_score::numeric AS score,
            (%(days)s)[width_bucket(p.calculated_at::timestamptz, %(day_starts)s)] AS product_day
        FROM risk_indices AS p
        WHERE p.window_days = 7
          AND p.region = f.region
          AND p.risk_score IS NOT NULL
          AND p.calculated_at < (%(day_starts)s)[f.day]
          AND p.calculated_at >= (%(day_starts)s)[f.day - %(earlier_days)s]
        ORDER BY p.calculated_at DESC, p.id DESC
        LIMIT 1
    ) AS earlier ON TRUE
    WHERE f.score >= %(fires_at)s
       OR (f.score >= 50 AND earlier.score > 0 AND f.score * 100 >= earlier.score * 120)
),
asset AS (
    SELECT
        'ASSET_RISK_SPIKE' AS alert_type,
        f.region,
        f.asset,
        f.score,
        format('ASSET_RISK_SPIKE:%%s:%%s:%%s', f.region, f.asset, f.product_day) AS fingerprint,
        f.direction AS moves,
        f.risk_at,
        NULL::numeric AS earlier_score,
        NULL::date AS earlier_day
    FROM (
        SELECT DISTINCT ON (asset, region)
            asset,
            region,
            risk_score::numeric AS score,
            direction,
            calculated_at::timestamptz AS risk_at,
            (%(days)s)[width_bucket(calculated_at::timestamptz, %(day_starts)s)] AS product_day
        FROM asset_risk
        WHERE window_days = 7
          AND calculated_at BETWEEN %(now)s - interval '24 hours' AND %(now)s
          AND asset IS NOT NULL
          AND region IS NOT NULL
          AND risk_score IS NOT NULL
        ORDER BY asset, region, calculated_at DESC, id DESC
    ) AS f
    WHERE f.score >= %(fires_at)s
),
spike AS (
    SELECT
        s.*,
        CASE WHEN s.score >= 90 THEN 5 WHEN s.score >= 80 THEN 4 ELSE 3 END AS severity,
        drivers.titles,
        drivers.ids
    FROM (SELECT * FROM regional UNION ALL SELECT * FROM asset) AS s
    CROSS JOIN LATERAL (  -- at most three events of the region or Global from the last week
        SELECT
            array_agg(d.id ORDER BY d.place) AS ids,
            array_agg(d.title ORDER BY d.place) FILTER (WHERE d.title IS NOT NULL) AS titles
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
)
SELECT
    alert_type, region, asset, severity, score, fingerprint, ids AS driver_ids,
    moves, earlier_score, earlier_day, titles,
    NULL AS title, NULL AS category, NULL AS source, NULL::date AS event_day, risk_at
FROM spike
UNION ALL
SELECT
    'HIGH_IMPACT_EVENT', e.region, NULL, least(e.severity_score, 5), NULL,
    'HIGH_IMPACT_EVENT:' || e.id, ARRAY[e.id],
    NULL, NULL, NULL, NULL,
    e.title, e.category, e.source_name, e.event_time::date, e.inserted_at::timestamptz
FROM events AS e
WHERE e.severity_score >= 4
  AND e.inserted_at BETWEEN %(now)s - interval '24 hours' AND %(now)s
"""

# Stores what fired. A conflict on the fingerprint, or on the cooldown key that old deployments also
# keep unique, means that the event already exists.
INSERT_EVENTS = """
INSERT INTO alert_events (
    alert_type, scope_region, scope_assets, severity, risk_score, headline, body,
    driver_event_ids, cooldown_key, event_fingerprint, risk_at, created_at
)
SELECT
    alert_type, region, array_remove(ARRAY[asset], NULL), severity, score, headline, body,
    driver_ids::bigint[], fingerprint, fingerprint, risk_at, %(now)s
FROM unnest(
    %(types)s::text[], %(regions)s::text[], %(assets)s::text[], %(severities)s::integer[],
    %(scores)s::numeric[], %(headlines)s::text[], %(bodies)s::text[], %(driver_ids)s::text[],
    %(fingerprints)s::text[], %(risk_times)s::timestamptz[]
) AS fired (
    alert_type, region, asset, severity, score, headline, body, driver_ids, fingerprint, risk_at
)
ORDER BY fingerprint
ON CONFLICT DO NOTHING
RETURNING alert_type
"""


def run(context: PhaseContext) -> Counts:
    """Create the events that fire at the context's time; existing ones stay unchanged."""
    context.ensure_lock()
    now = context.clock.now()
    fired = db.fetch_all(context.conn, FIRED, {"now": now, **_days(now, context.settings.timezone)})
    created: Counter[str] = Counter()
    if fired:
        rows = db.fetch_all(context.conn, INSERT_EVENTS, {"now": now, **_columns(fired)})
        created.update(row["alert_type"] for row in rows)
    return {
        "events_created": created.total(),
        "events_existing": len(fired) - created.total(),
        "regional_risk_spikes": created[REGIONAL],
        "asset_risk_spikes": created[ASSET],
        "high_impact_events": created[HIGH_IMPACT],
    }


def _days(now: datetime, zone: ZoneInfo) -> dict[str, object]:
    """The product days of the scores from the last 24 hours and of those they compare with."""
    today = day_of(now, zone)
    first = day_of(now - timedelta(hours=24), zone) - timedelta(days=EARLIER_DAYS)
    days = [first + timedelta(days=n) for n in range((today - first).days + 1)]
    starts = [day_start(day, zone) for day in days]
    return {"days": days, "day_starts": starts, "earlier_days": EARLIER_DAYS,
            "fires_at": FIRES_AT}  # fmt: skip


def _columns(fired: list[db.Row]) -> dict[str, list[object]]:
    """Turn the rows into the column arrays that :data:`INSERT_EVENTS` takes."""
    texts = [_text(row) for row in fired]
    return {
        "types": [row["alert_type"] for row in fired],
        "regions": [row["region"] for row in fired],
        "assets": [row["asset"] for row in fired],
        "severities": [row["severity"] for row in fired],
        "scores": [row["score"] for row in fired],
        "headlines": [text.headline for text in texts],
        "bodies": [text.body for text in texts],
        "driver_ids": [_array(row["driver_ids"]) for row in fired],
        "fingerprints": [row["fingerprint"] for row in fired],
        "risk_times": [row["risk_at"] for row in fired],
    }


def _text(row: db.Row) -> events.Text:
    if row["alert_type"] == HIGH_IMPACT:
        return events.high_impact(
            title=row["title"], category=row["category"], day=row["event_day"], source=row["source"]
        )
    where = {"region": row["region"], "score": row["score"], "drivers": row["titles"] or ()}
    if row["alert_type"] == ASSET:
        return events.asset_spike(asset=row["asset"], direction=row["moves"], **where)
    return events.regional_spike(
        trend=row["moves"],
        earlier_score=row["earlier_score"],
        earlier_day=row["earlier_day"],
        **where,
    )


def _array(ids: list[int] | None) -> str | None:
    """As text, because the arrays have different lengths and cannot form a 2-D array."""
    return None if ids is None else "{" + ",".join(map(str, ids)) + "}"
