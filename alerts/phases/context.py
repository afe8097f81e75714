"""The input that a phase runs with."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Event

from alerts import db
from alerts.channels.base import Channel
from alerts.clock import Clock
from alerts.redaction import Redactor
from alerts.settings.config import Settings

# A run that has not ended this long after a signal is stuck in something that cannot be stopped.
LAST_RESORT_SECONDS = 4.8

Counts = dict[str, object]
# Called with what is being processed, how much is done, and the total if known.
Progress = Callable[[str, int, int | None], None]


def no_progress(name: str, done: int, total: int | None) -> None:
    """Default: progress is not reported."""


@dataclass
class Stop:
    """Why to stop early, if there is a reason: a signal, or a deadline in monotonic seconds.

    ``cancel_statement`` is set while a possibly long statement runs, so that a signal can cancel
    it. ``abandon`` gives up on a hung connection, where a cancel has no effect. ``last_resort`` is
    called if the run does not end in time after a signal.
    """

    deadline: float | None = None
    signalled: Event = field(default_factory=Event)
    signal: str | None = None
    signalled_at: float = 0.0
    cancel_statement: Callable[[], None] | None = None
    abandon: Callable[[], None] | None = None
    last_resort: Callable[[], None] | None = None

    def interrupt(self, signal: str) -> None:
        """Record a signal's name; only the first counts. Safe to call from any thread."""
        if not self.signalled.is_set():
            self.signal, self.signalled_at = signal, time.monotonic()
            self.signalled.set()

    def reason(self) -> str | None:
        """``signal``, ``deadline`` or None."""
        if self.signalled.is_set():
            return "signal"
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return "deadline"
        return None


@dataclass(frozen=True)
class PhaseContext:
    """One run, as its phases see it.

    ``ensure_lock`` raises :class:`alerts.locks.LockLost`; a phase calls it before each batch.
    ``open_connection`` gives a session of the engine's kind beside ``conn``; None where there may
    be no other. ``channels`` are the configured ones (in a dry run: stand-ins that only count).
    ``sender`` is the number of the phase's lock that this run holds, from 1 to ALERTS_SENDERS.
    A phase calls ``progress`` after each batch, whatever its size; it must cost nothing.
    """

    conn: db.Connection
    run_id: str
    settings: Settings
    clock: Clock
    since: timedelta
    batch_size: int
    dry_run: bool
    stop: Stop
    ensure_lock: Callable[[], None]
    channels: Mapping[str, Channel]
    log: logging.LoggerAdapter[logging.Logger]
    open_connection: Callable[[str], db.Connection] | None = None  # by its application's name
    paused: frozenset[str] = frozenset()  # channels that the owner has paused
    random: Callable[[], float] = random.random
    scrub: Callable[[str], str] = Redactor().scrub  # a safety net if an adapter leaks something
    progress: Progress = no_progress
    sender: int = 1
