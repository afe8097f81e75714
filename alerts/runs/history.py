"""Run history: what ``GET /runs`` and ``GET /runs/{run_id}`` and their CLI twins answer."""

from __future__ import annotations

from typing import Any

from alerts import db
from alerts.paging import cursor, json_row, parse_cursor
from alerts.readers import is_storable
from alerts.runs.record import STALE_SECONDS

TRIGGERS = ("github_actions_schedule", "github_actions_manual", "local")
RUN_STATUSES = ("running", "success", "failed", "skipped")

_COLUMNS = """
    run_id, triggered_by, phase, status, started_at, finished_at, duration_ms, counts,
    error_summary, git_sha, created_at, dry_run, rerun, ci_run_url, scheduled_for,
    late_seconds, clock_skew_seconds,
    status = 'running'
    AND coalesce(heartbeat_at, started_at) < clock_timestamp() - %(stale)s * interval '1 second'
    AS stale
"""

# Newest first; the cursor is the last row's place in that order.
LIST_RUNS = f"""
SELECT id, {_COLUMNS}
FROM alerts_engine_runs
WHERE (%(status)s::text IS NULL OR status = %(status)s)
  AND (%(phase)s::text IS NULL OR phase = %(phase)s)
  AND (%(triggered_by)s::text IS NULL OR triggered_by = %(triggered_by)s)
  AND (
      %(before_time)s::timestamptz IS NULL
      OR (started_at, id) < (%(before_time)s::timestamptz, %(before_id)s::bigint)
  )
ORDER BY started_at DESC, id DESC
LIMIT %(limit)s + 1
"""  # noqa: S608  (composed of constants)

ONE_RUN = f"SELECT {_COLUMNS} FROM alerts_engine_runs WHERE run_id = %(run_id)s"  # noqa: S608

RUN_ITEMS = """
SELECT phase, started_at, finished_at, duration_ms, status, counts, error_summary
FROM alerts_engine_run_items
WHERE run_id = %(run_id)s
ORDER BY started_at, id
"""


def list_runs(
    conn: db.Connection,
    *,
    limit: int = 50,
    status: str | None = None,
    phase: str | None = None,
    triggered_by: str | None = None,
    before: str | None = None,
) -> dict[str, Any]:
    """A page of runs, newest first, as the contract's object.

    ``before`` is a ``next_before`` of an earlier answer; raises ValueError when it is not.
    """
    before_time, before_id = parse_cursor(before) if before else (None, None)
    rows = db.fetch_all(
        conn,
        LIST_RUNS,
        {
            "limit": limit,
            "status": status,
            "phase": phase,
            "triggered_by": triggered_by,
            "before_time": before_time,
            "before_id": before_id,
            "stale": STALE_SECONDS,
        },
    )
    page, more = rows[:limit], rows[limit:]
    next_before = cursor(page[-1]["started_at"], page[-1]["id"]) if more else None
    runs = [json_row({k: v for k, v in row.items() if k != "id"}) for row in page]
    return {"count": len(runs), "next_before": next_before, "runs": runs}


def get_run(conn: db.Connection, run_id: str) -> dict[str, Any] | None:
    """A run with its phases in the order they ran; None for an unknown id."""
    if not is_storable(run_id):
        return None
    run = db.fetch_one(conn, ONE_RUN, {"run_id": run_id, "stale": STALE_SECONDS})
    if run is None:
        return None
    items = db.fetch_all(conn, RUN_ITEMS, {"run_id": run_id})
    return {"run": json_row(run), "items": [json_row(item) for item in items]}
