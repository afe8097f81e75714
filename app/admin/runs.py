"""Run history: ``GET /runs`` and ``GET /runs/{run_id}``."""

from __future__ import annotations

from typing import Any

from alerts import phases
from alerts.paging import checked_cursor
from alerts.runs import history
from app.current import database
from app.errors import ApiError
from app.params import Params


def list_runs() -> dict[str, Any]:
    """A page of runs, newest first."""
    params = Params("limit", "status", "phase", "triggered_by", "before")
    limit = params.integer("limit", 50, 1, 200)
    filters = {
        "status": params.choice("status", history.RUN_STATUSES),
        "phase": params.choice("phase", phases.PHASE_CHOICES),
        "triggered_by": params.choice("triggered_by", history.TRIGGERS),
        "before": params.parsed(
            "before", None, checked_cursor, "a next_before of an earlier answer"
        ),
    }
    with database().transaction() as conn:
        return history.list_runs(conn, limit=limit, **filters)


def get_run(run_id: str) -> dict[str, Any]:
    """One run with its phases."""
    Params()
    with database().transaction() as conn:
        found = history.get_run(conn, run_id)
    if found is None:
        raise ApiError(404, "run_not_found", "No run has this id.")
    return found
