"""How much to claim ahead: about a second's work a channel."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass
class Pace:
    """The claim size of one channel, learned from how long its claims take to send.

    It begins with ``smallest`` rows, doubles while a claim is sent within half a second and
    halves when one takes longer than two, so what a kill leaves in doubt is bounded by time.
    """

    smallest: int
    largest: int
    size: int = 0
    _unsent: int = 0
    _claimed_at: float = 0.0

    def __post_init__(self) -> None:
        self.size = min(self.smallest, self.largest)

    def room(self, waiting: int) -> int:
        """Rows to claim now, so that no worker runs dry: none while half a claim still waits."""
        return self.size - waiting if waiting <= self.size // 2 else 0

    def claimed(self, rows: int) -> None:
        """A claim brought so many rows; the clock of a new measurement starts with it."""
        if self._unsent <= 0:
            self._claimed_at = time.monotonic()
            self._unsent = rows

    def sent(self, rows: int) -> None:
        """So many rows left; adjusts the size when that completes the measured claim."""
        if self._unsent <= 0:
            return
        self._unsent -= rows
        if self._unsent > 0:
            return
        took = time.monotonic() - self._claimed_at
        if took <= 0.5:
            self.size = min(self.largest, self.size * 2)
        elif took > 2.0:
            self.size = max(1, self.size // 2)
