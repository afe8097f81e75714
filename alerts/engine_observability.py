"""The run recorder: every run leaves a row, one item a phase, and costs the run nothing.

It writes on its own connection in its own thread, beside the phases. Each write is one
idempotent upsert of everything known so far, so any one of them that succeeds stores the whole
run, and a write that fails is made good by the next.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import psycopg2

from alerts import db

# What recording may cost a run in all, when the database does not answer.
CLOSE_SECONDS = 5.0
RETRY_SECONDS = (0.5, 1.0, 2.0)
# How far the stored progress of a long run may lag; a quick run is its beginning and its end.
PROGRESS_SECONDS = 2.0
CONNECT_TIMEOUT_SECONDS = 3
STATEMENT_TIMEOUT_MS = 2000
LOCK_TIMEOUT_MS = 1000

# A run that has ended stays ended, whatever arrives late.
UPSERT_RUN = """
WITH run AS (
    INSERT INTO alerts_engine_runs AS r (
        run_id, triggered_by, phase, started_at, finished_at, duration_ms, status, counts,
        error_summary, git_sha, dry_run, ci_run_url, heartbeat_at
    )
    VALUES (
        %(run_id)s, %(triggered_by)s, %(phase)s, %(started_at)s, %(finished_at)s,
        %(duration_ms)s, %(status)s, %(counts)s, %(error_summary)s, %(git_sha)s, %(dry_run)s,
        %(ci_run_url)s, clock_timestamp()
    )
    ON CONFLICT (run_id) DO UPDATE SET
        finished_at = excluded.finished_at,
        duration_ms = excluded.duration_ms,
        status = excluded.status,
        counts = excluded.counts,
        error_summary = excluded.error_summary,
        heartbeat_at = excluded.heartbeat_at
    WHERE r.status = 'running' OR excluded.status <> 'running'
    RETURNING run_id
)
INSERT INTO alerts_engine_run_items (
    run_id, phase, started_at, finished_at, duration_ms, status, counts, error_summary
)
SELECT
    run.run_id, i.phase, i.started_at, i.finished_at, i.duration_ms, i.status, i.counts,
    i.error_summary
FROM run
CROSS JOIN jsonb_to_recordset(%(items)s) AS i (
    phase text, started_at timestamptz, finished_at timestamptz, duration_ms bigint,
    status text, counts jsonb, error_summary text
)
ON CONFLICT (run_id, phase) DO UPDATE SET
    finished_at = excluded.finished_at,
    duration_ms = excluded.duration_ms,
    status = excluded.status,
    counts = excluded.counts,
    error_summary = excluded.error_summary
"""


@dataclass(frozen=True)
class RunItem:
    """One phase of a run; times are wall time, ``duration_ms`` is measured monotonically."""

    phase: str
    started_at: datetime
    finished_at: datetime
    duration_ms: int
    status: str  # success, failed, skipped
    counts: dict[str, Any] = field(default_factory=dict)
    error_summary: str | None = None


@dataclass(frozen=True)
class RunRecord:
    """Everything known of a run at one moment."""

    run_id: str
    triggered_by: str
    phase: str
    started_at: datetime
    dry_run: bool
    git_sha: str | None = None
    ci_run_url: str | None = None
    status: str = "running"  # running, success, failed, skipped
    finished_at: datetime | None = None
    duration_ms: int | None = None
    error_summary: str | None = None
    items: tuple[RunItem, ...] = ()

    @property
    def counts(self) -> dict[str, Any]:
        """The counts by phase letter."""
        return {item.phase: item.counts for item in self.items}

    def with_item(self, item: RunItem) -> RunRecord:
        """The record with one more phase."""
        return replace(self, items=(*self.items, item))


class RunRecorder:
    """Stores the newest :class:`RunRecord` it was given, until closed."""

    def __init__(
        self, open_connection: Callable[[], db.Connection], log: logging.LoggerAdapter[Any]
    ) -> None:
        self._open_connection = open_connection
        self._log = log
        self._conn: db.Connection | None = None
        self._changed = threading.Condition()
        self._newest: RunRecord | None = None
        self._stored: RunRecord | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="alerts-recorder", daemon=True)

    def submit(self, record: RunRecord) -> None:
        """Have the record stored; returns at once. A newer one replaces one not yet written."""
        with self._changed:
            if self._newest is None:
                self._thread.start()
            self._newest = record
            self._changed.notify_all()

    def close(self, record: RunRecord) -> bool:
        """Have the final record stored and wait for it, at most :data:`CLOSE_SECONDS`.

        False when it could not be stored: the run has ended all the same.
        """
        with self._changed:  # together, or the thread might end before it sees the record
            self._closing.set()
            self.submit(record)
        self._thread.join(CLOSE_SECONDS)
        recorded = self._stored is record
        if not recorded:
            self._log.warning("the run could not be recorded; the run itself is not affected")
        return recorded

    def _work(self) -> None:
        failures = 0
        while True:
            with self._changed:
                while self._newest is self._stored and not self._closing.is_set():
                    self._changed.wait()
                record = self._newest
            if record is None or record is self._stored:
                break
            if self._write(record):
                failures = 0
                self._closing.wait(PROGRESS_SECONDS)
                continue
            if self._closing.is_set() and failures >= len(RETRY_SECONDS):
                break
            # Ended early by the run's end: what could not be written gets its last tries then.
            self._closing.wait(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
            failures += 1
        self._disconnect()

    def _write(self, record: RunRecord) -> bool:
        """One upsert; False, with a warning, when it failed: recording never fails a run."""
        try:
            if self._conn is None or self._conn.closed:
                self._conn = self._open_connection()
            db.execute(self._conn, UPSERT_RUN, _parameters(record))
        except Exception as error:
            self._log.warning("recording the run failed", extra={"error": _error_code(error)})
            self._disconnect()
            return False
        self._stored = record
        return True

    def _disconnect(self) -> None:
        if self._conn is not None:
            with suppress(psycopg2.Error):
                self._conn.close()
            self._conn = None


def _error_code(error: Exception) -> str:
    code = getattr(error, "pgcode", None)
    return f"{type(error).__name__} {code}" if code else type(error).__name__


def _parameters(record: RunRecord) -> dict[str, Any]:
    parameters = {
        name: getattr(record, name)
        for name in (
            "run_id", "triggered_by", "phase", "started_at", "finished_at", "duration_ms",
            "status", "error_summary", "git_sha", "dry_run", "ci_run_url",
        )
    }  # fmt: skip
    parameters["counts"] = json.dumps(record.counts)
    parameters["items"] = json.dumps(
        [
            {
                "phase": item.phase,
                "started_at": item.started_at.isoformat(),
                "finished_at": item.finished_at.isoformat(),
                "duration_ms": item.duration_ms,
                "status": item.status,
                "counts": item.counts,
                "error_summary": item.error_summary,
            }
            for item in record.items
        ]
    )
    return parameters
