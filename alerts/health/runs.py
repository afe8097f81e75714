"""How the engine's runs are doing, as delivery health tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise, takewhile
from typing import Any

from alerts.db.together import with_times
from alerts.health.counts import DELIVERIES, DIGESTS
from alerts.locks import LOCK_NOT_ACQUIRED
from alerts.paging import iso
from alerts.phases import PHASES, Phase

RECENT_RUNS = 20  # of each sender
SCHEDULED_STARTS = 50  # from which the usual lateness is learned

# The newest run, the newest finished one with its phases, the last that sent, the last success, all
# on wall time; the silent runs; the last runs, also those under way, with what kept them from
# working; the newest dry run; when the schedule started runs; what the newest run's machine knows.
# Dry runs prove nothing about delivery and are left out of the others. `::timestamptz` reads the
# plain TIMESTAMP columns of old deployments as UTC.
RUNS = """
SELECT
    (
        SELECT jsonb_build_object(
            'run_id', run_id, 'status', status, 'started_at', started_at::timestamptz,
            'finished_at', finished_at::timestamptz
        )
        FROM alerts_engine_runs
        WHERE NOT dry_run
        ORDER BY started_at DESC, id DESC
        LIMIT 1
    ) AS last_run,
    (
        SELECT jsonb_build_object(
            'run_id', r.run_id, 'status', r.status, 'counts', r.counts,
            'started_at', r.started_at::timestamptz, 'finished_at', r.finished_at::timestamptz,
            'error_summary', r.error_summary,
            'phases', (
                SELECT jsonb_agg(
                    jsonb_build_object(
                        'phase', i.phase, 'status', i.status, 'error_summary', i.error_summary
                    )
                    ORDER BY i.started_at, i.id
                )
                FROM alerts_engine_run_items AS i
                WHERE i.run_id = r.run_id
            )
        )
        FROM alerts_engine_runs AS r
        WHERE NOT r.dry_run AND r.status <> 'running'
        ORDER BY r.started_at DESC, r.id DESC
        LIMIT 1
    ) AS last_finished,
    (
        SELECT r.counts -> 'c'
        FROM (
            SELECT id, started_at, counts
            FROM alerts_engine_runs
            WHERE NOT dry_run AND status <> 'running'
            ORDER BY started_at DESC, id DESC
            LIMIT 20  -- a phase alone, or one that was locked, has tried no channel
        ) AS r
        WHERE r.counts #> '{c,channels_held}' IS NOT NULL
        ORDER BY r.started_at DESC, r.id DESC
        LIMIT 1
    ) AS last_sending,
    (
        SELECT finished_at
        FROM alerts_engine_runs
        WHERE NOT dry_run AND status = 'success'
        ORDER BY started_at DESC, id DESC
        LIMIT 1
    ) AS last_success_at,
    (
        SELECT jsonb_agg(
            jsonb_build_object(
                'run_id', run_id, 'started_at', started_at::timestamptz,
                'heard_at', coalesce(heartbeat_at, started_at)::timestamptz
            )
            ORDER BY started_at DESC, id DESC
        )
        FROM alerts_engine_runs
        WHERE status = 'running'
          AND coalesce(heartbeat_at, started_at)
              < clock_timestamp() - %(stale)s * interval '1 second'
    ) AS silent,
    (
        SELECT jsonb_agg(
            jsonb_build_object(
                'run_id', r.run_id,
                'status', r.status,
                'started_at', r.started_at::timestamptz,
                'finished_at', r.finished_at::timestamptz,
                'heard_at', coalesce(r.heartbeat_at, r.started_at)::timestamptz,
                'triggered_by', r.triggered_by,
                'error_summary', left(r.error_summary, 300),
                'skipped', (
                    SELECT jsonb_object_agg(p.key, p.value -> 'skipped')
                    FROM jsonb_each(r.counts) AS p
                ),
                'stopped_early', r.counts #>> '{c,stopped_early}',
                'rescued', coalesce((r.counts #>> '{c,deliveries,rescued}')::bigint, 0)
                    + coalesce((r.counts #>> '{c,digests,rescued}')::bigint, 0)
            )
            ORDER BY r.started_at DESC, r.id DESC
        )
        FROM (
            SELECT *
            FROM alerts_engine_runs
            WHERE NOT dry_run
            ORDER BY started_at DESC, id DESC
            LIMIT %(recent_runs)s * coalesce(
                (SELECT senders FROM alerts_engine_state ORDER BY id DESC LIMIT 1), 1
            )
        ) AS r
    ) AS recent,
    (
        SELECT jsonb_build_object(
            'run_id', r.run_id, 'started_at', r.started_at::timestamptz,
            'triggered_by', r.triggered_by, 'sending', r.counts -> 'c'
        )
        FROM (
            SELECT *
            FROM alerts_engine_runs
            ORDER BY started_at DESC, id DESC
            LIMIT 20  -- a dry one before these is no news
        ) AS r
        WHERE r.dry_run AND r.status <> 'running'
        ORDER BY r.started_at DESC, r.id DESC
        LIMIT 1
    ) AS last_dry,
    (
        SELECT jsonb_agg(jsonb_build_array(s.started_at::timestamptz, s.late_seconds))
        FROM (
            SELECT started_at, late_seconds
            FROM alerts_engine_runs
            WHERE triggered_by = 'github_actions_schedule' AND NOT rerun
            ORDER BY started_at DESC, id DESC
            LIMIT %(scheduled_starts)s
        ) AS s
    ) AS scheduled,
    newest.clock_skew_seconds,
    newest.spooled_records,
    newest.spooled_since,
    clock_timestamp() AS now
FROM (SELECT) AS one
LEFT JOIN (
    SELECT clock_skew_seconds, spooled_records, spooled_since
    FROM alerts_engine_runs
    ORDER BY started_at DESC, id DESC
    LIMIT 1
) AS newest ON TRUE
"""


@dataclass(frozen=True)
class LockedOut:
    """A phase that ``runs`` runs in a row could not do, the first of them at ``since``."""

    phase: Phase
    runs: int
    since: datetime


def was_lost(run: Mapping[str, Any]) -> bool:
    """Whether a later run closed it because it had gone silent."""
    return run["status"] == "failed" and (run["error_summary"] or "").startswith("runner lost")


@dataclass(frozen=True)
class Runs:
    """The runs that health looks at; a dictionary's values are as the database's JSON has them."""

    last_run: dict[str, Any] | None
    last_finished: dict[str, Any] | None
    last_sending: dict[str, Any]  # counts of phase C; empty when none has sent
    last_success_at: datetime | None
    silent: list[dict[str, Any]]  # running by their row, and not heard of
    recent: list[dict[str, Any]]  # the newest first; ``skipped``: by phase why, or None
    last_dry: dict[str, Any] | None
    scheduled: list[list[Any]]  # start and seconds of lateness, the newest first
    clock_skew_seconds: int | None  # of the newest run's machine: how far ahead it is
    spooled_records: int | None  # that wait beside the newest run's machine
    spooled_since: datetime | None
    now: datetime  # the database's wall clock

    @property
    def last_success_minutes(self) -> float | None:
        """How long ago the last success ended."""
        if self.last_success_at is None:
            return None
        return max(0.0, (self.now - self.last_success_at).total_seconds() / 60)

    def locked_out(self) -> list[LockedOut]:
        """The phases that other sessions kept the last runs from doing."""
        found = []
        for phase in PHASES:
            told = [
                (run["skipped"][phase.letter], run["started_at"])
                for run in self.recent
                if phase.letter in (run["skipped"] or {})
            ]
            kept = list(takewhile(lambda each: each[0] == LOCK_NOT_ACQUIRED, told))
            if kept:
                found.append(LockedOut(phase, len(kept), datetime.fromisoformat(kept[-1][1])))
        return found

    def newest_sign(self) -> datetime | None:
        """When a run, dry runs aside, was last heard from."""
        signs = [each for run in self.recent for each in (run["heard_at"], run["finished_at"])]
        return max((datetime.fromisoformat(each) for each in signs if each), default=None)

    def lateness(self, interval: timedelta) -> list[timedelta]:
        """How late the schedule started each of its runs, the newest first: after its slot, or
        after the run before and an interval, whichever is more. None of the oldest."""
        found = []
        for (start, late), (before, _) in pairwise(self.scheduled):
            gap = datetime.fromisoformat(start) - datetime.fromisoformat(before) - interval
            found.append(max(gap, timedelta(seconds=late or 0), timedelta(0)))
        return found

    def held(self) -> dict[str, str]:
        """By channel, the code for which the last finished run held it."""
        counts = self.last_finished["counts"] if self.last_finished else {}
        held: dict[str, str] = counts.get("c", {}).get("channels_held", {})
        return held

    def section(self) -> dict[str, Any]:
        """What health says of them."""
        return {
            "funnel": _funnel(self.last_finished),
            "last_run": _last_run(self.last_run),
            "last_success_minutes": rounded(self.last_success_minutes),
            "last_success_at": self.last_success_at and iso(self.last_success_at),
        }


def runs_of(row: Mapping[str, Any]) -> Runs:
    """The row of :data:`RUNS`."""
    lists = {name: row[name] or [] for name in ("silent", "recent", "scheduled")}
    filled = {**row, **lists, "last_sending": row["last_sending"] or {}}
    return Runs(**with_times(filled, "last_success_at", "spooled_since", "now"))


def _funnel(finished: dict[str, Any] | None) -> dict[str, Any] | None:
    """From risk data to messages in the last finished run; a phase that did not run has None."""
    if finished is None:
        return None
    counts = finished["counts"]
    steps: dict[str, Any] = {"run_id": finished["run_id"]}
    for letter, names in (
        ("a", ("events_created",)),
        ("b", ("deliveries_considered", "deliveries_created")),
        ("d", ("digests_created",)),
    ):
        steps |= {name: counts.get(letter, {}).get(name) for name in names}
    for name in ("claimed", "sent", "failed", "retried"):
        parts = [counts.get("c", {}).get(queue, {}).get(name) for queue in (DELIVERIES, DIGESTS)]
        known = [part for part in parts if part is not None]
        steps[name] = sum(known) if known else None
    return steps


def _last_run(run: dict[str, Any] | None) -> dict[str, Any] | None:
    if run is None:
        return None
    names = ("started_at", "finished_at")
    return {**run, **{name: run[name] and iso(datetime.fromisoformat(run[name])) for name in names}}


def rounded(minutes: float | None) -> float | None:
    return None if minutes is None else round(minutes, 1)
