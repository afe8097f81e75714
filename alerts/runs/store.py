"""Storing a run: one statement, which stores all that is known and can be repeated."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

import psycopg2
from psycopg2.errors import CardinalityViolation, DatatypeMismatch

from alerts import db
from alerts.runs import spool
from alerts.runs.record import RunRecord
from alerts.runs.schedule import SLOT_OF_RUN

# No write takes this long: a larger difference is due to the clock, not to the network.
SKEW_SECONDS = 5

# The newest run first closes those that went silent: nobody else will ever finish them.
CLOSE_STALE_RUNS = """
WITH lost AS (
    UPDATE alerts_engine_runs
    SET
        status = 'failed',
        finished_at = clock_timestamp(),
        duration_ms = greatest(0, round(extract(epoch FROM clock_timestamp() - started_at) * 1000)),
        error_summary = 'runner lost: no heartbeat since '
            || to_char(coalesce(heartbeat_at, started_at), 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"')
    WHERE status = 'running'
      AND run_id <> %(run_id)s
      AND coalesce(heartbeat_at, started_at) < clock_timestamp() - %(stale)s * interval '1 second'
    RETURNING run_id
)
UPDATE alerts_engine_run_items AS i
SET status = 'failed', finished_at = clock_timestamp(), error_summary = 'runner lost'
FROM lost
WHERE i.run_id = lost.run_id AND i.finished_at IS NULL
"""

# A run that has ended stays ended, whatever arrives late. Its slot is found when its row is made,
# and kept. Its times are told by the database's clock: where the runner's differs from it, by more
# than a write takes, they are moved. Of a record that comes late it is only known that nothing in
# it lies ahead.
UPSERT_RUN = f"""
WITH skewed AS MATERIALIZED (
    SELECT
        %(told_at)s::timestamptz - clock_timestamp() AS skew,
        coalesce(%(finished_at)s, %(started_at)s)::timestamptz - clock_timestamp() AS ahead
),
told AS MATERIALIZED (
    SELECT
        %(started_at)s::timestamptz - s.shift AS started_at,
        %(finished_at)s::timestamptz - s.shift AS finished_at,
        s.*
    FROM (
        SELECT
            CASE
                WHEN skew NOT BETWEEN interval '-{SKEW_SECONDS} s' AND interval '{SKEW_SECONDS} s'
                    THEN skew
                WHEN skew IS NULL THEN greatest(ahead, interval '0')
                ELSE interval '0'
            END AS shift,
            round(extract(epoch FROM skew)) AS skew_seconds
        FROM skewed
    ) AS s
),
slot AS MATERIALIZED ({SLOT_OF_RUN}),
run AS (
    INSERT INTO alerts_engine_runs AS r (
        run_id, triggered_by, phase, started_at, finished_at, duration_ms, status, counts,
        error_summary, git_sha, dry_run, rerun, ci_run_url, heartbeat_at, clock_skew_seconds,
        scheduled_for, late_seconds, spooled_records, spooled_since
    )
    SELECT
        %(run_id)s, %(triggered_by)s, %(phase)s, told.started_at, told.finished_at,
        %(duration_ms)s, %(status)s, %(counts)s, %(error_summary)s, %(git_sha)s, %(dry_run)s,
        %(rerun)s, %(ci_run_url)s, clock_timestamp(), told.skew_seconds, slot.scheduled_for,
        floor(extract(epoch FROM told.started_at - slot.scheduled_for)),
        %(spooled_records)s, %(spooled_since)s
    FROM told
    LEFT JOIN slot ON TRUE
    ON CONFLICT (run_id) DO UPDATE SET
        -- The start was moved by what the first write found, which may have been on its way longer.
        finished_at = CASE
            WHEN excluded.finished_at < r.started_at THEN r.started_at ELSE excluded.finished_at
        END,
        duration_ms = excluded.duration_ms,
        status = excluded.status,
        counts = excluded.counts,
        error_summary = excluded.error_summary,
        heartbeat_at = excluded.heartbeat_at,
        clock_skew_seconds = coalesce(excluded.clock_skew_seconds, r.clock_skew_seconds),
        spooled_records = coalesce(excluded.spooled_records, r.spooled_records),
        spooled_since = excluded.spooled_since
    WHERE r.status = 'running' OR excluded.status <> 'running'
    RETURNING run_id
)
INSERT INTO alerts_engine_run_items AS x (
    run_id, phase, started_at, finished_at, duration_ms, status, counts, error_summary
)
SELECT
    run.run_id, i.phase, i.started_at - told.shift, i.finished_at - told.shift, i.duration_ms,
    i.status, i.counts, i.error_summary
FROM run
CROSS JOIN told
CROSS JOIN jsonb_to_recordset(%(items)s) AS i (
    phase text, started_at timestamptz, finished_at timestamptz, duration_ms bigint,
    status text, counts jsonb, error_summary text
)
ON CONFLICT (run_id, phase) DO UPDATE SET
    finished_at = CASE
        WHEN excluded.finished_at < x.started_at THEN x.started_at ELSE excluded.finished_at
    END,
    duration_ms = excluded.duration_ms,
    status = excluded.status,
    counts = excluded.counts,
    error_summary = excluded.error_summary
"""  # noqa: S608  (composed of constants)


def store(
    conn: db.Connection,
    record: RunRecord,
    told_at: datetime | None = None,
    spooled: spool.Waiting | None = None,
) -> None:
    """Store a record; storing it again changes nothing.

    ``told_at`` as of :meth:`RunRecord.parameters`; ``spooled`` is what waits beside the runner.
    Raises ``psycopg2.Error``.
    """
    db.execute(conn, UPSERT_RUN, parameters(record, told_at, spooled))


def parameters(
    record: RunRecord, told_at: datetime | None = None, spooled: spool.Waiting | None = None
) -> dict[str, Any]:
    """What :data:`UPSERT_RUN` takes."""
    return {
        **record.parameters(told_at),
        "spooled_records": spooled and spooled.records,
        "spooled_since": spooled and spooled.since,
    }


# A value that no column can hold (out of range, not allowed, of the wrong type, with a NUL), or a
# phase that occurs twice.
_NEVER = (
    psycopg2.DataError,
    psycopg2.IntegrityError,
    CardinalityViolation,
    DatatypeMismatch,
    ValueError,
    TypeError,
)


def store_spooled(conn: db.Connection, log: logging.LoggerAdapter[Any], record: RunRecord) -> bool:
    """Whether it is stored; raises :class:`spool.NeverStored`."""
    try:
        store(conn, record)
    except _NEVER as error:
        concerned = getattr(getattr(error, "diag", None), "constraint_name", None)
        about = f", {concerned}" if concerned else ""
        text = f"the database will not take it ({error_code(error)}{about})"
        raise spool.NeverStored(text) from None
    except Exception as error:
        log.warning("a spooled run cannot be stored yet", extra={"error": error_code(error)})
        return False
    return True


def error_code(error: Exception) -> str:
    """What happened, free of values."""
    code = getattr(error, "pgcode", None)
    return f"{type(error).__name__} {code}" if code else type(error).__name__
