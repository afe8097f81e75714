"""Why a user did or did not get an alert: ``GET /explain`` and the ``explain`` command.

The decision comes from fan-out's own statement, the outcome from the delivery.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from psycopg2 import sql

from alerts import db
from alerts.channels.names import CHANNELS, DIGEST_CHANNELS
from alerts.lookup.deliveries import DELIVERY_COLUMNS, DIGEST_COLUMNS, LEASE
from alerts.paging import iso, json_row
from alerts.phases.fanout import DECISIONS
from alerts.product_days import day_window
from alerts.runs import engine_state
from alerts.settings.config import Settings

SINCE_HOURS = 24  # how far back a run looks by default

EVENT = """
SELECT
    alert_type, scope_region AS region, scope_assets AS assets, severity, risk_score,
    created_at::timestamptz AS created_at, fanout_completed_at::timestamptz AS fanout_completed_at
FROM alert_events
WHERE id = %(event_id)s AND created_at <= %(now)s
"""

# Fan-out's decision for one user, one row per channel, and the figures behind it.
DECIDED = sql.SQL("""
WITH {decisions}
SELECT
    d.channel, d.reason, d.kind, d.overflow, d.quota_used, d.quota_limit,
    m.plan_code, m.type_allowed, m.wanted, m.channel_enabled, m.digest_only, m.reachable,
    m.channel_allowed,
    (SELECT count(*) FROM effective_prefs) AS preferences,
    (SELECT array_agg(pref_id ORDER BY pref_id) FROM matching WHERE pref_id IS NOT NULL)
        AS matching_preferences
FROM decisions AS d
JOIN metered AS m ON m.user_id = d.user_id AND m.channel = d.channel
""").format(decisions=DECISIONS)

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

    The allowlist and the time zone are those that the engine last ran with.
    """
    asked = {"event_id": event_id, "user_id": user_id, "now": now}
    event = db.fetch_one(conn, EVENT, asked)
    if event is None:
        return "event"
    if db.fetch_one(conn, "SELECT 1 FROM users WHERE id = %(user_id)s", asked) is None:
        return "user"
    engine = engine_state.current(conn, settings)
    done = event["fanout_completed_at"]
    at = done or now
    decided = db.fetch_all(
        conn,
        DECIDED,
        {
            "event_id": event_id,
            "after_user_id": user_id - 1,
            "range_size": 1,
            "allowlist": [user_id],
            "channels_off": sorted(engine.channels_off or ()),
            "now": at,
            "day_start": day_window(at, ZoneInfo(engine.timezone))[0],
        },
    )
    deliveries = {row["channel"]: row for row in db.fetch_all(conn, DELIVERIES, asked)}
    ids = [row["digest_id"] for row in deliveries.values() if row["digest_id"]]
    digests = {row["id"]: row for row in db.fetch_all(conn, DIGESTS, {"ids": ids})}
    listed = engine.allowlist is None or user_id in engine.allowlist
    expired = done is None and event["created_at"] <= now - timedelta(hours=SINCE_HOURS)
    state = "done" if done else "expired" if expired else "pending"
    return {
        "event_id": event_id,
        "user_id": user_id,
        "event": json_row(event),
        "fanout": state,
        "allowlist_active": engine.allowlist is not None,
        "user_in_allowlist": listed,
        "channels": [
            _channel(row, state, listed, deliveries.get(row["channel"]), digests, event)
            for row in sorted(decided, key=lambda row: CHANNELS.index(row["channel"]))
        ],
    }


def _channel(
    row: db.Row,
    state: str,
    listed: bool,
    delivery: db.Row | None,
    digests: dict[int, db.Row],
    event: db.Row,
) -> dict[str, Any]:
    """One channel: the decision, its figures, a sentence, and the resulting rows."""
    digest = digests.get(delivery["digest_id"]) if delivery else None
    today = row["reason"] or "created"
    decision, kind = today, row["kind"] if today == "created" else None
    if delivery is not None:
        decision, kind = "created", delivery["kind"]
    elif not listed:
        decision, kind = "not_in_allowlist", None
    elif state == "done" and today == "created":
        decision, kind = "changed_since", None
    elif state == "expired" and today == "created":
        decision, kind = "fanout_expired", None
    told: dict[str, Any] = {
        "channel": row["channel"],
        "decision": decision,
        "kind": kind,
        "taken": delivery is not None or state == "done",
        "summary": (
            _became(delivery, digest) + _digest_since(kind, row)
            if delivery
            else _why_not(decision, row, event)
        ),
        "figures": {
            "plan": row["plan_code"],
            "plan_allows_type": row["type_allowed"],
            "plan_allows_channel": row["channel_allowed"],
            "preference_matched": row["wanted"],
            "matching_preferences": row["matching_preferences"] or [],
            "channel_enabled": row["channel_enabled"],
            "digest_only": row["digest_only"],
            "destination_present": row["reachable"],
            "quota_used": row["quota_used"],
            "quota_limit": row["quota_limit"],
            "overflow_to_digest": row["overflow"],
        },
        "delivery": delivery and json_row(delivery),
        "digest": digest and json_row(digest),
    }
    if delivery is not None and today not in ("created", "exists"):
        told["today"] = today  # the current rules would decide otherwise
    return told


def _why_not(decision: str, row: db.Row, event: db.Row) -> str:
    """Why there is no delivery, or which one the next run will create."""
    plan, channel = row["plan_code"], row["channel"]
    switched = "the user has switched the channel off"
    if channel not in DIGEST_CHANNELS and row["digest_only"] and row["channel_enabled"]:
        switched = f"the user wants digests only, which {channel} does not have"
    unwanted = "no enabled preference matches type, region, asset and threshold together"
    if row["wanted"]:
        unwanted = switched
    return {
        "channel_off": f"not created: {channel} is switched off (ALERTS_CHANNELS_OFF)",
        "plan_type": f"not created: the plan {plan} does not include {event['alert_type']}",
        "prefs": f"not created: {unwanted}",
        "missing_destination": "not created: the user has no (verified) address for the channel, "
        "or one that was refused too often",
        "channel_not_in_plan": f"not created: the plan {plan} does not include {channel}",
        "quota": f"not created: {row['quota_used']} of {row['quota_limit']} {channel} alerts of "
        "the day were used",
        "not_in_allowlist": "not created: an allowlist is active and the user is not on it",
        "changed_since": "not created; with today's plan, preferences and addresses it would be",
        "fanout_expired": f"not created: the event was not fanned out within {SINCE_HOURS} hours",
    }.get(decision, f"will be created as {row['kind']} with the next run")


def _became(delivery: db.Row, digest: db.Row | None) -> str:
    """The delivery's outcome so far."""
    if digest is not None:
        if digest["status"] == "queued" and digest["next_retry_at"] is None:
            return f"in digest {digest['id']}, which is sent after {iso(digest['window_end'])}"
        return f"in digest {digest['id']}, which is {_state(digest)}"
    if delivery["kind"] == "digest" and delivery["status"] == "queued":
        return "queued for the digest of its day, which is built when the window has closed"
    return _state(delivery)


def _digest_since(kind: str | None, row: db.Row) -> str:
    """Why a delivery goes into a digest if the user did not choose that."""
    if kind != "digest" or not row["overflow"]:
        return ""
    return f" ({row['quota_used']} of {row['quota_limit']} instant alerts of the day were used)"


def _state(row: db.Row) -> str:
    code, tries = row["failure_code"], row["attempts"]
    if row["status"] == "sent":
        return f"sent at {iso(row['sent_at'])}"
    if row["status"] == "failed":
        return f"failed with {code} after {tries} attempt(s), at {iso(row['failed_at'])}"
    if row["status"] == "skipped":
        return f"skipped as {code}"
    if row["status"] == "sending":
        return "being sent"
    if row["next_retry_at"]:
        at = iso(row["next_retry_at"])
        return f"waiting for another attempt at {at}, after {tries} attempt(s) and {code}"
    return f"queued since {iso(row['created_at'])}"
