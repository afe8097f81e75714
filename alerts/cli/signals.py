"""SIGINT and SIGTERM: heard even while the main thread waits inside a database call.

Python runs a handler only between bytecodes, and a driver's call can last minutes. The C level
writes the signal's number into a pipe at once, and a thread reads it.
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
ABANDON_SECONDS = 2.5  # leaves time to keep the run's record


@contextmanager
def watching(stop: Stop) -> Iterator[None]:
    """Within, a signal stops the run instead of the process; for the main thread only."""
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
        signal.set_wakeup_fd(before)  # before the watcher ends, which closes the other end
        ended.set()
        if stop.signal is None:  # else the process is about to end: a second one changes nothing
            for number, handler in handlers.items():
                signal.signal(number, handler)
        os.close(writing)  # ends the watcher
        watcher.join(CANCEL_AGAIN_SECONDS)


def _no_default(number: int, frame: object) -> None:
    """Its being there keeps the default action, the end of the process, from happening."""


def _watch(reading: int, stop: Stop, ended: threading.Event) -> None:
    # Open to the end, though one byte is all that is read of it: Python reports a later signal
    # that it cannot write as an error, with a traceback.
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        received = pipe.read(1)
        if received and not ended.is_set():
            stop.interrupt(signal.Signals(received[0]).name)
            _see_to_the_end(stop, ended)


def _see_to_the_end(stop: Stop, ended: threading.Event) -> None:
    """Cancel statement after statement until the run has ended, or end the process.

    A server that hangs does not hear of that: then the connection is abandoned.
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
            # Again and again: one that comes between two statements cancels nothing.
            threading.Thread(target=_quietly, args=(cancel,), daemon=True).start()
        abandon = stop.abandon
        if abandon is not None and waited >= ABANDON_SECONDS:
            _quietly(abandon)
        ended.wait(min(CANCEL_AGAIN_SECONDS, max(0.0, LAST_RESORT_SECONDS - waited)))


def _quietly(cancel: object) -> None:
    with suppress(Exception):
        if callable(cancel):
            cancel()
