"""What a run tells its owner and the outside monitor, besides its record: never at its cost."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from typing import Any

import psycopg2

from alerts import db
from alerts.clock import Clock
from alerts.health.brief import brief, brief_text
from alerts.health.report import get_health
from alerts.owner import notices, trials
from alerts.owner.monitor import Monitor
from alerts.phases.context import LAST_RESORT_SECONDS, Stop
from alerts.runs.record import RunRecord
from alerts.settings.config import Settings, require_database_url

STATEMENT_MS = 3000
_LOOK_SECONDS = 0.2  # how soon a signal is seen
_SPARE_SECONDS = 0.3  # of the time that a signal gives

log = logging.getLogger("alerts.owner")

Health = Mapping[str, Any]


class Telling:
    """What one run tells. Nothing here raises; a dry run tells nobody."""

    def __init__(
        self, settings: Settings, stop: Stop, *, dry_run: bool, now: datetime | None = None
    ) -> None:
        """``now`` freezes business time, as for the run."""
        self._settings, self._stop, self._quiet = settings, stop, dry_run
        self._clock = Clock(now or settings.clock)
        address = settings.owner.ping_url
        self._monitor = None if address is None or dry_run else Monitor(address, log)
        self._over = threading.Event()
        self._watcher: threading.Thread | None = None

    def started(self, record: RunRecord) -> None:
        """The run begins."""
        if self._monitor is None:
            return
        self._monitor.start(record.run_id)
        self._watcher = threading.Thread(
            target=self._watch, args=(self._monitor, record.run_id), name="alerts-told", daemon=True
        )
        self._watcher.start()

    def _watch(self, monitor: Monitor, run_id: str) -> None:
        """Report a run that is told to stop as failed while it winds down: that may take all the
        time it has left."""
        while not self._over.is_set():
            if self._stop.signalled.wait(_LOOK_SECONDS) and not self._over.is_set():
                text = f"Run failed: interrupted by {self._stop.signal}\n"
                monitor.end(run_id, text, failed=True)
                return

    def not_started(self, summary: str) -> None:
        """There is not even a run to record."""
        if self._monitor is not None:
            self._monitor.end(str(uuid.uuid4()), f"Run failed: {summary}\n", failed=True)

    def ended(
        self, record: RunRecord, asked: tuple[str, ...] = (), *, health_wanted: bool = False
    ) -> Health | None:
        """The run is over and recorded; ``asked`` are the channels of test messages asked for.

        Returns health as of then if somebody needs it and the database answers.
        """
        if self._stop.signal and self._watcher is not None:
            spent = time.monotonic() - self._stop.signalled_at
            self._watcher.join(max(0.0, LAST_RESORT_SECONDS - _SPARE_SECONDS - spent))
            if record.status != "failed":  # the signal came when the run was over
                self._ping(record, None)
            return None
        self._over.set()
        owner = not self._quiet and bool(self._settings.owner.addresses or asked)
        health: Health | None = None
        if self._stop.signal or not (health_wanted or owner or self._monitor):
            return None
        try:
            with closing(self._connect()) as conn:
                health = self._read(conn)
                self._ping(record, health)
                if owner and not self._stop.signal:
                    self._tell(conn, record, asked, health)
        except Exception as error:  # the run is over: no bug here may change its result
            code = getattr(error, "pgcode", None) or type(error).__name__
            log.warning("health could not be read for the owner", extra={"error": code})
            if health is None:
                self._ping(record, None)
        return health

    def _connect(self) -> db.Connection:
        return db.connect(
            require_database_url(self._settings),
            application_name="alerts-owner",
            connect_timeout=3,
            limit_seconds=STATEMENT_MS / 1000 + 1,
        )

    def _read(self, conn: db.Connection) -> Health:
        with db.web_transaction(conn, read_only=True, statement_timeout_ms=STATEMENT_MS):
            return get_health(conn, self._settings, self._clock.now())

    def _tell(
        self, conn: db.Connection, record: RunRecord, asked: tuple[str, ...], health: Health
    ) -> None:
        try:
            if asked:
                trials.send_asked(conn, self._settings, asked, log, self._stop)
            if self._settings.owner.addresses:
                notices.tell(conn, self._settings, health, record.run_id, log, self._stop)
        except psycopg2.Error as error:
            fields = {"error": error.pgcode or type(error).__name__}
            log.warning("what the owner is told could not be stored", extra=fields)

    def _ping(self, record: RunRecord, health: Health | None) -> None:
        if self._monitor is None:
            return
        body = _in_short(record) if health is None else brief_text(brief(health))
        self._monitor.end(record.run_id, body, failed=record.status == "failed")


def _in_short(record: RunRecord) -> str:
    """Only the run itself, for when health cannot be read."""
    why = f": {record.error_summary}" if record.error_summary else ""
    return f"Run {record.status}{why}\n"
