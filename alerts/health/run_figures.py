"""Figures of the engine's runs: the last finished one, and the last day."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from alerts.paging import iso
from alerts.runs.history import RUN_STATUSES

# On wall time, without dry runs. statement_timestamp() is wall time too, and an index can be
# searched by it: the day costs what ran in it, whatever the history.
RUN_FIGURES = """
SELECT
    (
        SELECT jsonb_build_object(
            'run_id', r.run_id, 'status', r.status, 'started_at', r.started_at,
            'finished_at', r.finished_at, 'duration_ms', r.duration_ms,
            'phases', (
                SELECT coalesce(jsonb_object_agg(i.phase, i.duration_ms), '{}')
                FROM alerts_engine_run_items AS i
                WHERE i.run_id = r.run_id AND i.duration_ms IS NOT NULL
            )
        )
        FROM alerts_engine_runs AS r
        WHERE NOT r.dry_run AND r.status <> 'running'
        ORDER BY r.started_at DESC, r.id DESC
        LIMIT 1
    ) AS last_finished,
    (
        SELECT jsonb_object_agg(d.status, jsonb_build_array(d.amount, d.lost))
        FROM (
            SELECT
                status,
                count(*) AS amount,
                count(*) FILTER (
                    WHERE (status = 'failed' AND starts_with(error_summary, 'runner lost'))
                       OR (status = 'running' AND coalesce(heartbeat_at, started_at)
                           < statement_timestamp() - %(stale)s * interval '1 second')
                ) AS lost
            FROM alerts_engine_runs
            WHERE NOT dry_run AND started_at > statement_timestamp() - interval '24 hours'
            GROUP BY status
        ) AS d
    ) AS day
"""


def run_figures(row: Mapping[str, Any]) -> dict[str, Any]:
    """Health's ``last_finished_run`` (``phases``: milliseconds by letter) and ``runs_24h``: runs by
    status, and ``lost``: those that died without reporting it. ``row`` is the row of
    :data:`RUN_FIGURES`."""
    day = row["day"] or {}
    return {
        "last_finished_run": _finished(row["last_finished"]),
        "runs_24h": {
            **{status: day.get(status, (0, 0))[0] for status in RUN_STATUSES},
            "lost": sum(lost for _, lost in day.values()),
        },
    }


def _finished(run: dict[str, Any] | None) -> dict[str, Any] | None:
    if run is None:
        return None
    times = ("started_at", "finished_at")
    return {**run, **{name: iso(datetime.fromisoformat(run[name])) for name in times}}
