"""The sending threads: lanes of claimed rows, rate limits, holds, and calls in flight.

Nothing here touches the database. The phase's own thread puts jobs into lanes and takes results
out; the workers do nothing but call providers.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from alerts.channels.base import Channel, Message, Moved
from alerts.failures import DeliveryError, FailureCode
from alerts.phases.send.channel_state import closes
from alerts.phases.send.claims import Claim

# Beyond the provider's own deadline: what a call may take when even that fails to end it (a
# name lookup, say). The call is then given up and its thread left to itself.
GRACE_SECONDS = 2.0


class Result(NamedTuple):
    """What came of a claimed row: ``error`` None means the provider took it."""

    claim: Claim
    message_id: str | None = None
    error: DeliveryError | None = None
    moved_to: str | None = None


@dataclass
class Lane:
    """One channel: its waiting jobs, its pace, and whether none of them may start."""

    channel: Channel
    seconds_between: float = 0.0
    jobs: deque[Claim] = field(default_factory=deque)
    next_start: float = 0.0  # monotonic, from the rate limit
    shut: bool = False

    def ready_at(self) -> float | None:
        """When the next job may start (monotonic seconds); None while there is none."""
        if not self.jobs or self.shut:
            return None
        return self.next_start


class _Flight:
    __slots__ = ("claim", "ends")

    def __init__(self, claim: Claim, ends: float) -> None:
        self.claim = claim
        self.ends = ends  # monotonic: when to give up waiting


class Dispatcher:
    """Runs jobs on threads, at most ``workers`` at a time.

    Calls under way and results not yet recorded are what a kill leaves in doubt: at most
    ``record_batch``, or ``workers`` where that is more. So with 1 each worker's message is
    recorded before its next one starts, and those of several go in one statement.
    """

    def __init__(
        self,
        channels: Mapping[str, Channel],
        render: Callable[[Claim], Message],
        *,
        workers: int,
        record_batch: int,
        rate_limits_per_minute: Mapping[str, int | None],
        call_seconds: float,
        sender: int = 1,
        senders: int = 1,
    ) -> None:
        """``sender`` is the place of this one among ``senders``, from 1. They share the limits:
        each takes every so many-th turn, beginning with its own."""
        turns = {name: 60.0 / limit for name, limit in rate_limits_per_minute.items() if limit}
        begins = time.monotonic()
        self.lanes = {
            name: Lane(channel, turn * senders, next_start=begins + turn * (sender - 1))
            for name, channel in channels.items()
            for turn in [turns.get(name, 0.0)]
        }
        self._render = render  # called by the workers: a bad text costs one row
        self._most_in_doubt = max(record_batch, workers)
        self._call_seconds = call_seconds + GRACE_SECONDS
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._news = threading.Condition(self._lock)
        self._flights: set[_Flight] = set()
        self._results: list[Result] = []
        self._unrecorded = 0
        self._woken = False
        self._closed = False
        self._workers_wanted = workers
        self._workers = 0

    # -- the phase's side ------------------------------------------------------------------

    def add(self, claims: Iterable[Claim]) -> None:
        """Put rows into the lanes of their channels; starts the threads when first needed."""
        with self._lock:
            for claim in claims:
                self.lanes[claim.channel].jobs.append(claim)
            self._work.notify_all()
            # Busy threads count as taken: a call under way must not keep a job waiting.
            needed = min(self._workers_wanted, self._waiting() + len(self._flights))
            missing = max(0, needed - self._workers)
            self._workers += missing
        for _ in range(missing):
            self._start_worker()

    def take_results(self, timeout: float) -> list[Result]:
        """Return whatever is ready, waiting at most ``timeout`` seconds for the first result.

        A call past its time is given up here: its result is ``outcome_unknown``, and whatever
        its thread still brings is dropped.
        """
        with self._lock:
            if not self._results and not self._woken and not self._overdue():
                self._news.wait(timeout)
            self._woken = False
            for flight in self._overdue():
                self._abandon(flight)
            results, self._results = self._results, []
            return results

    def wake(self) -> None:
        """Let the phase's thread look around although there may be no result."""
        with self._lock:
            self._woken = True
            self._news.notify()

    def recorded(self, results: int) -> None:
        """So many results are stored: jobs that waited for that may start."""
        with self._lock:
            self._unrecorded -= results
            self._work.notify_all()

    def open(self, channel: str) -> None:
        """Let the channel's jobs start, unless a result that was not taken yet is against it."""
        with self._lock:
            lane = self.lanes[channel]
            if not lane.shut:
                return
            lane.shut = any(
                each.claim.channel == channel and _shuts(each.error) for each in self._results
            )
            self._work.notify_all()

    def shut(self, channel: str) -> None:
        """Let none of the channel's jobs start."""
        with self._lock:
            self.lanes[channel].shut = True

    def withdraw(self, channel: str) -> list[Claim]:
        """Take back the channel's jobs that have not started."""
        with self._lock:
            jobs = list(self.lanes[channel].jobs)
            self.lanes[channel].jobs.clear()
            return jobs

    def waiting(self, channel: str) -> int:
        """Jobs of the channel that have not started."""
        return len(self.lanes[channel].jobs)

    @property
    def idle(self) -> bool:
        """Whether nothing waits, is under way or remains to be taken."""
        with self._lock:
            return not (self._waiting() or self._flights or self._results)

    def give_up_calls(self, seconds: float) -> None:
        """Give the calls under way at most so many seconds more."""
        ends = time.monotonic() + seconds
        with self._lock:
            for flight in self._flights:
                flight.ends = min(flight.ends, ends)

    def close(self) -> None:
        """Start nothing more; threads end as their calls do."""
        with self._lock:
            self._closed = True
            for lane in self.lanes.values():
                lane.jobs.clear()
            self._work.notify_all()

    # -- inside ----------------------------------------------------------------------------

    def _waiting(self) -> int:
        return sum(len(lane.jobs) for lane in self.lanes.values())

    def _overdue(self) -> list[_Flight]:
        now = time.monotonic()
        return [flight for flight in self._flights if flight.ends <= now]

    def _abandon(self, flight: _Flight) -> None:
        self._flights.discard(flight)
        error = DeliveryError(FailureCode.OUTCOME_UNKNOWN, "no answer within the deadline")
        self._finish(Result(flight.claim, error=error))
        self._workers -= 1  # its thread is lost with it
        if self._waiting():
            self._workers += 1
            self._start_worker()

    def _finish(self, result: Result) -> None:
        self._results.append(result)
        self._unrecorded += 1
        # A refusal that concerns the whole channel counts from this instant: no other worker
        # may start on it before the phase has looked at the result.
        if result.error is not None:
            lane = self.lanes[result.claim.channel]
            lane.shut = lane.shut or _shuts(result.error)
        if len(self._results) == 1:  # whoever waits is told once
            self._news.notify()

    def _start_worker(self) -> None:
        threading.Thread(target=self._worker, name="alerts-sender", daemon=True).start()

    def _worker(self) -> None:
        flight, result = None, None
        while True:
            with self._lock:  # once a message: to leave its result and to take the next one
                if flight is not None and result is not None:
                    if flight not in self._flights:
                        return  # given up: its row has its outcome, and this thread its successor
                    self._flights.discard(flight)
                    self._finish(result)
                flight = self._next_flight()
            if flight is None:
                return
            claim = flight.claim
            result = _attempt(claim, self._render, self.lanes[claim.channel].channel)

    def _next_flight(self) -> _Flight | None:
        """Wait for a job that may start; None when closed. The lock is held."""
        while not self._closed:
            now = time.monotonic()
            lane, ready_at = self._next_lane(now)
            in_doubt = len(self._flights) + self._unrecorded
            may_start = in_doubt < self._most_in_doubt
            if lane is not None and may_start and ready_at <= now:
                if lane.seconds_between:
                    lane.next_start = max(now, lane.next_start) + lane.seconds_between
                flight = _Flight(lane.jobs.popleft(), now + self._call_seconds)
                self._flights.add(flight)
                return flight
            self._work.wait(ready_at - now if lane is not None and may_start else None)
        self._workers -= 1
        return None

    def _next_lane(self, now: float) -> tuple[Lane | None, float]:
        """The lane whose next job may start first, and when; the longest line breaks ties."""
        best: tuple[float, int] | None = None
        chosen = None
        for lane in self.lanes.values():
            ready_at = lane.ready_at()
            if ready_at is None:
                continue
            rank = (max(ready_at, now), -len(lane.jobs))
            if best is None or rank < best:
                best, chosen = rank, lane
        return chosen, best[0] if best else 0.0


def _shuts(error: DeliveryError | None) -> bool:
    return error is not None and closes(error, probing=False)


def _attempt(claim: Claim, render: Callable[[Claim], Message], channel: Channel) -> Result:
    """Render and send one message; every failure becomes a coded one."""
    try:
        message = render(claim)
    except Exception as error:
        detail = f"message could not be rendered: {type(error).__name__}"
        return Result(claim, error=DeliveryError(FailureCode.PAYLOAD_INVALID, detail))
    try:
        taken = channel.send(message)
    except DeliveryError as error:
        return Result(claim, error=error)
    except Exception as error:  # a bug of the adapter: the provider may have been called
        detail = f"{channel.name} adapter failed: {type(error).__name__}"
        return Result(claim, error=DeliveryError(FailureCode.OUTCOME_UNKNOWN, detail))
    if isinstance(taken, Moved):
        return Result(claim, taken.message_id, None, taken.destination)
    return Result(claim, taken)
