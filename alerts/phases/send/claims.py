"""Claiming in SQL, the same for deliveries and digests.

A row to send is in ``alerts_send_queue`` or among the ids of one lease, never both: a claim moves
rows from the queue into a lease, recording moves them out of it (:mod:`alerts.phases.send.leases`).
Leases run on PostgreSQL's wall clock; due times on the business clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from psycopg2 import sql

from alerts.phases.channel_sql import REFUSALS_OF_AN_ADDRESS, destination
from alerts.phases.send.statements import Session, Statement, numbered

CLAIM_SECONDS = 120
# What one lease holds at most: what is recorded writes the rest of it anew, which is best short
# enough to stay in its row.
LEASE_ROWS = 200

# What sending leaves out of a queue q although it is due, as the code to skip it with: what has
# become too old (digests do not: three days without a run are three digests), and what its user
# has switched off since. Repair asks the same before it queues a row again. The preference is a
# scalar: one look by primary key for each row, where an EXISTS may read the whole table.
LEFT_OUT = """
CASE
    WHEN q.created_at < {too_old} THEN 'expired'
    WHEN (
        SELECT TRUE
        FROM user_channel_prefs AS p
        WHERE p.user_id = q.user_id AND p.channel = q.channel AND p.enabled IS FALSE
        LIMIT 1
    ) THEN 'channel_disabled'
END
"""


@dataclass(frozen=True)
class Queue:
    """One of the two tables rows are sent from, with what differs between them."""

    name: str  # as in the counts, and the source in the queue and in leases
    table: str
    to_send: str  # what its rows must be
    since: str  # what a row waits since that has not been tried
    event: str
    window: str  # the period and the ends of a digest's window


DELIVERIES = Queue(
    name="deliveries",
    table="user_alert_deliveries",
    to_send="q.status = 'queued' AND q.delivery_kind = 'instant'",
    since="q.created_at",
    event="q.alert_event_id",
    window="NULL::text, NULL::timestamptz, NULL::timestamptz",
)
DIGESTS = Queue(
    name="digests",
    table="user_alert_digests",
    to_send="q.status = 'queued'",
    since="q.window_end",
    event="NULL::bigint",
    window="q.period, q.window_start::timestamptz, q.window_end::timestamptz",
)
QUEUES = (DELIVERIES, DIGESTS)
QUEUE_OF = {queue.name: queue for queue in QUEUES}


class Claim(NamedTuple):
    """A row that is ours to send, as it was when claimed."""

    source: str
    lease: int
    id: int
    user_id: int
    channel: str
    attempts: int
    failure_code: str | None
    created_at: str  # in seconds since 1970; it is only handed on
    event_id: int | None = None  # of an instant delivery
    destination: str | None = None
    period: str | None = None  # the last three: of a digest
    window_start: datetime | None = None
    window_end: datetime | None = None


@dataclass
class Claimed:
    """The result of one claim: rows to send, and those that were skipped instead."""

    to_send: list[Claim] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)  # by code
    by_channel: Counter[str] = field(default_factory=Counter)  # all rows moved


# Per channel the oldest due rows. What sending leaves out is skipped in the same step, unsent; a
# row that someone else is changing stays where it is. An entry of the queue whose row is no
# longer queued goes: only what was done with the triggers switched off leaves one.
_CLAIM = """
WITH lane AS (
    SELECT *
    FROM unnest({channels}, {rooms}) AS l (channel, room)
    -- Asked with every claim: a pause ends a run that is under way as well.
    WHERE NOT EXISTS (SELECT FROM alerts_pauses AS p WHERE p.channel IN ('all', l.channel))
      -- And any other sender's closing. Of what is closed only who probes it claims.
      AND (l.channel = ANY ({exempt}) OR NOT EXISTS (
          SELECT
          FROM alerts_channel_state AS s
          WHERE s.channel = l.channel AND s.closed_since IS NOT NULL
      ))
),
due AS MATERIALIZED (
    SELECT picked.*
    FROM lane
    CROSS JOIN LATERAL (
        SELECT s.id, s.due_at
        FROM alerts_send_queue AS s
        WHERE s.source = {source} AND s.channel = lane.channel AND s.due_at <= {now}
          AND ({allowlist} IS NULL OR s.user_id = ANY ({allowlist}))
        ORDER BY s.due_at, s.id
        LIMIT lane.room
        FOR UPDATE SKIP LOCKED
    ) AS picked
    ORDER BY picked.due_at, picked.id
    LIMIT {limit}
),
found AS MATERIALIZED (  -- or what sending leaves out is asked for each column
    SELECT
        q.*, due.due_at,
        coalesce(
            {left_out},
            CASE WHEN q.channel = ANY ({unconfigured}) THEN 'channel_not_configured' END
        ) AS skip_code,
        (row_number() OVER () - 1) / {lease_rows} AS part
    FROM due
    JOIN {table} AS q ON q.id = due.id
    WHERE {to_send}
),
leaving AS MATERIALIZED (
    SELECT q.id
    FROM found
    JOIN {table} AS q ON q.id = found.id
    WHERE found.skip_code IS NOT NULL
    FOR UPDATE OF q SKIP LOCKED
),
skipped AS (
    UPDATE {table} AS q
    SET status = 'skipped', failure_code = found.skip_code, next_retry_at = NULL
    FROM leaving
    JOIN found ON found.id = leaving.id
    WHERE q.id = leaving.id AND q.status = 'queued'
    RETURNING q.id
),
taken AS (
    DELETE FROM alerts_send_queue AS s
    USING due
    WHERE s.source = {source} AND s.id = due.id
      AND due.id NOT IN (SELECT id FROM found WHERE skip_code IS NOT NULL)
    RETURNING s.id
),
held AS MATERIALIZED (
    SELECT part, nextval('alerts_leases_id_seq') AS lease, array_agg(id) AS ids
    FROM found
    WHERE skip_code IS NULL
    GROUP BY part
),
leases AS (
    INSERT INTO alerts_leases (id, run_id, source, until, ids)
    SELECT lease, {run_id}, {source}, clock_timestamp() + {seconds}, ids
    FROM held
)
SELECT
    q.skip_code, {source}, held.lease, q.id, q.user_id, q.channel, q.attempts, q.failure_code,
    extract(epoch FROM q.created_at::timestamptz)::text,
    {event},
    CASE
        WHEN refused.user_id IS NULL
            OR refused.address_hash IS DISTINCT FROM alerts_address_hash(
                q.user_id::bigint, q.channel::text, {destination}
            )
            THEN {destination}
    END,
    {window}
FROM found AS q
LEFT JOIN held ON held.part = q.part
LEFT JOIN users AS u ON u.id = q.user_id
LEFT JOIN alerts_refused_addresses AS refused  -- an address refused too often counts as none
    ON refused.user_id = q.user_id AND refused.channel = q.channel
    AND refused.refusals >= {refusals}
WHERE q.skip_code IS NULL OR q.id IN (SELECT id FROM skipped)
ORDER BY q.due_at, q.id
"""


def parts_of(queue: Queue) -> dict[str, sql.Composable]:
    """What statements name of a queue."""
    names = ("to_send", "since", "event", "window")
    parts: dict[str, sql.Composable] = {name: sql.SQL(getattr(queue, name)) for name in names}
    return {**parts, "table": sql.Identifier(queue.table), "source": sql.Literal(queue.name)}


def _claim_statement(queue: Queue) -> Statement:
    parameters = {
        "run_id": "text", "channels": "text[]", "rooms": "integer[]", "limit": "integer",
        "now": "timestamptz", "too_old": "timestamptz", "unconfigured": "text[]",
        "exempt": "text[]", "allowlist": "bigint[]", "seconds": "interval",
    }  # fmt: skip
    marks = numbered(parameters)
    text = sql.SQL(_CLAIM).format(
        **parts_of(queue),
        **marks,
        lease_rows=sql.Literal(LEASE_ROWS),
        left_out=sql.SQL(LEFT_OUT).format(too_old=marks["too_old"]),
        destination=destination("u", "q"),
        refusals=sql.Literal(REFUSALS_OF_AN_ADDRESS),
    )
    return Statement(f"claim_{queue.name}", parameters, text)


_CLAIMS = {queue.name: _claim_statement(queue) for queue in QUEUES}


def too_old(queue: Queue, max_age_hours: int, now: datetime) -> datetime | None:
    """Before when a row of the queue is too old to send; None: never."""
    if not max_age_hours or queue is not DELIVERIES:
        return None
    return now - timedelta(hours=max_age_hours)


def claim_due(
    session: Session,
    queue: Queue,
    *,
    run_id: str,
    now: datetime,
    rooms: dict[str, int],
    limit: int,
    unconfigured: Sequence[str],
    max_age_hours: int,
    allowlist: Sequence[int] | None,
    exempt: Sequence[str] = (),
) -> Claimed:
    """Claim due rows: at most ``rooms[channel]`` a channel and ``limit`` in all.

    Rows of :data:`LEFT_OUT` and rows of ``unconfigured`` channels end as ``skipped``. Of a
    channel that is closed nothing is claimed, unless it is ``exempt``.
    """
    values = {
        "run_id": run_id,
        "channels": list(rooms),
        "rooms": list(rooms.values()),
        "limit": limit,
        "now": now,
        "too_old": too_old(queue, max_age_hours, now),
        "unconfigured": list(unconfigured),
        "exempt": list(exempt),
        "allowlist": list(allowlist) if allowlist is not None else None,
        "seconds": f"{CLAIM_SECONDS} s",
    }
    rows = session.fetch(_CLAIMS[queue.name], values)
    claimed = Claimed(by_channel=Counter([row[5] for row in rows]))
    claimed.to_send = [Claim._make(row[1:]) for row in rows if row[0] is None]
    if len(claimed.to_send) < len(rows):
        claimed.skipped.update(row[0] for row in rows if row[0] is not None)
    return claimed
