"""Pings an outside monitor as Healthchecks expects it, so that somebody notices when no run comes.

``/start`` when a run begins, the address itself when it has ended, ``/fail`` when it has failed,
each with the run's id as ``rid``. The address is a secret: no warning shows it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from alerts.channels.transport.http import post_anywhere
from alerts.settings.env import Secret
from alerts.settings.owner import PING_URL

START_SECONDS, END_SECONDS = 2.0, 3.0  # five in all
BODY_MAX = 10_000  # bytes; Healthchecks keeps no more
_NOT_PINGED = "the monitor could not be pinged"
_HEADERS = {"Content-Type": "text/plain; charset=utf-8"}


class Monitor:
    """The pings of one run; none of them raises or takes longer than its share of five seconds."""

    def __init__(self, address: Secret, log: logging.Logger) -> None:
        self._address = address.reveal()
        self._log = log
        self._starting: threading.Thread | None = None

    def start(self, run_id: str) -> None:
        """Report the start, in a thread of its own: the run waits for nothing."""
        self._starting = self._ping("/start", run_id, b"", START_SECONDS)

    def end(self, run_id: str, body: str, *, failed: bool) -> None:
        """Report how the run ended, once its start has been reported."""
        ends = time.monotonic() + END_SECONDS
        if self._starting is not None:
            self._starting.join(max(0.0, ends - time.monotonic()))
        text = body.encode(errors="replace")[:BODY_MAX]
        left = max(0.1, ends - time.monotonic())
        ending = self._ping("/fail" if failed else "", run_id, text, left)
        ending.join(left)
        if ending.is_alive():  # its own deadline has not ended it
            self._log.warning(_NOT_PINGED, extra={"variable": PING_URL, "error": "no answer"})

    def _ping(self, signal: str, run_id: str, body: bytes, seconds: float) -> threading.Thread:
        address = ping_address(self._address, signal, run_id)
        work = _reported(self._log, lambda: _post(address, body, seconds))
        # A thread, since no deadline interrupts the resolver of names.
        thread = threading.Thread(target=work, name="alerts-monitor", daemon=True)
        thread.start()
        return thread


def ping_address(address: str, signal: str, run_id: str) -> str:
    """The address to ping: its path with the signal behind, its own query and the run's id."""
    parts = urlsplit(address)
    path = f"{parts.path.rstrip('/')}{signal}" if signal else parts.path
    own = [pair for pair in parts.query.split("&") if pair and not pair.startswith("rid=")]
    return urlunsplit((parts.scheme, parts.netloc, path, "&".join([*own, f"rid={run_id}"]), ""))


def _post(address: str, body: bytes, seconds: float) -> int:
    """The answer's status; where nothing answers at once, it is tried a second time."""
    ends = time.monotonic() + seconds
    try:
        return post_anywhere(address, body, _HEADERS, seconds)
    except TimeoutError:
        raise
    except OSError:
        time.sleep(min(0.2, seconds / 4))
        return post_anywhere(address, body, _HEADERS, max(0.1, ends - time.monotonic()))


def _reported(log: logging.Logger, post: Callable[[], int]) -> Callable[[], None]:
    def work() -> None:
        told: dict[str, Any] = {"variable": PING_URL}
        try:
            status = post()
        except Exception as error:
            known = isinstance(error, OSError)
            told["error"] = str(error) if known else type(error).__name__
            log.warning(_NOT_PINGED, extra=told)
            return
        if not 200 <= status < 300:
            log.warning("the monitor did not take the ping", extra={**told, "status": status})

    return work
