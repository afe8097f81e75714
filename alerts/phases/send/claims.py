"""The send queue in SQL: claim, renew, record, rescue, the same for deliveries and digests.

A row to send is in ``alerts_send_queue`` or among the ids of one lease, never both: a claim moves
rows from the queue into a lease, recording moves them out of it. Recording names the lease and the
state that a row must have, and reports the rows it really moved. Leases run on PostgreSQL's wall
clock; due times on the business clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from psycopg2 import sql

from alerts import db
from alerts.phases.channel_sql import destination
from alerts.phases.send.statements import Session, Statement, array, numbered, text_array

CLAIM_SECONDS = 120

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
    """A row that is ours to send, as it was when claimed.

    Times that are only handed on stay texts.
    """

    source: str
    lease: int
    id: int
    user_id: int
    channel: str
    attempts: int
    failure_code: str | None
    next_retry_at: str | None
    created_at: str  # in seconds since 1970
    event_id: int | None = None  # of an instant delivery
    destination: str | None = None
    period: str | None = None  # the last three: of a digest
    window_start: datetime | None = None
    window_end: datetime | None = None


class Outcome(NamedTuple):
    """What a claimed row becomes. ``tried`` is 1 when the provider may have been called."""

    claim: Claim
    status: str
    tried: int
    failure_code: str | None = None
    last_error: str | None = None
    next_retry_at: datetime | str | None = None
    provider_message_id: str | None = None


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
        ) AS skip_code
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
lease AS (
    INSERT INTO alerts_leases (run_id, source, until, ids)
    SELECT {run_id}, {source}, clock_timestamp() + {seconds}, held.ids
    FROM (SELECT array_agg(id ORDER BY id) AS ids FROM found WHERE skip_code IS NULL) AS held
    WHERE held.ids IS NOT NULL
    RETURNING id
)
SELECT
    q.skip_code, {source}, lease.id, q.id, q.user_id, q.channel, q.attempts, q.failure_code,
    q.next_retry_at::timestamptz::text, extract(epoch FROM q.created_at::timestamptz)::text,
    {event}, {destination}, {window}
FROM found AS q
LEFT JOIN lease ON TRUE
LEFT JOIN users AS u ON u.id = q.user_id
WHERE q.skip_code IS NULL OR q.id IN (SELECT id FROM skipped)
ORDER BY q.due_at, q.id
"""

# Under our own living leases only, and only what they hold. The set of what they hold is hashed:
# a join could be planned for few rows and compare each with each.
_RECORD = """
WITH held AS MATERIALIZED (
    SELECT id, ids
    FROM alerts_leases
    WHERE id = ANY ({leases}) AND run_id = {run_id} AND until > clock_timestamp()
    FOR UPDATE
),
moved AS (
    UPDATE {table} AS q
    SET
        status = o.status,
        attempts = q.attempts + o.tried,
        next_retry_at = o.next_retry_at,
        failure_code = o.failure_code,
        last_error = CASE WHEN o.tried = 0 THEN q.last_error ELSE o.last_error END,
        provider_message_id = coalesce(o.provider_message_id, q.provider_message_id),
        sent_at = CASE WHEN o.status = 'sent' THEN {now} END,
        failed_at = CASE WHEN o.status = 'failed' THEN {now} END
    FROM unnest(
        {ids}, {statuses}, {tried}, {retries}, {codes}, {errors}, {message_ids}
    ) AS o (id, status, tried, next_retry_at, failure_code, last_error, provider_message_id)
    WHERE q.id = o.id AND {to_send}
      AND (o.id IN (SELECT unnest(ids) FROM held)) IS TRUE
    RETURNING
        q.id, q.status, q.channel, q.user_id,
        alerts_due_at({since}::timestamptz, q.next_retry_at::timestamptz) AS due_at
),
back AS (
    INSERT INTO alerts_send_queue (source, id, channel, due_at, user_id)
    SELECT {source}, id, channel, due_at, user_id
    FROM moved
    WHERE status = 'queued'
    ON CONFLICT DO NOTHING
),
remaining AS MATERIALIZED (
    SELECT
        id,
        ARRAY(SELECT unnest(held.ids) EXCEPT ALL SELECT moved.id FROM moved ORDER BY 1) AS ids
    FROM held
),
smaller AS (
    UPDATE alerts_leases AS l
    SET ids = r.ids
    FROM remaining AS r
    WHERE l.id = r.id AND cardinality(r.ids) > 0
),
done AS (
    DELETE FROM alerts_leases AS l
    USING remaining AS r
    WHERE l.id = r.id AND cardinality(r.ids) = 0
)
SELECT id FROM moved
"""

_RENEW = """
UPDATE alerts_leases
SET until = clock_timestamp() + %(seconds)s * interval '1 second'
WHERE run_id = %(run_id)s
"""

# A lease whose run went away, made ours. What became of its rows is then recorded like any other
# outcome, so the retry rules stand in one place.
_ADOPT = """
WITH lapsed AS (
    SELECT id
    FROM alerts_leases
    WHERE until < clock_timestamp()
    ORDER BY id
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
UPDATE alerts_leases AS l
SET run_id = %(run_id)s, until = clock_timestamp() + %(seconds)s * interval '1 second'
FROM lapsed
WHERE l.id = lapsed.id
RETURNING l.id, l.source
"""

# Rows that only this lease holds: nothing else can send them.
_IN_DOUBT = """
FROM alerts_leased AS held
JOIN {table} AS q ON q.id = held.id
WHERE held.lease_id = %(lease)s AND held.run_id = %(run_id)s AND {to_send}
  AND NOT EXISTS (
      SELECT FROM alerts_send_queue AS s WHERE s.source = held.source AND s.id = held.id
  )
  AND NOT EXISTS (
      SELECT
      FROM alerts_leased AS other
      WHERE other.source = held.source AND other.id = held.id AND other.lease_id <> held.lease_id
  )
"""
_LOST = """
SELECT
    held.source, held.lease_id, q.id, q.user_id, q.channel, q.attempts, q.failure_code,
    q.next_retry_at::timestamptz::text, extract(epoch FROM q.created_at::timestamptz)::text
{in_doubt}
ORDER BY q.id
LIMIT %(limit)s
"""
_LOCK_LEASE = "SELECT FROM alerts_leases WHERE id = %(lease)s AND run_id = %(run_id)s FOR UPDATE"
_LET_GO = """
DELETE FROM alerts_leases
WHERE id = %(lease)s AND run_id = %(run_id)s AND NOT EXISTS (SELECT {in_doubt})
"""


def _parts(queue: Queue) -> dict[str, sql.Composable]:
    names = ("to_send", "since", "event", "window")
    parts: dict[str, sql.Composable] = {name: sql.SQL(getattr(queue, name)) for name in names}
    return {**parts, "table": sql.Identifier(queue.table), "source": sql.Literal(queue.name)}


def _claim_statement(queue: Queue) -> Statement:
    parameters = {
        "run_id": "text", "channels": "text[]", "rooms": "integer[]", "limit": "integer",
        "now": "timestamptz", "too_old": "timestamptz", "unconfigured": "text[]",
        "allowlist": "bigint[]", "seconds": "interval",
    }  # fmt: skip
    marks = numbered(parameters)
    text = sql.SQL(_CLAIM).format(
        **_parts(queue),
        **marks,
        left_out=sql.SQL(LEFT_OUT).format(too_old=marks["too_old"]),
        destination=destination("u", "q"),
    )
    return Statement(f"claim_{queue.name}", parameters, text)


def _record_statement(queue: Queue) -> Statement:
    parameters = {
        "run_id": "text", "leases": "bigint[]", "now": "timestamptz", "ids": "bigint[]",
        "statuses": "text[]", "tried": "integer[]", "retries": "timestamptz[]", "codes": "text[]",
        "errors": "text[]", "message_ids": "text[]",
    }  # fmt: skip
    text = sql.SQL(_RECORD).format(**_parts(queue), **numbered(parameters))
    return Statement(f"record_{queue.name}", parameters, text)


_CLAIMS = {queue.name: _claim_statement(queue) for queue in QUEUES}
_RECORDS = {queue.name: _record_statement(queue) for queue in QUEUES}


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
) -> Claimed:
    """Claim due rows: at most ``rooms[channel]`` a channel and ``limit`` in all.

    Rows of :data:`LEFT_OUT` and rows of ``unconfigured`` channels end as ``skipped``.
    """
    values = {
        "run_id": run_id,
        "channels": list(rooms),
        "rooms": list(rooms.values()),
        "limit": limit,
        "now": now,
        "too_old": too_old(queue, max_age_hours, now),
        "unconfigured": list(unconfigured),
        "allowlist": list(allowlist) if allowlist is not None else None,
        "seconds": f"{CLAIM_SECONDS} s",
    }
    rows = session.fetch(_CLAIMS[queue.name], values)
    claimed = Claimed(by_channel=Counter([row[5] for row in rows]))
    claimed.to_send = [Claim._make(row[1:]) for row in rows if row[0] is None]
    if len(claimed.to_send) < len(rows):
        claimed.skipped.update(row[0] for row in rows if row[0] is not None)
    return claimed


def renew(conn: db.Connection, run_id: str) -> None:
    """Move the end of every lease of this run ahead."""
    db.execute(conn, _RENEW, {"run_id": run_id, "seconds": CLAIM_SECONDS})


def record(
    session: Session, queue: Queue, run_id: str, now: datetime, outcomes: Sequence[Outcome]
) -> set[int]:
    """Store outcomes of one queue in one statement.

    Returns the ids that moved. An outcome that is missing there came too late: its lease had
    lapsed and someone else has the row now, or the row was changed by hand. Such an id stays in
    its lease, if that is still there, and is looked at again when that lapses.
    """
    claims, statuses, tried, codes, errors, retries, message_ids = zip(*outcomes, strict=True)
    values = {
        "run_id": run_id,
        "leases": array({claim.lease for claim in claims}),
        "now": now,
        "ids": array([claim.id for claim in claims]),
        "statuses": array(statuses),
        "tried": array(tried),
        "retries": text_array(retries),
        "codes": array(codes),
        "errors": text_array(errors),
        "message_ids": text_array(message_ids),
    }
    return {row[0] for row in session.fetch(_RECORDS[queue.name], values)}


def adopt_lapsed(conn: db.Connection, run_id: str) -> tuple[Queue, int] | None:
    """Take over a lease that has lapsed: the queue of its rows, and its id."""
    row = db.fetch_one(conn, _ADOPT, {"run_id": run_id, "seconds": CLAIM_SECONDS})
    return None if row is None else (QUEUE_OF[row["source"]], row["id"])


def lost_rows(
    conn: db.Connection, queue: Queue, run_id: str, lease: int, limit: int
) -> list[Claim]:
    """Rows that only this lease of ours holds, at most so many: their messages may have gone."""
    query = sql.SQL(_LOST).format(in_doubt=sql.SQL(_IN_DOUBT).format(**_parts(queue)))
    with conn.cursor() as cursor:
        cursor.execute(query, {"lease": lease, "run_id": run_id, "limit": limit})
        return [Claim(*row) for row in cursor.fetchall()]


def let_go(conn: db.Connection, queue: Queue, run_id: str, lease: int) -> bool:
    """Delete a lease that holds no row in doubt; False where it still does. Only one of ours.

    It is locked before its rows are looked at, in a statement of their own: one that somebody
    queues again meanwhile is either seen, or enters the queue.
    """
    query = sql.SQL(_LET_GO).format(in_doubt=sql.SQL(_IN_DOUBT).format(**_parts(queue)))
    mine = {"lease": lease, "run_id": run_id}
    with db.transaction(conn):
        ours = db.execute(conn, _LOCK_LEASE, mine)
        return db.execute(conn, query, mine) == ours
