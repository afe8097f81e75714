"""The send queue in SQL: rescue, claim, renew, record, the same for deliveries and digests.

Every change of state names the state it starts from and whose claim it is, and reports the rows
it really moved. Claims run on PostgreSQL's wall clock; due times on the business clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from psycopg2 import sql

from alerts import db
from alerts.phases.channel_sql import destination

CLAIM_SECONDS = 120

# What sending leaves out of a queue q although it is due, as the code to skip it with: what has
# become too old (digests do not: three days without a run are three digests), and what its user
# has switched off since. Repair asks the same before it queues a row again. The preference is a
# scalar: one look by primary key for each row, where an EXISTS may read the whole table.
LEFT_OUT = """
CASE
    WHEN q.created_at < %(too_old)s::timestamptz THEN 'expired'
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

    name: str  # as in the counts
    table: str
    age_column: str  # oldest first by this
    ours: str  # other kinds of rows belong to other parts of the product
    eligible: str  # what makes a queued row one to send
    event_column: str


DELIVERIES = Queue(
    name="deliveries",
    table="user_alert_deliveries",
    age_column="created_at",
    ours="q.delivery_kind IN ('instant', 'digest')",
    eligible="q.delivery_kind = 'instant'",
    event_column="q.alert_event_id",
)
DIGESTS = Queue(
    name="digests",
    table="user_alert_digests",
    age_column="window_end",
    ours="TRUE",
    eligible="q.window_end <= %(now)s",
    event_column="NULL::bigint",
)
QUEUES = (DELIVERIES, DIGESTS)


@dataclass(frozen=True, slots=True)
class Claim:
    """A row that is ours to send, as it was when claimed."""

    queue: Queue
    id: int
    user_id: int
    channel: str
    attempts: int
    failure_code: str | None
    next_retry_at: datetime | None
    created_at: datetime
    event_id: int | None = None  # of an instant delivery
    destination: str | None = None
    period: str = ""  # the last three: of a digest
    window_start: datetime | None = None
    window_end: datetime | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a claimed row becomes. ``tried`` is 1 when the provider may have been called."""

    claim: Claim
    status: str
    tried: int
    failure_code: str | None = None
    last_error: str | None = None
    next_retry_at: datetime | None = None
    provider_message_id: str | None = None


@dataclass
class Claimed:
    """The result of one claim: rows to send, and those that were skipped instead."""

    to_send: list[Claim] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)  # by code
    by_channel: Counter[str] = field(default_factory=Counter)  # all rows moved


def _statement(text: str, queue: Queue) -> sql.Composed:
    return sql.SQL(text).format(
        table=sql.Identifier(queue.table),
        age=sql.Identifier(queue.age_column),
        ours=sql.SQL(queue.ours),
        eligible=sql.SQL(queue.eligible),
        event_id=sql.SQL(queue.event_column),
        left_out=sql.SQL(LEFT_OUT),
        destination=destination("u", "q"),
        digest=sql.SQL(
            "q.period, q.window_start::timestamptz, q.window_end::timestamptz"
            if queue is DIGESTS
            else "'' AS period, NULL::timestamptz AS window_start, NULL::timestamptz AS window_end"
        ),
    )


# Rows whose sender went away, made ours. Their outcome is then recorded like any other, so the
# retry rules stand in one place.
_ADOPT = """
WITH lost AS MATERIALIZED (
    SELECT q.id
    FROM {table} AS q
    WHERE q.status = 'sending'
      AND {ours}
      AND (q.claimed_until < clock_timestamp() OR q.claimed_until IS NULL)
    ORDER BY q.id
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)
UPDATE {table} AS q
SET claimed_by = %(run_id)s, claimed_until = clock_timestamp() + %(seconds)s * interval '1 second'
FROM lost
WHERE q.id = lost.id
RETURNING
    q.id, q.user_id, q.channel, q.attempts, q.failure_code,
    q.next_retry_at::timestamptz, q.created_at::timestamptz
"""

# Which queue has claims that have lapsed: nearly always none, and one question is enough.
_LOST = """
SELECT
    EXISTS (
        SELECT
        FROM user_alert_deliveries AS q
        WHERE q.status = 'sending' AND {deliveries_ours}
          AND (q.claimed_until < clock_timestamp() OR q.claimed_until IS NULL)
    ) AS deliveries,
    EXISTS (
        SELECT
        FROM user_alert_digests AS q
        WHERE q.status = 'sending' AND {digests_ours}
          AND (q.claimed_until < clock_timestamp() OR q.claimed_until IS NULL)
    ) AS digests
"""

# Per channel the oldest due rows: never tried and due retries are two ranges of the queue's
# index. What is too old or has no provider is skipped in the same step, unsent.
_CLAIM = """
WITH lane AS (
    SELECT *
    FROM unnest(%(channels)s::text[], %(rooms)s::integer[]) AS l (channel, room)
    -- Asked with every claim: a pause ends a run that is under way as well.
    WHERE NOT EXISTS (SELECT FROM alerts_pauses AS p WHERE p.channel IN ('all', l.channel))
),
due AS MATERIALIZED (
    SELECT picked.id
    FROM lane
    CROSS JOIN LATERAL (
        SELECT either.id, either.age
        FROM (
            SELECT fresh.* FROM (
                SELECT q.id, q.{age} AS age
                FROM {table} AS q
                WHERE q.status = 'queued'
                  AND {eligible}
                  AND q.channel = lane.channel
                  AND q.next_retry_at IS NULL
                  AND (%(allowlist)s::bigint[] IS NULL OR q.user_id = ANY (%(allowlist)s::bigint[]))
                -- All NULL; named, the index gives the order and nothing has to be sorted.
                ORDER BY q.next_retry_at, q.{age}, q.id
                LIMIT lane.room
                FOR UPDATE SKIP LOCKED
            ) AS fresh
            UNION ALL
            SELECT again.* FROM (
                SELECT q.id, q.{age} AS age
                FROM {table} AS q
                WHERE q.status = 'queued'
                  AND {eligible}
                  AND q.channel = lane.channel
                  AND q.next_retry_at <= %(now)s
                  AND (%(allowlist)s::bigint[] IS NULL OR q.user_id = ANY (%(allowlist)s::bigint[]))
                ORDER BY q.next_retry_at, q.id
                LIMIT lane.room
                FOR UPDATE SKIP LOCKED
            ) AS again
        ) AS either
        ORDER BY either.age, either.id
        LIMIT lane.room
    ) AS picked
    ORDER BY picked.age, picked.id
    LIMIT %(limit)s
),
sorted AS MATERIALIZED (  -- or what sending leaves out is asked for each column
    SELECT
        q.id,
        coalesce(
            {left_out},
            CASE
                WHEN q.channel = ANY (%(unconfigured)s::text[]) THEN 'channel_not_configured'
            END
        ) AS skip_code
    FROM {table} AS q
    JOIN due ON due.id = q.id
),
claimed AS (
    UPDATE {table} AS q
    SET
        status = CASE WHEN s.skip_code IS NULL THEN 'sending' ELSE 'skipped' END,
        failure_code = coalesce(s.skip_code, q.failure_code),
        next_retry_at = CASE WHEN s.skip_code IS NULL THEN q.next_retry_at END,
        claimed_by = CASE WHEN s.skip_code IS NULL THEN %(run_id)s END,
        claimed_until = CASE
            WHEN s.skip_code IS NULL
                THEN clock_timestamp() + %(seconds)s * interval '1 second'
        END
    FROM sorted AS s
    WHERE q.id = s.id AND q.status = 'queued'
    RETURNING q.*, s.skip_code
)
SELECT
    q.id, q.skip_code, q.user_id, q.channel, q.attempts, q.failure_code,
    q.next_retry_at::timestamptz, q.created_at::timestamptz, {event_id} AS event_id, {digest},
    {destination} AS destination
FROM claimed AS q
LEFT JOIN users AS u ON u.id = q.user_id
ORDER BY q.{age}, q.id
"""

_RENEW = """
UPDATE {table} AS q
SET claimed_until = clock_timestamp() + %(seconds)s * interval '1 second'
WHERE q.status = 'sending' AND q.claimed_by = %(run_id)s
"""

_RECORD = """
UPDATE {table} AS q
SET
    status = o.status,
    attempts = q.attempts + o.tried,
    next_retry_at = o.next_retry_at,
    failure_code = o.failure_code,
    last_error = CASE WHEN o.tried = 0 THEN q.last_error ELSE o.last_error END,
    provider_message_id = coalesce(o.provider_message_id, q.provider_message_id),
    sent_at = CASE WHEN o.status = 'sent' THEN %(now)s::timestamptz END,
    failed_at = CASE WHEN o.status = 'failed' THEN %(now)s::timestamptz END,
    claimed_by = NULL,
    claimed_until = NULL
FROM unnest(
    %(ids)s::bigint[], %(statuses)s::text[], %(tried)s::integer[], %(retries)s::timestamptz[],
    %(codes)s::text[], %(errors)s::text[], %(message_ids)s::text[]
) AS o (id, status, tried, next_retry_at, failure_code, last_error, provider_message_id)
WHERE q.id = o.id AND q.status = 'sending' AND q.claimed_by = %(run_id)s
RETURNING q.id
"""


def queues_with_lost(conn: db.Connection) -> list[Queue]:
    """The queues that have rows in ``sending`` whose claim has lapsed."""
    ours = {f"{queue.name}_ours": sql.SQL(queue.ours) for queue in QUEUES}
    found = db.fetch_all(conn, sql.SQL(_LOST).format(**ours))[0]
    return [queue for queue in QUEUES if found[queue.name]]


def adopt_lost(conn: db.Connection, queue: Queue, run_id: str, limit: int) -> list[Claim]:
    """Take over rows in ``sending`` whose claim has lapsed; at most ``limit``."""
    rows = db.fetch_all(
        conn,
        _statement(_ADOPT, queue),
        {"run_id": run_id, "limit": limit, "seconds": CLAIM_SECONDS},
    )
    return [Claim(queue=queue, **row) for row in rows]


def too_old(queue: Queue, max_age_hours: int, now: datetime) -> datetime | None:
    """Before when a row of the queue is too old to send; None: never."""
    if not max_age_hours or queue is not DELIVERIES:
        return None
    return now - timedelta(hours=max_age_hours)


def claim_due(
    conn: db.Connection,
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
    rows = db.fetch_all(
        conn,
        _statement(_CLAIM, queue),
        {
            "run_id": run_id,
            "now": now,
            "channels": list(rooms),
            "rooms": list(rooms.values()),
            "limit": limit,
            "unconfigured": list(unconfigured),
            "too_old": too_old(queue, max_age_hours, now),
            "allowlist": list(allowlist) if allowlist is not None else None,
            "seconds": CLAIM_SECONDS,
        },
    )
    claimed = Claimed()
    for row in rows:
        claimed.by_channel[row["channel"]] += 1
        skip_code = row.pop("skip_code")
        if skip_code is None:
            claimed.to_send.append(Claim(queue=queue, **row))
        else:
            claimed.skipped[skip_code] += 1
    return claimed


def renew(conn: db.Connection, run_id: str) -> None:
    """Move the end of every claim of this run ahead."""
    for queue in QUEUES:
        db.execute(conn, _statement(_RENEW, queue), {"run_id": run_id, "seconds": CLAIM_SECONDS})


def record(
    conn: db.Connection, queue: Queue, run_id: str, now: datetime, outcomes: Sequence[Outcome]
) -> set[int]:
    """Store outcomes of one queue in one statement.

    Returns the ids that moved. An outcome that is missing there came too late: the claim had
    lapsed and someone else has the row now.
    """
    rows = db.fetch_all(
        conn,
        _statement(_RECORD, queue),
        {
            "run_id": run_id,
            "now": now,
            "ids": [o.claim.id for o in outcomes],
            "statuses": [o.status for o in outcomes],
            "tried": [o.tried for o in outcomes],
            "retries": [o.next_retry_at for o in outcomes],
            "codes": [o.failure_code for o in outcomes],
            "errors": [o.last_error for o in outcomes],
            "message_ids": [o.provider_message_id for o in outcomes],
        },
    )
    return {row["id"] for row in rows}
