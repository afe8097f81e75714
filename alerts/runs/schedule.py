"""The schedule as it happened: which slot a run was meant for, and which slots had no run.

GitHub does not say what a scheduled run was meant for. It never starts one early, so the slots
are found from the runs themselves: a grid of expected intervals that begins with the first one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from alerts.paging import iso

# The slot of a run that is being recorded and that starts, by the database's clock, when ``told``
# says: the slot of the scheduled run before it plus whole intervals, the latest that is not after
# its start. Slots follow slots, not starts, so lateness does not add up. One exception: a start
# long after the one before, and still in its slot, is the next tick of a schedule whose first run
# was late; then the grid moves to it. (Starting a workflow again keeps its URL and is no tick; a
# run that GitHub calls another attempt has no slot at all.)
SLOT_OF_RUN = """
    SELECT
        CASE
            WHEN p.intervals IS NULL OR (
                p.intervals = 0 AND p.since_start > p.step / 2
                AND (p.ci_run_url IS NULL OR p.ci_run_url IS DISTINCT FROM %(ci_run_url)s)
            ) THEN p.started_at
            ELSE p.slot + p.intervals * p.step
        END AS scheduled_for
    FROM (
        SELECT
            t.started_at,
            r.slot,
            r.ci_run_url,
            i.step,
            t.started_at - r.started_at AS since_start,
            floor(
                extract(epoch FROM t.started_at - r.slot) / extract(epoch FROM i.step)
            )::double precision AS intervals
        FROM told AS t
        CROSS JOIN (
            SELECT greatest(%(interval_minutes)s, 1) * interval '1 minute' AS step
        ) AS i
        LEFT JOIN LATERAL (
            SELECT started_at, ci_run_url, coalesce(scheduled_for, started_at) AS slot
            FROM alerts_engine_runs
            WHERE triggered_by = 'github_actions_schedule'
              AND NOT rerun
              AND started_at < t.started_at
            ORDER BY started_at DESC, id DESC
            LIMIT 1
        ) AS r ON TRUE
    ) AS p
    WHERE %(triggered_by)s = 'github_actions_schedule' AND NOT %(rerun)s
"""

# Slots of the last day that are over, on the grid of the newest scheduled run, without those in
# which a scheduled run started. Wall time. Rounded, since runs of before have no slot and the grid
# may have moved. What somebody started again counts only where it was lost.
SCHEDULE = """
WITH clock AS MATERIALIZED (
    SELECT
        clock_timestamp() AS now,
        clock_timestamp() - interval '24 hours' AS day_ago,
        60 * coalesce(
            (SELECT interval_minutes FROM alerts_engine_state ORDER BY id DESC LIMIT 1),
            %(interval_minutes)s
        ) AS step
),
newest AS (
    SELECT started_at, late_seconds, coalesce(scheduled_for, started_at) AS slot
    FROM alerts_engine_runs
    WHERE triggered_by = 'github_actions_schedule' AND NOT rerun
    ORDER BY started_at DESC, id DESC
    LIMIT 1
),
first AS (
    SELECT min(started_at) AS started_at
    FROM alerts_engine_runs
    WHERE triggered_by = 'github_actions_schedule' AND NOT rerun
),
due AS MATERIALIZED (
    SELECT
        greatest(
            ceil(extract(epoch FROM c.day_ago - n.slot) / c.step),
            round(extract(epoch FROM f.started_at - n.slot) / c.step)
        ) AS oldest,
        floor(extract(epoch FROM c.now - n.slot) / c.step) - 1 AS latest
    FROM clock AS c
    CROSS JOIN newest AS n
    CROSS JOIN first AS f
),
day AS (
    SELECT
        round(
            extract(epoch FROM coalesce(r.scheduled_for, r.started_at) - n.slot) / c.step
        ) AS place,
        r.rerun,
        (r.status = 'failed' AND starts_with(r.error_summary, 'runner lost'))
        OR (
            r.status = 'running'
            AND coalesce(r.heartbeat_at, r.started_at)
                < c.now - %(stale)s * interval '1 second'
        ) AS lost
    FROM alerts_engine_runs AS r
    CROSS JOIN clock AS c
    CROSS JOIN newest AS n
    WHERE r.triggered_by = 'github_actions_schedule' AND r.started_at > c.day_ago
)
SELECT
    n.started_at AS last_scheduled_at,
    n.late_seconds AS last_late_seconds,
    (
        greatest(due.latest - due.oldest + 1, 0)
        - (
            SELECT count(DISTINCT place)
            FROM day
            WHERE NOT rerun AND place BETWEEN due.oldest AND due.latest
        )
    )::bigint AS missed_slots_24h,
    (SELECT count(*) FROM day WHERE lost) AS lost_runs_24h
FROM newest AS n
CROSS JOIN due
"""

_NEVER: dict[str, Any] = {
    "last_scheduled_at": None,
    "last_late_seconds": None,
    "missed_slots_24h": 0,
    "lost_runs_24h": 0,
}


def schedule_health(rows: Sequence[Mapping[str, Any]], interval_minutes: int) -> dict[str, Any]:
    """Health's ``schedule``, of what :data:`SCHEDULE` brought: tells "never started" (missed
    slots) from "started and died" (lost).

    All null or 0 when no schedule ever started a run.
    """
    found = {**(rows[0] if rows else _NEVER)}
    last = found["last_scheduled_at"]
    found["last_scheduled_at"] = last and iso(datetime.fromisoformat(last))
    return {"expected_interval_minutes": interval_minutes, **found}
