"""Handles SIGINT and SIGTERM even while the main thread waits inside a database call.

Python runs signal handlers only between bytecodes, and a driver call can last minutes. But at C
level the signal's number is written to a pipe immediately, and a thread reads it from there.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from alerts.phases.context import LAST_RESORT_SECONDS, Stop

SIGNALS = (signal.SIGINT, signal.SIGTERM)
CANCEL_AGAIN_SECONDS = 0.5
ABANDON_SECONDS = 2.5  # leaves time to store the run's record


@contextmanager
def watching(stop: Stop) -> Iterator[None]:
    """Make signals stop the run instead of the process; main thread only."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    ended = threading.Event()
    handlers = {number: signal.signal(number, _no_default) for number in SIGNALS}
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    watcher = threading.Thread(
        target=_watch, args=(reading, stop, ended), name="alerts-signals", daemon=True
    )
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)  # first, because the watcher closes the other end
        ended.set()
        if stop.signal is None:  # otherwise the process is about to end, so ignore further signals
            for number, handler in handlers.items():
                signal.signal(number, handler)
        os.close(writing)  # ends the watcher
        watcher.join(CANCEL_AGAIN_SECONDS)


def _no_default(number: int, frame: object) -> None:
    """Replaces the default action, which would end the process."""


def _watch(reading: int, stop: Stop, ended: threading.Event) -> None:
    # Only one byte is read, but the pipe stays open: if Python cannot write a later signal to it,
    # it prints an error with a traceback.
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        received = pipe.read(1)
        if received and not ended.is_set():
            stop.interrupt(signal.Signals(received[0]).name)
            _see_to_the_end(stop, ended)


def _see_to_the_end(stop: Stop, ended: threading.Event) -> None:
    """Keep cancelling statements until the run has ended; in the end, exit the process.

    A hung server does not react to a cancel, so the connection is abandoned after a while.
    """
    while not ended.is_set():
        waited = time.monotonic() - stop.signalled_at
        if waited >= LAST_RESORT_SECONDS:
            if stop.last_resort is not None:
                with suppress(Exception):
                    stop.last_resort()
            os._exit(1)
        cancel = stop.cancel_statement
        if cancel is not None:
            # Repeatedly, because a cancel that arrives between two statements has no effect.
            threading.Thread(target=_quietly, args=(cancel,), daemon=True).start()
        abandon = stop.abandon
        if abandon is not None and waited >= ABANDON_SECONDS:
            _quietly(abandon)
        ended.wait(min(CANCEL_AGAIN_SECONDS, max(0.0, LAST_RESORT_SECONDS - waited)))


def _quietly(cancel: object) -> None:
    with suppress(Exception):
        if callable(cancel):
            cancel()
