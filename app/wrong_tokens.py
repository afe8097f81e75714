"""Callers with wrong tokens are answered ever more slowly; those with the right one never are."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

FREE = 3  # wrong ones that anybody may send before the answers take longer
FIRST_SECONDS = 0.1
LONGEST_SECONDS = 2.0
FORGOTTEN_SECONDS = 300.0
MOST_ADDRESSES = 1000
# So few answers are held back at a time, or whoever sends many wrong ones would keep all threads.
MOST_WAITING = 2


class WrongTokens:
    """How many wrong tokens each address has sent of late: a process's own, bounded table.

    Only wrong answers wait, so nobody is locked out: neither who made a mistake, nor who shares
    a proxy's address with somebody that guesses.
    """

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep
        self._lock = threading.Lock()
        self._found: OrderedDict[str, tuple[int, float]] = OrderedDict()  # the newest last
        self._waiting = threading.BoundedSemaphore(MOST_WAITING)

    def slow_down(self, address: str) -> None:
        """Note a wrong token, and hold its answer back."""
        seconds = self._note(address)
        if seconds and self._waiting.acquire(blocking=False):
            try:
                self._sleep(seconds)
            finally:
                self._waiting.release()

    def _note(self, address: str) -> float:
        now = time.monotonic()
        with self._lock:
            times, last = self._found.pop(address, (0, now))
            times = 1 if now - last > FORGOTTEN_SECONDS else times + 1
            self._found[address] = (times, now)
            if len(self._found) > MOST_ADDRESSES:
                self._found.popitem(last=False)
        if times <= FREE:
            return 0.0
        return min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(times - FREE - 1, 16))
