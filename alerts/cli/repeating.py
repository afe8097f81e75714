"""Keeps the runner running: a run each so many seconds, until a signal."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping

from alerts.phases.context import Stop
from alerts.settings.config import Settings

INTERVAL = "ALERTS_EXPECTED_INTERVAL_MINUTES"
# Runs that send much take minutes, and health calls three intervals without a success failing.
LEAST_INTERVAL_MINUTES = 2

log = logging.getLogger("alerts.runner")


def expecting(environ: Mapping[str, str], seconds: int | None) -> Mapping[str, str]:
    """The environment, with the interval that health expects unless it is set there."""
    if seconds is None or environ.get(INTERVAL, "").strip():
        return environ
    return {**environ, INTERVAL: str(max(LEAST_INTERVAL_MINUTES, math.ceil(seconds / 60)))}


def run_every(seconds: int, settings: Settings, run: Callable[[], int], stop: Stop) -> int:
    """Call ``run`` at once and then each ``seconds``, until ``stop`` is signalled.

    Runs never overlap and never pile up: the slots that one has outlasted are left out. However a
    run ends, the next one comes. Returns 0: a signal is the one regular end.
    """
    if seconds > 60 * settings.expected_interval_minutes:
        minutes = settings.expected_interval_minutes
        text = "%s is %s, but --every %s runs less often: health will miss runs"
        log.warning(text, INTERVAL, minutes, seconds)
    started, slot = time.monotonic(), 0
    while not stop.signalled.is_set():
        try:
            run()
        except Exception as error:  # a bug of one run, or nobody reads the output any more
            log.critical("a bug: a run ended without a report", exc_info=error)
        # Those of the run that is over: its record is final, and the next one has its own.
        stop.deadline = stop.last_resort = None
        before, slot = slot, int((time.monotonic() - started) // seconds) + 1
        if slot > before + 1 and not stop.signalled.is_set():
            fields = {"every_seconds": seconds, "slots": slot - before - 1}
            log.warning("the run took longer than --every: slots left out", extra=fields)
        stop.signalled.wait(max(0.0, started + slot * seconds - time.monotonic()))
    return 0
