"""How the engine's runs are doing, as delivery health tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from typing import Any

from alerts.db.together import with_times
from alerts.health.counts import DELIVERIES, DIGESTS
from alerts.locks import LOCK_NOT_ACQUIRED
from alerts.paging import iso
from alerts.phases import PHASES, Phase

RECENT_RUNS = 20  # of each sender

# The newest run, the newest finished one, the last that sent, the last success, all on wall time,
# how many runs are stale, which phases the last runs were locked out of (or have done, also those
# under way: of hosts that start together one does the phase and the others are locked out), and how
# far off the clock of the newest was. Dry runs prove nothing about delivery and are left out.
RUNS = """
SELECT
    (
        SELECT jsonb_build_object(
            'run_id', run_id, 'status', status, 'started_at', started_at,
            'finished_at', finished_at
        )
        FROM alerts_engine_runs
        WHERE NOT dry_run
        ORDER BY started_at DESC, id DESC
        LIMIT 1
    ) AS last_run,
    (
        SELECT jsonb_build_object(
            'run_id', run_id, 'status', status, 'counts', counts, 'finished_at', finished_at
        )
        FROM alerts_engine_runs
        WHERE NOT dry_run AND status <> 'running'
        ORDER BY started_at DESC, id DESC
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
        SELECT count(*)
        FROM alerts_engine_runs
        WHERE status = 'running'
          AND coalesce(heartbeat_at, started_at)
              < clock_timestamp() - %(stale)s * interval '1 second'
    ) AS stale_runs,
    (
        SELECT jsonb_agg(
            jsonb_build_object(
                'started_at', r.started_at,
                'skipped', (
                    SELECT jsonb_object_agg(p.key, p.value -> 'skipped')
                    FROM jsonb_each(r.counts) AS p
                )
            )
            ORDER BY r.started_at DESC, r.id DESC
        )
        FROM (
            SELECT id, started_at, counts
            FROM alerts_engine_runs
            WHERE NOT dry_run
            ORDER BY started_at DESC, id DESC
            LIMIT %(recent_runs)s * coalesce(
                (SELECT senders FROM alerts_engine_state ORDER BY id DESC LIMIT 1), 1
            )
        ) AS r
    ) AS recent,
    (
        SELECT clock_skew_seconds
        FROM alerts_engine_runs
        ORDER BY started_at DESC, id DESC
        LIMIT 1
    ) AS clock_skew_seconds,
    clock_timestamp() AS now
"""


@dataclass(frozen=True)
class LockedOut:
    """A phase that so many runs in a row could not do, the first of them at ``since``."""

    phase: Phase
    runs: int
    since: datetime


@dataclass(frozen=True)
class Runs:
    """The runs that health looks at; a dictionary's values are as the database's JSON has them."""

    last_run: dict[str, Any] | None
    last_finished: dict[str, Any] | None
    last_sending: dict[str, Any]  # counts of phase C; empty when none has sent
    last_success_at: datetime | None
    stale_runs: int
    recent: list[dict[str, Any]]  # the newest first: by phase why it was skipped, or None
    clock_skew_seconds: int | None  # of the newest run's machine: how far ahead it is
    now: datetime  # the database's wall clock

    @property
    def last_success_minutes(self) -> float | None:
        """How long ago the last success ended."""
        if self.last_success_at is None:
            return None
        return max(0.0, (self.now - self.last_success_at).total_seconds() / 60)

    def locked_out(self) -> list[LockedOut]:
        """The phases that other sessions kept the last runs from."""
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

    def held(self) -> dict[str, str]:
        """By channel the code that the last finished run held it for."""
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
    filled = {"last_sending": row["last_sending"] or {}, "recent": row["recent"] or []}
    return Runs(**with_times({**row, **filled}, "last_success_at", "now"))


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
