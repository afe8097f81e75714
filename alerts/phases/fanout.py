"""Phase B: every event becomes at most one delivery per user and channel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime

import psycopg2
from psycopg2 import sql

from alerts import db
from alerts.phases.context import Counts, PhaseContext
from alerts.phases.decisions import DECISIONS, SKIP_REASONS
from alerts.product_days import day_window

# Users of one statement and transaction: large audiences are taken in ranges of ids, so that
# a kill costs one range and no transaction grows without bound.
USERS_PER_RANGE = 50_000

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

# What the steps of fan-out have found has no statistics, so the planner guesses how much it is.
# Taken for a few rows, each is compared with each, in a nested loop or in a merge by channel alone;
# a hash join of much or little costs about the same.
HASH_JOINS = "SET enable_nestloop = off; SET enable_mergejoin = off"
ALL_JOINS = "RESET enable_nestloop; RESET enable_mergejoin"

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
    if pending["event_ids"]:
        with _hash_joins(context.conn):
            stopped = _fan_out(context, pending["event_ids"], now, tally)
    tally["events_expired"] = pending["expired"]
    counts = _counts(tally, allowlist_active=context.settings.allowlist is not None)
    if stopped:
        counts["stopped_early"] = stopped
    return counts


@contextmanager
def _hash_joins(conn: db.Connection) -> Iterator[None]:
    """Have the session's joins hashed meanwhile."""
    db.execute(conn, HASH_JOINS)
    try:
        yield
    finally:
        with suppress(psycopg2.Error):  # the connection, or a transaction with the settings, ended
            db.execute(conn, ALL_JOINS)


def _fan_out(
    context: PhaseContext, event_ids: Sequence[int], now: datetime, tally: Counter[str]
) -> str | None:
    """The events in this order; the reason to stop if there was one."""
    for event_id in event_ids:
        stopped = _fan_out_event(context, event_id, now, tally)
        if stopped:
            return stopped
        tally["events_processed"] += 1
        context.progress("events", tally["events_processed"], len(event_ids))
    return None


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
