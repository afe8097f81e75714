"""Claiming in SQL, the same for deliveries and digests.

A row to send is in ``alerts_send_queue`` or among the ids of one lease, never both: a claim moves
rows from the queue into a lease, recording moves them out of it (:mod:`alerts.phases.send.leases`).
Leases run on PostgreSQL's wall clock; due times on the business clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from psycopg2 import sql

from alerts.phases.channel_sql import REFUSALS_OF_AN_ADDRESS, destination
from alerts.phases.send.statements import Session, Statement, array, numbered, text_array

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


# Guards of a state, for rows that are looked up by their keys. COALESCE keeps the planner from
# estimating them: statistics may say that no row is queued, and then it compares each row of the
# table with each that is asked for.
QUEUED = "coalesce(q.status = 'queued', FALSE)"
QUEUED_INSTANT = "coalesce(q.status = 'queued' AND q.delivery_kind = 'instant', FALSE)"


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
    to_send=QUEUED_INSTANT,
    since="q.created_at",
    event="q.alert_event_id",
    window="NULL::text AS period, NULL::timestamptz AS window_start, "
    "NULL::timestamptz AS window_end",
)
DIGESTS = Queue(
    name="digests",
    table="user_alert_digests",
    to_send=QUEUED,
    since="q.window_end",
    event="NULL::bigint",
    window="q.period, q.window_start::timestamptz AS window_start, "
    "q.window_end::timestamptz AS window_end",
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
    created_at: str  # as the database writes it; it is only handed on
    event_id: int | None = None  # of an instant delivery
    destination: str | None = None
    period: str | None = None  # the three: of a digest
    window_start: datetime | None = None
    window_end: datetime | None = None
    due_at: str | None = None  # None: since it was created


Mark = tuple[str, int]  # due time and id of the last row of a claim
FIRST: Mark = ("-infinity", -(2**63))


@dataclass
class Claimed:
    """The result of one claim: rows to send, and those that were skipped instead."""

    to_send: list[Claim] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)  # by code
    by_channel: Counter[str] = field(default_factory=Counter)  # all rows moved
    last: dict[str, Mark] = field(default_factory=dict)  # by channel, of all rows moved


# Per channel the oldest due rows, from where the last claim ended. What sending leaves out is
# skipped in the same step, unsent; a row that someone else is changing stays where it is. An entry
# of the queue whose row is no longer queued goes: only what was done with the triggers switched
# off leaves one. Entries leave by their place in the table, which their lock keeps as it is; one
# that was changed between the statement's snapshot and the lock stays, and so is not ours. What a
# step has found is looked for in a hashed set (IS TRUE keeps it one): a join could be planned for
# few rows and compare each with each.
_CLAIM = """
WITH lane AS (
    SELECT *
    FROM unnest(
        {channels}, {rooms}, {after_due}, {after_ids}
    ) AS l (channel, room, after_due, after_id)
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
        SELECT s.id, s.due_at, s.ctid AS place
        FROM alerts_send_queue AS s
        WHERE s.source = {source} AND s.channel = lane.channel AND s.due_at <= {now}
          AND (s.due_at, s.id) > (lane.after_due, lane.after_id)
          AND ({allowlist} IS NULL OR s.user_id = ANY ({allowlist}))
        ORDER BY s.due_at, s.id
        LIMIT lane.room
        FOR UPDATE SKIP LOCKED
    ) AS picked
    ORDER BY picked.due_at, picked.id
    LIMIT {limit}
),
found AS MATERIALIZED (
    SELECT
        due.due_at, q.id, q.user_id, q.channel, q.attempts, q.failure_code,
        q.created_at::timestamptz AS created_at, {event} AS event_id,
        CASE
            WHEN refused.user_id IS NULL
                OR refused.address_hash IS DISTINCT FROM alerts_address_hash(
                    q.user_id::bigint, q.channel::text, {destination}
                )
                THEN {destination}
        END AS destination,
        {window},
        coalesce(
            {left_out},
            CASE WHEN q.channel = ANY ({unconfigured}) THEN 'channel_not_configured' END
        ) AS skip_code
    FROM due
    JOIN {table} AS q ON q.id = due.id
    LEFT JOIN users AS u ON u.id = q.user_id
    LEFT JOIN alerts_refused_addresses AS refused  -- an address refused too often counts as none
        ON refused.user_id = q.user_id AND refused.channel = q.channel
        AND refused.refusals >= {refusals}
    WHERE {to_send}
),
leaving AS MATERIALIZED (
    SELECT q.id, found.skip_code
    FROM found
    JOIN {table} AS q ON q.id = found.id
    WHERE found.skip_code IS NOT NULL
    FOR UPDATE OF q SKIP LOCKED
),
skipped AS (
    UPDATE {table} AS q
    SET status = 'skipped', failure_code = leaving.skip_code, next_retry_at = NULL
    FROM leaving
    WHERE q.id = leaving.id AND {queued}
    RETURNING q.id
),
taken AS (
    DELETE FROM alerts_send_queue AS s
    WHERE s.ctid = ANY (ARRAY(
        SELECT place FROM due WHERE id NOT IN (SELECT id FROM found WHERE skip_code IS NOT NULL)
    ))
    RETURNING s.id
),
numbers AS MATERIALIZED (  -- of the leases, as many as there can be
    SELECT array_agg(nextval('alerts_leases_id_seq')) AS ids
    FROM generate_series(0, ({limit} - 1) / {lease_rows})
),
mine AS MATERIALIZED (
    SELECT
        found.*,
        (SELECT ids FROM numbers)[(row_number() OVER () - 1) / {lease_rows} + 1] AS lease
    FROM found
    WHERE found.skip_code IS NULL AND (found.id IN (SELECT id FROM taken)) IS TRUE
),
leases AS (
    INSERT INTO alerts_leases (id, run_id, source, until, ids)
    SELECT lease, {run_id}, {source}, clock_timestamp() + {seconds}, array_agg(id)
    FROM mine
    GROUP BY lease
)
SELECT
    skip_code, lease, id, user_id, channel, attempts, failure_code, created_at::text, event_id,
    destination, period, window_start, window_end, nullif(due_at, created_at)::text
FROM (
    SELECT * FROM mine
    UNION ALL
    SELECT found.*, NULL FROM found WHERE (found.id IN (SELECT id FROM skipped)) IS TRUE
) AS q
ORDER BY due_at, id
"""


def parts_of(queue: Queue) -> dict[str, sql.Composable]:
    """What statements name of a queue."""
    names = ("to_send", "since", "event", "window")
    parts: dict[str, sql.Composable] = {name: sql.SQL(getattr(queue, name)) for name in names}
    return {**parts, "table": sql.Identifier(queue.table), "source": sql.Literal(queue.name)}


def _claim_statement(queue: Queue) -> Statement:
    parameters = {
        "run_id": "text", "channels": "text[]", "rooms": "integer[]",
        "after_due": "timestamptz[]", "after_ids": "bigint[]", "limit": "integer",
        "now": "timestamptz", "too_old": "timestamptz", "unconfigured": "text[]",
        "exempt": "text[]", "allowlist": "bigint[]", "seconds": "interval",
    }  # fmt: skip
    marks = numbered(parameters)
    text = sql.SQL(_CLAIM).format(
        **parts_of(queue),
        **marks,
        lease_rows=sql.Literal(LEASE_ROWS),
        queued=sql.SQL(QUEUED),
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
    rooms: Mapping[str, int],
    limit: int,
    unconfigured: Sequence[str],
    max_age_hours: int,
    allowlist: Sequence[int] | None,
    exempt: Sequence[str] = (),
    after: Mapping[str, Mark] | None = None,
) -> Claimed:
    """Claim due rows: at most ``rooms[channel]`` a channel and ``limit`` in all, of a channel in
    ``after`` only those that come later in its order.

    Rows of :data:`LEFT_OUT` and rows of ``unconfigured`` channels end as ``skipped``. Of a
    channel that is closed nothing is claimed, unless it is ``exempt``.
    """
    marks = [(after or {}).get(channel, FIRST) for channel in rooms]
    values = {
        "run_id": run_id,
        "after_due": text_array(due_at for due_at, _ in marks),
        "after_ids": array(row for _, row in marks),
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
    claimed = Claimed(by_channel=Counter([row[4] for row in rows]))
    claimed.last = {row[4]: (row[13] or row[7], row[2]) for row in rows}
    source = (queue.name,)
    claimed.to_send = [Claim._make(source + row[1:]) for row in rows if row[0] is None]
    if len(claimed.to_send) < len(rows):
        claimed.skipped.update(row[0] for row in rows if row[0] is not None)
    return claimed
