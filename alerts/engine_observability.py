"""The run recorder: every run leaves a row, one item a phase, and costs the run nothing.

It writes on its own connection in its own thread, beside the phases. Each write is one
idempotent upsert of everything known so far, so any one of them that succeeds stores the whole
run, and a write that fails is made good by the next.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2

from alerts import db
from alerts.runs import spool
from alerts.runs.engine_state import STORE_STATE, EngineState
from alerts.runs.record import STALE_SECONDS, RunRecord
from alerts.runs.store import (
    CLOSE_STALE_RUNS,
    UPSERT_RUN,
    error_code,
    parameters,
    store,
    store_spooled,
)

# What recording may cost a run in all, when the database does not answer.
CLOSE_SECONDS = 5.0
RETRY_SECONDS = (0.5, 1.0, 2.0)
# How far the stored progress of a long run may lag; a quick run is its beginning and its end.
PROGRESS_SECONDS = 2.0
HEARTBEAT_SECONDS = 15.0
CONNECT_TIMEOUT_SECONDS = 3
STATEMENT_TIMEOUT_MS = 2000
LIMIT_SECONDS = 3.0  # where not even the timeout is told
LOCK_TIMEOUT_MS = 1000


def open_connection(database_url: str) -> db.Connection:
    """A connection on which no statement takes long, whatever holds the tables."""
    return db.open_session(
        database_url,
        application_name="alerts-recorder",
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        statement_timeout_ms=STATEMENT_TIMEOUT_MS,
        lock_timeout_ms=LOCK_TIMEOUT_MS,
        limit_seconds=LIMIT_SECONDS,
    )


class RunRecorder:
    """Stores the newest :class:`RunRecord` it was given, until closed, and keeps its heart beating.

    What cannot be stored by the end goes to the spool; what is in the spool is stored as soon as
    the database takes anything. ``state``, what the run runs with, goes along with the first write.
    """

    def __init__(
        self,
        connect: Callable[[], db.Connection],
        log: logging.LoggerAdapter[Any],
        spool_path: Path | None = None,
        state: EngineState | None = None,
    ) -> None:
        self._connect = connect
        self._log = log
        self._spool_path = spool_path
        self._state = state
        self._conn: db.Connection | None = None
        self._changed = threading.Condition()
        self._newest: RunRecord | None = None
        self._stored: RunRecord | None = None
        self._tidied = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="alerts-recorder", daemon=True)

    def submit(self, record: RunRecord) -> None:
        """Have the record stored; returns at once. A newer one replaces one not yet written."""
        with self._changed:
            if self._newest is None:
                self._thread.start()
            self._newest = record
            self._changed.notify_all()

    def close(self, record: RunRecord, seconds: float = CLOSE_SECONDS) -> bool:
        """Have the final record stored and wait for it, at most so many seconds.

        False when it could not be stored: it is in the spool then, and the run has ended all
        the same.
        """
        with self._changed:  # together, or the thread might end before it sees the record
            self._closing.set()
            self.submit(record)
        self._thread.join(seconds)
        recorded = self._stored is record
        if not recorded:
            self._log.warning("the run could not be recorded; the run itself is not affected")
            self.keep(record)
        return recorded

    def _work(self) -> None:
        failures = 0
        beat_at = time.monotonic()
        while True:
            with self._changed:
                if self._newest is self._stored and not self._closing.is_set():
                    self._changed.wait(HEARTBEAT_SECONDS)
                record = self._newest
            if record is None or (record is self._stored and self._closing.is_set()):
                break
            if record is self._stored and time.monotonic() - beat_at < HEARTBEAT_SECONDS:
                continue
            if self._write(record):
                failures, beat_at = 0, time.monotonic()
                self._replay_spool()
                self._closing.wait(PROGRESS_SECONDS)
                continue
            if self._closing.is_set() and failures >= len(RETRY_SECONDS):
                break
            # Ended early by the run's end: what could not be written gets its last tries then.
            self._closing.wait(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
            failures += 1
        self._disconnect()

    def _write(self, record: RunRecord) -> bool:
        """One upsert; False, with a warning, when it failed: recording never fails a run.

        The first one closes silent runs and stores the engine's state in the same round trip;
        should that be what fails, the next try goes without.
        """
        tidying, self._tidied = not self._tidied, True
        try:
            if self._conn is None or self._conn.closed:
                self._conn = self._connect()
            told_at = datetime.now(UTC)
            if tidying:
                values = {**parameters(record, told_at), "stale": STALE_SECONDS}
                statements = [CLOSE_STALE_RUNS, UPSERT_RUN]
                if self._state is not None:
                    values |= self._state.parameters(record.run_id)
                    statements.insert(0, STORE_STATE)
                db.execute(self._conn, "; ".join(statements), values)
            else:
                store(self._conn, record, told_at, self._spooled())
        except Exception as error:
            self._log.warning("recording the run failed", extra={"error": error_code(error)})
            self._disconnect()
            return False
        self._stored = record
        return True

    def _spooled(self) -> spool.Waiting | None:
        """What still waits there after this run's first write, which brings it back."""
        if self._spool_path is None:
            return None
        try:
            return spool.waiting(self._spool_path)
        except OSError:
            return None

    def _replay_spool(self) -> None:
        """Store what earlier runs left in the spool."""
        path, conn = self._spool_path, self._conn
        if path is None or conn is None or not path.exists():
            return
        try:
            stored, rejected = spool.replay(path, partial(store_spooled, conn, self._log))
        except OSError as error:
            fields = {"error": type(error).__name__}
            self._log.warning("the spool of run records cannot be read", extra=fields)
            return
        if stored:
            self._log.info("run records of the spool stored", extra={"records": stored})
        if rejected:
            text = "lines of the spool cannot be stored; they are set aside beside it, with reasons"
            self._log.warning(text, extra={"lines": rejected})

    def keep(self, record: RunRecord) -> None:
        """To the spool, and to standard error whole: a saved copy of either brings it back."""
        line = f'{{"event": "run_not_recorded", "record": {record.as_line()}}}'
        print(line, file=sys.stderr, flush=True)
        if self._spool_path is None:
            return
        try:
            spool.append(self._spool_path, record)
        except OSError as error:
            fields = {"error": type(error).__name__, "variable": "ALERTS_RUN_SPOOL"}
            self._log.error("the spool of run records cannot be written", extra=fields)

    def _disconnect(self) -> None:
        if self._conn is not None:
            with suppress(psycopg2.Error):
                self._conn.close()
            self._conn = None


def replay_file(conn: db.Connection, log: logging.LoggerAdapter[Any], path: Path) -> dict[str, int]:
    """Store the records of a saved spool; how many were, and how many lines were none.

    Raises OSError.
    """
    stored, rejected = spool.replay(path, partial(store_spooled, conn, log))
    return {"stored": stored, "rejected": rejected}
