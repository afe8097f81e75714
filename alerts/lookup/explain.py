"""Why a user did or did not get an alert: ``GET /explain`` and the ``explain`` command.

The decision comes from fan-out's own statement, the outcome from the delivery; what they mean is
said in :mod:`alerts.lookup.sentences`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from psycopg2 import sql

from alerts import db
from alerts.channels.names import CHANNELS
from alerts.lookup import sentences
from alerts.lookup.case import Case, Engine
from alerts.lookup.deliveries import DELIVERY_COLUMNS, DIGEST_COLUMNS, LEASE
from alerts.paging import json_row
from alerts.phases.channel_sql import (
    CHANNEL_ROWS,
    REFUSALS_OF_AN_ADDRESS,
    USER_COLUMNS,
    destination,
    unverified,
)
from alerts.phases.decisions import DECISIONS, FITS
from alerts.product_days import WINDOWS, day_window
from alerts.runs import engine_state
from alerts.settings.config import Settings
from alerts.words import Clockface, zone_of

SINCE_HOURS = 24  # how far back a run looks by default

EVENT = """
SELECT
    alert_type, scope_region AS region, scope_assets AS assets, severity, risk_score,
    created_at::timestamptz AS created_at, fanout_completed_at::timestamptz AS fanout_completed_at
FROM alert_events
WHERE id = %(event_id)s AND created_at <= %(now)s
"""

# Fan-out's decision for one user, one row per channel, the figures behind it, and of the user's
# preferences the one that comes closest to the event: the fewest conditions missed; of those alike
# rather a threshold (the smallest distance), one switched off, a region than an asset or a type.
DECIDED = sql.SQL("""
WITH {decisions},
compared AS (
    SELECT
        p.*, e.measure,
        {type} IS NOT TRUE AS misses_type,
        {region} IS NOT TRUE AS misses_region,
        {asset} IS NOT TRUE AS misses_asset,
        {threshold} IS NOT TRUE AS misses_threshold
    FROM (
        SELECT pref_id, region, alert_type, asset, threshold, enabled IS NOT FALSE AS enabled
        FROM range_prefs
        UNION ALL
        SELECT pref_id, region, alert_type, asset, threshold, TRUE
        FROM effective_prefs
        WHERE pref_id IS NULL
    ) AS p, event AS e
),
closest AS (
    SELECT *
    FROM compared
    ORDER BY
        (NOT enabled)::int + misses_type::int + misses_region::int + misses_asset::int
            + misses_threshold::int,
        misses_type, misses_asset, misses_region, NOT enabled,
        CASE WHEN misses_threshold THEN threshold - measure END, pref_id
    LIMIT 1
)
SELECT
    d.channel, d.reason, d.kind, d.overflow, d.quota_used, d.quota_limit,
    m.plan_code, m.type_allowed, m.wanted, m.channel_enabled, m.digest_only, m.reachable,
    m.channel_allowed,
    (SELECT s.display_name FROM plan_settings AS s WHERE s.plan_code = m.plan_code) AS plan_name,
    (SELECT count(*) FROM range_prefs) AS preferences,
    (SELECT count(*) FROM range_prefs WHERE enabled IS NOT FALSE) AS preferences_on,
    (SELECT to_jsonb(c) FROM closest AS c) AS closest,
    (SELECT array_agg(pref_id ORDER BY pref_id) FROM matching WHERE pref_id IS NOT NULL)
        AS matching_preferences
FROM decisions AS d
JOIN metered AS m ON m.user_id = d.user_id AND m.channel = d.channel
""").format(decisions=DECISIONS, **FITS)

# What holds of the user's channels now, whatever the event: a row per channel; none for a user who
# does not exist. Of addresses only whether there is one.
AROUND = sql.SQL("""
SELECT
    c.channel,
    place.address IS NOT NULL AS has_address,
    {unverified} AS unverified,
    coalesce(
        refused.refusals >= {refusals}
            AND refused.address_hash = alerts_address_hash(u.id::bigint, c.channel, place.address),
        FALSE
    ) AS refused_too_often,
    state.code AS closed_for,
    state.closed_since,
    state.closed_until,
    choice.unsubscribed_at::timestamptz AS unsubscribed_at,
    pause.channel AS paused,
    pause.reason AS paused_for,
    pause.paused_at,
    clock_timestamp() AS read_at
FROM (SELECT id, {user_columns} FROM users WHERE id = %(user_id)s) AS u
CROSS JOIN (VALUES {channels}) AS c (channel, digests, quota, sent_on_creation)
CROSS JOIN LATERAL (SELECT {destination} AS address) AS place
LEFT JOIN alerts_refused_addresses AS refused
    ON refused.user_id = u.id AND refused.channel = c.channel
LEFT JOIN alerts_channel_state AS state
    ON state.channel = c.channel AND state.closed_since IS NOT NULL
LEFT JOIN user_channel_prefs AS choice
    ON choice.user_id = u.id AND choice.channel = c.channel AND choice.enabled IS FALSE
LEFT JOIN LATERAL (
    SELECT p.channel, p.reason, p.paused_at
    FROM alerts_pauses AS p
    WHERE p.channel = 'all' OR p.channel = c.channel
    ORDER BY p.channel <> 'all'
    LIMIT 1
) AS pause ON TRUE
""").format(
    unverified=unverified("u", "c"),
    refusals=sql.Literal(REFUSALS_OF_AN_ADDRESS),
    user_columns=USER_COLUMNS,
    channels=CHANNEL_ROWS,
    destination=destination("u", "c"),
)

DELIVERIES = sql.SQL("""
SELECT {columns}
FROM user_alert_deliveries AS q
{lease}
WHERE q.alert_event_id = %(event_id)s AND q.user_id = %(user_id)s
  AND q.delivery_kind IN ('instant', 'digest')
ORDER BY q.id
""").format(columns=sql.SQL(DELIVERY_COLUMNS), lease=LEASE.format(sql.Literal("deliveries")))

DIGESTS = sql.SQL(
    "SELECT {columns} FROM user_alert_digests AS q {lease} WHERE q.id = ANY (%(ids)s)"
).format(columns=sql.SQL(DIGEST_COLUMNS), lease=LEASE.format(sql.Literal("digests")))


def explain(
    conn: db.Connection, settings: Settings, *, event_id: int, user_id: int, now: datetime
) -> dict[str, Any] | str:
    """The decision of each channel and what it led to; ``"event"`` or ``"user"`` for an id that
    does not exist (an event from after the clock does not exist yet).

    The allowlist, the channels that are off, the time zone and the digests' period are those that
    the engine last ran with.
    """
    asked = {"event_id": event_id, "user_id": user_id, "now": now}
    event = db.fetch_one(conn, EVENT, asked)
    if event is None:
        return "event"
    around = {row["channel"]: row for row in db.fetch_all(conn, AROUND, asked)}
    if not around:
        return "user"
    engine = _engine(engine_state.history(conn, settings), user_id)
    done = event["fanout_completed_at"]
    expired = done is None and event["created_at"] <= now - timedelta(hours=SINCE_HOURS)
    state = "done" if done else "expired" if expired else "pending"
    decided = _decided(conn, asked, done or now, engine)
    deliveries = {row["channel"]: row for row in db.fetch_all(conn, DELIVERIES, asked)}
    ids = [row["digest_id"] for row in deliveries.values() if row["digest_id"]]
    digests = {row["id"]: row for row in db.fetch_all(conn, DIGESTS, {"ids": ids})} if ids else {}
    return {
        "event_id": event_id,
        "user_id": user_id,
        "event": json_row(event),
        "fanout": state,
        "allowlist_active": engine.allowlist,
        "user_in_allowlist": engine.listed,
        "channels": [
            _channel(
                row, state, event, deliveries.get(row["channel"]), digests, engine,
                around[row["channel"]], now,
            )
            for row in sorted(decided, key=lambda row: CHANNELS.index(row["channel"]))
        ],
    }  # fmt: skip


def _decided(
    conn: db.Connection, asked: dict[str, Any], at: datetime, engine: Engine
) -> list[db.Row]:
    """What fan-out decides by the rules of now and the quota of ``at``."""
    return db.fetch_all(
        conn,
        DECIDED,
        {
            "event_id": asked["event_id"],
            "after_user_id": asked["user_id"] - 1,
            "range_size": 1,
            "allowlist": [asked["user_id"]],
            "channels_off": sorted(engine.off_since),
            "now": at,
            "day_start": day_window(at, engine.zone)[0],
        },
    )


def _engine(states: list[engine_state.EngineState], user_id: int) -> Engine:
    """What the engine's settings mean for the user, and since when."""
    newest = states[0]
    since = partial(engine_state.true_since, states)
    return Engine(
        zone=zone_of(newest.timezone, ZoneInfo("UTC")),
        period=newest.digest_period,
        enabled=newest.enabled,
        disabled_since=since(lambda state: not state.enabled),
        allowlist=newest.allowlist is not None,
        listed=newest.allowlist is None or user_id in newest.allowlist,
        listed_since=since(lambda state: state.allowlist is not None),
        off_since={
            name: since(partial(engine_state.is_off, name)) for name in newest.channels_off or ()
        },
    )


def _channel(
    row: db.Row,
    state: str,
    event: db.Row,
    delivery: db.Row | None,
    digests: dict[int, db.Row],
    engine: Engine,
    around: db.Row,
    now: datetime,
) -> dict[str, Any]:
    """One channel: the decision, its figures, a sentence, and the resulting rows."""
    digest = digests.get(delivery["digest_id"]) if delivery else None
    today = row["reason"] or "created"
    decision, kind = _decision(row, state, delivery, engine)
    taken = delivery is not None or state == "done"
    said = sentences.about(
        Case(
            channel=row["channel"],
            decision=decision,
            kind=kind,
            taken=taken,
            rules=row,
            event=event,
            delivery=delivery,
            digest=digest,
            window=WINDOWS[engine.period](event["created_at"], engine.zone),
            around=around,
            engine=engine,
            clock=Clockface(now, engine.zone),
            wall=Clockface(around["read_at"], engine.zone),
        )
    )
    told: dict[str, Any] = {
        "channel": row["channel"],
        "decision": decision,
        "kind": kind,
        "taken": taken,
        "summary": said.summary,
        "action": said.action,
        "page": said.page,
        "figures": _figures(row),
        "delivery": delivery and json_row(delivery),
        "digest": digest and json_row(digest),
    }
    if delivery is not None and today not in ("created", "exists"):
        told["today"] = today  # the current rules would decide otherwise
    return told


def _decision(
    row: db.Row, state: str, delivery: db.Row | None, engine: Engine
) -> tuple[str, str | None]:
    """What was or will be decided, and the kind of the delivery if there is to be one."""
    if delivery is not None:
        return "created", delivery["kind"]
    if not engine.listed:
        return "not_in_allowlist", None
    if row["reason"]:
        return row["reason"], None
    if state == "done":
        return "changed_since", None
    if state == "expired":
        return "fanout_expired", None
    return "created", row["kind"]


def _figures(row: db.Row) -> dict[str, Any]:
    return {
        "plan": row["plan_code"],
        "plan_allows_type": row["type_allowed"],
        "plan_allows_channel": row["channel_allowed"],
        "preferences": row["preferences"],
        "preference_matched": row["wanted"],
        "matching_preferences": row["matching_preferences"] or [],
        "closest_preference": row["closest"],
        "channel_enabled": row["channel_enabled"],
        "digest_only": row["digest_only"],
        "destination_present": row["reachable"],
        "quota_used": row["quota_used"],
        "quota_limit": row["quota_limit"],
        "overflow_to_digest": row["overflow"],
    }
