"""How long one call to a provider may take, step by step."""

from __future__ import annotations

import time

# Each step of handing a message over has the limit to itself, and all of them together have so
# many times that: a server that is slow at every step must not hold a thread for minutes.
STEPS_MAX = 4


class CallClock:
    """The deadlines of one call.

    ``timeout`` seconds for each step until the message is handed over, ``answer`` seconds for
    the answer to it: giving up on that one early is what sends messages twice.
    """

    def __init__(self, timeout: float, answer: float) -> None:
        self.timeout = timeout  # seconds of a step
        self._answer = answer
        self._hand_over_by = time.monotonic() + STEPS_MAX * timeout
        self.deadline = 0.0  # monotonic: of the step under way
        self.handed_over = False
        self.next_step()

    def next_step(self) -> None:
        """Another step of handing over begins."""
        self.deadline = min(time.monotonic() + self.timeout, self._hand_over_by)

    def hand_over(self) -> None:
        """The message has left as a whole; its answer is waited for."""
        self.handed_over = True
        self.deadline = time.monotonic() + self._answer

    @property
    def late(self) -> bool:
        """Whether the step under way has had its time."""
        return time.monotonic() >= self.deadline

    @property
    def may_start_over(self) -> bool:
        """Whether there is time to hand the message over once more, from the beginning."""
        return time.monotonic() < self._hand_over_by

    def seconds_left(self) -> float:
        """Seconds until the deadline; raises TimeoutError when there are none."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline of the call has passed")
        return left


def longest_call(timeout: float, answer: float) -> float:
    """Seconds after which a call by such a clock has ended one way or the other."""
    return STEPS_MAX * timeout + answer
