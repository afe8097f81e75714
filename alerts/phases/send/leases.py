"""What a run holds: recording its outcomes, keeping it, and taking over what a lost run held.

Recording names the lease and the state that a row must have, and reports the rows it really moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from psycopg2 import sql

from alerts import db
from alerts.phases.send.claims import CLAIM_SECONDS, QUEUE_OF, QUEUES, Claim, Queue, parts_of
from alerts.phases.send.statements import Session, Statement, array, numbered, text_array


class Outcome(NamedTuple):
    """What a claimed row becomes. ``tried`` is 1 when the provider may have been called."""

    claim: Claim
    status: str
    tried: int
    failure_code: str | None = None
    last_error: str | None = None
    next_retry_at: datetime | None = None
    provider_message_id: str | None = None


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
        -- What goes back untried keeps what it had, but for who closed the channel.
        next_retry_at = CASE
            WHEN o.status = 'queued' AND o.tried = 0
                THEN coalesce(o.next_retry_at, q.next_retry_at::timestamptz)
            ELSE o.next_retry_at
        END,
        failure_code = CASE
            WHEN o.status = 'queued' AND o.tried = 0 THEN coalesce(o.failure_code, q.failure_code)
            ELSE o.failure_code
        END,
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
        ARRAY(SELECT unnest(held.ids) EXCEPT SELECT moved.id FROM moved) AS ids
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

# And whether a lease of another run has lapsed, which costs no round trip here.
_RENEW = """
WITH renewed AS (
    UPDATE alerts_leases
    SET until = clock_timestamp() + %(seconds)s * interval '1 second'
    WHERE run_id = %(run_id)s
)
SELECT EXISTS (
    SELECT FROM alerts_leases WHERE until < clock_timestamp() AND run_id <> %(run_id)s
) AS lapsed
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

# Rows that only this lease holds: nothing else can send them. What other leases hold is hashed, as
# above, and rows are looked up by their keys.
_IN_DOUBT = """
FROM (
    SELECT unnest(ids) AS id
    FROM alerts_leases
    WHERE id = %(lease)s AND run_id = %(run_id)s
    OFFSET 0
) AS held
CROSS JOIN LATERAL (
    SELECT q.id, q.user_id, q.channel, q.attempts, q.failure_code, q.created_at
    FROM {table} AS q
    WHERE q.id = held.id AND {to_send}
      AND NOT EXISTS (
          SELECT FROM alerts_send_queue AS s WHERE s.source = {source} AND s.id = q.id
      )
    OFFSET 0
) AS lost
WHERE (
    lost.id IN (
        SELECT unnest(ids) FROM alerts_leases WHERE source = {source} AND id <> %(lease)s
    )
) IS NOT TRUE
"""
_LOST = """
SELECT
    {source} AS source, %(lease)s AS lease, lost.id, lost.user_id, lost.channel, lost.attempts,
    lost.failure_code, lost.created_at::timestamptz::text
{in_doubt}
ORDER BY lost.id
LIMIT %(limit)s
"""
_LOCK_LEASE = "SELECT FROM alerts_leases WHERE id = %(lease)s AND run_id = %(run_id)s FOR UPDATE"
_LET_GO = """
DELETE FROM alerts_leases
WHERE id = %(lease)s AND run_id = %(run_id)s AND NOT EXISTS (SELECT {in_doubt})
"""


def _record_statement(queue: Queue) -> Statement:
    parameters = {
        "run_id": "text", "leases": "bigint[]", "now": "timestamptz", "ids": "bigint[]",
        "statuses": "text[]", "tried": "integer[]", "retries": "timestamptz[]", "codes": "text[]",
        "errors": "text[]", "message_ids": "text[]",
    }  # fmt: skip
    text = sql.SQL(_RECORD).format(**parts_of(queue), **numbered(parameters))
    return Statement(f"record_{queue.name}", parameters, text)


_RECORDS = {queue.name: _record_statement(queue) for queue in QUEUES}


def renew(conn: db.Connection, run_id: str) -> bool:
    """Move the end of every lease of this run ahead; whether one of another run has lapsed."""
    row = db.fetch_all(conn, _RENEW, {"run_id": run_id, "seconds": CLAIM_SECONDS})[0]
    return bool(row["lapsed"])


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
    parts = parts_of(queue)
    query = sql.SQL(_LOST).format(in_doubt=sql.SQL(_IN_DOUBT).format(**parts), **parts)
    with conn.cursor() as cursor:
        cursor.execute(query, {"lease": lease, "run_id": run_id, "limit": limit})
        return [Claim(*row) for row in cursor.fetchall()]


def let_go(conn: db.Connection, queue: Queue, run_id: str, lease: int) -> bool:
    """Delete a lease that holds no row in doubt; False where it still does. Only one of ours.

    It is locked before its rows are looked at, in a statement of their own: one that somebody
    queues again meanwhile is either seen, or enters the queue.
    """
    query = sql.SQL(_LET_GO).format(in_doubt=sql.SQL(_IN_DOUBT).format(**parts_of(queue)))
    mine = {"lease": lease, "run_id": run_id}
    with db.transaction(conn):
        ours = db.execute(conn, _LOCK_LEASE, mine)
        return db.execute(conn, query, mine) == ours
