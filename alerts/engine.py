"""The loop: for each phase lock, run, record. It knows nothing of SQL tables."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psycopg2

from alerts import db, phases
from alerts.access import access_of
from alerts.channels import build_channels
from alerts.channels.base import Channel
from alerts.channels.counting import CountingChannel
from alerts.channels.provider import CallOptions
from alerts.clock import Clock
from alerts.engine_observability import CLOSE_SECONDS, RunRecorder, open_connection
from alerts.failures import FailureCode, PhaseFailed
from alerts.locks import LOCK_NOT_ACQUIRED, LockLost, PhaseLocks
from alerts.logs import bound
from alerts.phases import Phase, PhaseContext, Stop
from alerts.phases.context import LAST_RESORT_SECONDS, Progress, no_progress
from alerts.redaction import describe_exception, redactor_for
from alerts.repair import before_run
from alerts.repair.pauses import Pause
from alerts.runs import counts as counting
from alerts.runs.engine_state import state_of
from alerts.runs.record import RunItem, RunRecord
from alerts.settings.config import Settings, require_database_url

DISABLED_SUMMARY = "ALERTS_V2_ENABLED turns the engine off"

# A large fan-out takes what it takes: while the server says that it works on a statement, the
# run waits, up to the server's own timeout. Waiting for a table that a migration holds is bounded.
ENGINE_LOCK_TIMEOUT_MS = 30_000
ENGINE_STATEMENT_TIMEOUT_MS = 3_600_000
# After a signal, a statement that has waited so long is not going to be answered in time.
HUNG_SECONDS = 2.0
LOCKS_LIMIT_SECONDS = 15.0  # nothing there waits for anything


@dataclass(frozen=True)
class RunRequest:
    """What one invocation asks for.

    ``now`` freezes the business clock; ``batch_size`` bounds one claim (None: the setting);
    ``max_seconds`` ends the run early.
    """

    phase: str = phases.ALL
    dry_run: bool = False
    since_hours: int = 24
    batch_size: int | None = None
    max_seconds: float | None = None
    now: datetime | None = None


@dataclass(frozen=True)
class RunReport:
    """How a run ended: its final record, and whether that could be stored."""

    record: RunRecord
    recorded: bool
    asked: tuple[str, ...] = ()  # channels of which a test message was asked for


@dataclass
class Hooks:
    """What a caller may plug in: listeners, and channels or a stop of its own."""

    on_start: Callable[[RunRecord], None] = lambda record: None
    on_phase: Callable[[RunItem], None] = lambda item: None
    progress: Progress = no_progress
    channels: Mapping[str, Channel] | None = None
    stop: Stop = field(default_factory=Stop)


def run_engine(settings: Settings, request: RunRequest, hooks: Hooks | None = None) -> RunReport:
    """Run the requested phases and record the run.

    Every failure ends up in the report; raises :class:`ConfigError` only when
    there is no database to run on.
    """
    require_database_url(settings)
    return _Run(settings, request, hooks or Hooks(), told=not request.dry_run).run()


def record_config_failure(
    settings: Settings, request: RunRequest, summary: str, hooks: Hooks | None = None
) -> RunReport:
    """Record a run that a configuration error ended before any phase."""
    return _Run(settings, request, hooks or Hooks()).fail(summary)


class _Run:
    def __init__(
        self, settings: Settings, request: RunRequest, hooks: Hooks, *, told: bool = False
    ) -> None:
        """``told``: the settings are those that the engine runs with, for everybody to know."""
        self.settings = settings
        self.request = request
        self.hooks = hooks
        self.started = time.monotonic()
        if request.max_seconds is not None:
            hooks.stop.deadline = self.started + request.max_seconds
        github = settings.github
        self.record = RunRecord(
            run_id=str(uuid.uuid4()),
            triggered_by=github.triggered_by,
            phase=request.phase,
            started_at=datetime.now(UTC),
            dry_run=request.dry_run,
            rerun=github.is_rerun,
            git_sha=github.sha,
            ci_run_url=github.run_url,
            interval_minutes=settings.expected_interval_minutes,
        )
        self.log = bound(logging.getLogger("alerts.engine"), run_id=self.record.run_id)
        self.redactor = redactor_for(settings)
        self.url = url = require_database_url(settings)
        self.open_session = partial(db.open_session, url)
        state = state_of(settings) if told else None
        opening = partial(open_connection, url)
        self.recorder = RunRecorder(opening, self.log, settings.run_spool, state)
        self.locks = PhaseLocks(self._connect_for_locks)
        self.wake_seconds = db.WAKE_SECONDS  # of waiting for the database, in all of the run
        self.channels: Mapping[str, Channel] = {}
        self.conn: db.WatchedConnection | None = None
        self.pauses: list[Pause] = []
        self.asked: tuple[str, ...] = ()
        hooks.stop.last_resort = self._keep_record

    def run(self) -> RunReport:
        self._begin()
        if not self.settings.enabled:
            return self._finish("skipped", DISABLED_SUMMARY)
        try:
            self.conn = self._connect()
        except (psycopg2.Error, db.PoolerDetected) as error:
            return self._finish("failed", self._describe(error))
        self.recorder.submit(self.record)
        try:
            blind = self._blind_spots(self.conn)
            if blind:
                return self._finish("failed", blind)
            before = before_run.look(self.conn, self.log)
            self.asked = before.asked
            if before.status is not None:
                return self._finish(before.status, before.summary)
            self.pauses = before.pauses
            self.channels = self._choose_channels()
            self._run_phases(phases.chosen(self.request.phase))
        except Exception as error:  # a bug must not cost the record of the run
            return self._finish("failed", self._describe(error))
        finally:
            self._close()
        return self._finish(*self._verdict())

    def fail(self, summary: str) -> RunReport:
        self._begin()
        return self._finish("failed", summary)

    def _begin(self) -> None:
        try:
            self.hooks.on_start(self.record)
        except Exception as error:  # whoever listens is no part of the run
            fields = {"error": type(error).__name__}
            self.log.warning("the start of the run could not be reported", extra=fields)

    def _connect(self, name: str = "alerts-engine") -> db.WatchedConnection:
        return self._connect_patiently(
            application_name=name,
            statement_timeout_ms=ENGINE_STATEMENT_TIMEOUT_MS,
            lock_timeout_ms=ENGINE_LOCK_TIMEOUT_MS,
        )

    def _connect_for_locks(self) -> db.WatchedConnection:
        return self._connect_patiently(
            application_name="alerts-locks", limit_seconds=LOCKS_LIMIT_SECONDS
        )

    def _connect_patiently(self, **options: Any) -> db.WatchedConnection:
        """Connect; a database that wakes up, or fails over, gets what is left of its time."""
        started = time.monotonic()
        try:
            return self.open_session(
                wait_seconds=self.wake_seconds, stopped=self.hooks.stop.reason, **options
            )
        finally:
            self.wake_seconds = max(0.0, self.wake_seconds - (time.monotonic() - started))

    def _blind_spots(self, conn: db.Connection) -> str | None:
        """What must be seen and cannot be: preferences that are hidden would be ignored."""
        access = access_of(conn)
        if access.filtered:
            fields = {"tables": ", ".join(access.filtered)}
            self.log.warning("row level security may hide rows from the engine", extra=fields)
        return str(access) if access.hidden else None

    def _choose_channels(self) -> Mapping[str, Channel]:
        for problem in self.settings.channels.problems:
            fields = {"channel": problem.channel, "code": FailureCode.MISCONFIGURED.value}
            self.log.error("channel not used: %s", problem.message, extra=fields)
        for unused in self.settings.channels.unused:
            self.log.warning("%s; no channel needs it", unused.message)
        if self.request.dry_run:
            return {name: CountingChannel() for name in self.settings.channels.providers}
        if self.hooks.channels is not None:
            return self.hooks.channels
        options: CallOptions = {
            "timeout": self.settings.provider_timeout_seconds,
            "answer": self.settings.provider_answer_seconds,
            "connections": self.settings.send_workers,
        }
        return build_channels(self.settings.channels, options)

    def _run_phases(self, chosen: tuple[Phase, ...]) -> None:
        if self.request.dry_run and self.conn is not None:
            db.execute(self.conn, "BEGIN")  # never committed: closing the connection undoes it
        for phase in chosen:
            item = self._run_phase(phase)
            self.record = self.record.with_item(item)
            self._tell(item)
            if phase is not chosen[-1]:  # the last one is written with the end of the run
                self.recorder.submit(self.record)

    def _tell(self, item: RunItem) -> None:
        try:
            self.hooks.on_phase(item)
        except Exception as error:  # whoever reads the output has gone: no reason to send nothing
            fields = {"phase": item.phase, "error": type(error).__name__}
            self.log.warning("the end of a phase could not be reported", extra=fields)

    def _run_phase(self, phase: Phase) -> RunItem:
        """Lock and run one phase; whatever happens becomes its item, and the next one runs."""
        started_at, started = datetime.now(UTC), time.monotonic()
        counts: dict[str, object] = {}
        status, summary = "success", None
        try:
            reason = self.hooks.stop.reason()
            slot = 0
            if reason is None:
                keys = phase.lock_keys(self.settings.senders)
                slot = self.locks.acquire(*keys, keep_others=self.request.dry_run)
                reason = None if slot else LOCK_NOT_ACQUIRED
            if reason is None:
                counts = self._call(phase, slot)
                if counts.get("stopped_early") == "signal":
                    status, summary = "failed", self._interrupted()
            else:
                status, summary, counts = "skipped", reason, {"skipped": reason}
        except PhaseFailed as error:
            status, counts, summary = "failed", error.counts, self._describe(error)
        except LockLost:
            status, summary = "failed", "lock_lost: the connection that held the phase lock ended"
        except Exception as error:
            status, summary = "failed", self._describe(error)
        finally:
            self.hooks.stop.cancel_statement = self.hooks.stop.abandon = None
        item = RunItem(
            phase=phase.letter,
            started_at=started_at,
            finished_at=datetime.now(UTC),
            duration_ms=_elapsed_ms(started),
            status=status,
            counts=self._checked(phase, counts),
            error_summary=summary,
        )
        fields = {"phase": phase.letter, "status": status, "duration_ms": item.duration_ms}
        level = logging.ERROR if status == "failed" else logging.INFO
        self.log.log(level, summary or "phase finished", extra=fields)
        return item

    def _checked(self, phase: Phase, counts: dict[str, object]) -> dict[str, object]:
        safe, problems = counting.checked(counts)
        if problems:
            fields = {"phase": phase.letter, "counts": problems}
            self.log.warning("counts that are no integers, booleans or codes", extra=fields)
        if not counting.adds_up(phase.letter, safe):
            self.log.warning("the counts do not add up", extra={"phase": phase.letter})
            safe["warning"] = counting.WARNING
        return safe

    def _call(self, phase: Phase, slot: int) -> dict[str, object]:
        if self.conn is None or self.conn.closed:
            if self.request.dry_run:  # what the earlier phases did is gone with the transaction
                raise PhaseFailed("the connection of the dry run ended")
            self.conn = self._connect()
        if phase.cancellable:
            backend = self.conn.info.backend_pid
            self.hooks.stop.cancel_statement = partial(db.cancel_statement, self.url, backend)
        self.hooks.stop.abandon = partial(self.conn.abandon_after, HUNG_SECONDS)
        context = PhaseContext(
            conn=self.conn,
            run_id=self.record.run_id,
            settings=self.settings,
            clock=Clock(self.request.now or self.settings.clock),
            since=timedelta(hours=self.request.since_hours),
            batch_size=self.request.batch_size or self.settings.send_batch_size,
            dry_run=self.request.dry_run,
            stop=self.hooks.stop,
            ensure_lock=self.locks.ensure_held,
            # A dry run is one transaction: nothing else sees what it has done.
            open_connection=None if self.request.dry_run else self._connect,
            channels=self.channels,
            paused=frozenset(each.channel for each in self.pauses),
            scrub=self.redactor.scrub,
            log=bound(
                logging.getLogger(f"alerts.phases.{phase.letter}"),
                run_id=self.record.run_id,
                phase=phase.letter,
            ),
            progress=self.hooks.progress,
            sender=slot,
        )
        if not self.request.dry_run:
            return phase.run(context)
        with db.transaction(self.conn):  # a savepoint: a failing phase leaves the others theirs
            return phase.run(context)

    def _verdict(self) -> tuple[str, str | None]:
        failed = [item for item in self.record.items if item.status == "failed"]
        if self.hooks.stop.signal:
            return "failed", self._interrupted()
        if failed:
            return "failed", "; ".join(f"phase {i.phase}: {i.error_summary}" for i in failed)
        if all(item.status == "skipped" for item in self.record.items):
            reasons = sorted({item.error_summary or "" for item in self.record.items})
            return "skipped", ", ".join(reasons)
        return "success", None

    def _finish(self, status: str, summary: str | None) -> RunReport:
        self.record = self._ended(status, summary)
        stop, seconds = self.hooks.stop, CLOSE_SECONDS
        if stop.signal:  # what is left of the time that a signal gives
            spent = time.monotonic() - stop.signalled_at
            seconds = max(0.2, LAST_RESORT_SECONDS - 0.2 - spent)
        recorded = self.recorder.close(self.record, seconds)
        return RunReport(self.record, recorded, self.asked)

    def _interrupted(self) -> str:
        return f"interrupted by {self.hooks.stop.signal}"

    def _keep_record(self) -> None:
        """The run cannot end by itself: at least its record is kept."""
        self.recorder.keep(self._ended("failed", self._interrupted()))

    def _ended(self, status: str, summary: str | None) -> RunRecord:
        return replace(
            self.record,
            status=status,
            finished_at=datetime.now(UTC),
            duration_ms=_elapsed_ms(self.started),
            error_summary=summary[:2000] if summary else None,
        )

    def _describe(self, error: BaseException) -> str:
        """What ended the run or a phase. After a signal the database is no longer waited for and
        statements are cancelled: what fails then fails because of the signal."""
        ended = isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError))
        if ended and self.hooks.stop.signal:
            return self._interrupted()
        told = describe_exception(error, self.redactor)
        return f"{told}; {db.MIGRATE}" if db.lacks_migrations(error) else told

    def _close(self) -> None:
        for conn in (self.conn, self.locks):
            if conn is not None:
                with suppress(psycopg2.Error):
                    conn.close()
        if self.hooks.channels is None:
            for name, channel in self.channels.items():
                try:
                    channel.close()
                except Exception as error:  # an adapter's bug must not cost the record either
                    fields = {"channel": name, "error": type(error).__name__}
                    self.log.warning("a channel could not be closed", extra=fields)


def _elapsed_ms(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
