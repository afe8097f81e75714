"""Time limits for each step of one provider call."""

from __future__ import annotations

import time

# Each step of handing over a message gets the full step limit, and all steps together get this
# multiple of it, so a server that is slow at every step cannot hold a thread for minutes.
STEPS_MAX = 4


class CallClock:
    """The deadlines of one call.

    Each step until the message is handed over gets ``timeout`` seconds. The answer after that gets
    ``answer`` seconds: giving up on it too early causes duplicate messages.
    """

    def __init__(self, timeout: float, answer: float) -> None:
        self.timeout = timeout  # seconds per step
        self._answer = answer
        self._hand_over_by = time.monotonic() + STEPS_MAX * timeout
        self.deadline = 0.0  # monotonic time, of the current step
        self.handed_over = False
        self.next_step()

    def next_step(self) -> None:
        """Start the next step before the handover."""
        self.deadline = min(time.monotonic() + self.timeout, self._hand_over_by)

    def hand_over(self) -> None:
        """Note that the whole message was sent, and start waiting for the answer."""
        self.handed_over = True
        self.deadline = time.monotonic() + self._answer

    @property
    def late(self) -> bool:
        """Whether the current step has passed its deadline."""
        return time.monotonic() >= self.deadline

    @property
    def may_start_over(self) -> bool:
        """Whether there is time to start over with handing over the message."""
        return time.monotonic() < self._hand_over_by

    def seconds_left(self) -> float:
        """Seconds until the deadline; raises TimeoutError if it has passed."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline of the call has passed")
        return left


class WholeCall(CallClock):
    """One deadline for a call with everything that belongs to it."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        super().__init__(seconds, seconds)

    def next_step(self) -> None:
        """Start the next step; it gets what is left."""
        self.deadline = self._end

    def hand_over(self) -> None:
        """Note that the whole message was sent; the answer gets what is left."""
        self.handed_over = True


def longest_call(timeout: float, answer: float) -> float:
    """The maximum duration, in seconds, of a call with these limits."""
    return STEPS_MAX * timeout + answer
