"""Limits on requests: a process's own, in bounded memory."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

MOST_KEYS = 10_000


class Limit:
    """At most ``most`` requests at once of each key, and as many evenly spread over ``seconds``.

    Of more keys than :data:`MOST_KEYS` those that were quiet for longest are forgotten.
    """

    def __init__(
        self, most: int, seconds: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._window = seconds
        self._each = seconds / most  # what one request takes of the window
        self._clock = clock
        self._lock = threading.Lock()
        self._used_until: OrderedDict[str, float] = OrderedDict()  # the latest last

    def wait(self, key: str) -> float:
        """Count a request; 0, or for how many seconds its key has to wait for the next one."""
        now = self._clock()
        with self._lock:
            until = max(self._used_until.get(key, now), now) + self._each
            if until - now > self._window:
                return until - now - self._window
            self._used_until[key] = until
            self._used_until.move_to_end(key)
            if len(self._used_until) > MOST_KEYS:
                self._used_until.popitem(last=False)
        return 0.0
