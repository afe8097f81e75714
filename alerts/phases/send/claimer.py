"""Claiming: in the phase's own thread, or beside it on a connection of its own."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field

import psycopg2

from alerts.phases.context import PhaseContext
from alerts.phases.send import claims
from alerts.phases.send.claims import QUEUES, Claim, Claimed, Mark, Queue
from alerts.phases.send.content import Contents
from alerts.phases.send.shares import Part
from alerts.phases.send.statements import Session

# How long a claim goes on from where the last one ended. What enters the queue before that place
# (a retry, a row made late) waits no longer than this and the end of what is due.
GO_ON_SECONDS = 5.0


class Marks:
    """How far the claims of a run have come in each queue and channel.

    What they have passed has left the queue, but its entries stay in the index until a vacuum, and
    a claim that begins at the oldest one again reads past all of them.
    """

    def __init__(self) -> None:
        self._found: dict[Part, tuple[Mark, float]] = {}  # with when to begin anew

    def of(self, part: Part) -> Mark | None:
        """Where to go on; None means at the oldest row."""
        mark, ends = self._found.get(part, (None, 0.0))
        return mark if time.monotonic() < ends else None

    def move(self, part: Part, mark: Mark, *, anew: bool) -> None:
        """A claim has come this far, and may not have come to the end; ``anew``: it began at the
        oldest row."""
        ends = time.monotonic() + GO_ON_SECONDS if anew else self._found[part][1]
        self._found[part] = (mark, ends)

    def forget(self, part: Part) -> None:
        """Begin at the oldest row again."""
        self._found.pop(part, None)


@dataclass(frozen=True)
class Wanted:
    """At most ``rooms[channel]`` rows a channel, ``parts`` of it from each queue, and ``limit`` in
    all, from one queue after the other.

    ``unconfigured``: channels whose rows are skipped; ``exempt``: claimed although they are
    closed.
    """

    rooms: Mapping[str, int]
    limit: int
    unconfigured: Sequence[str] = ()
    exempt: Sequence[str] = ()
    queues: Sequence[Queue] = QUEUES
    parts: Mapping[Part, int] = field(default_factory=dict)  # without one: all of the room


@dataclass
class Found:
    """What a claim brought."""

    wanted: Wanted
    by_queue: list[tuple[Queue, Claimed]] = field(default_factory=list)
    empty: set[Part] = field(default_factory=set)  # brought less than was asked for
    full: set[Part] = field(default_factory=set)  # the others that were asked
    to_send: list[Claim] = field(default_factory=list)
    by_channel: Counter[str] = field(default_factory=Counter)  # all rows moved
    error: Exception | None = None  # then nothing of it may be sent: it may lack its content


class Claimer:
    """Claims rows and reads what they say. One claim at a time."""

    def __init__(self, context: PhaseContext, contents: Contents) -> None:
        self._context = context
        self._contents = contents
        self._marks = Marks()
        self._beside: Session | None = None
        self._under_way: Future[Found] | None = None
        self.can_work_beside = context.open_connection is not None

    @property
    def busy(self) -> bool:
        """Whether a claim has begun and has not been taken yet."""
        return self._under_way is not None

    @property
    def done(self) -> bool:
        """Whether the claim that has begun can be taken."""
        return self._under_way is not None and self._under_way.done()

    def claim(self, session: Session, wanted: Wanted) -> Found:
        """Claim what is wanted. An error is returned along with what was claimed before it."""
        found = Found(wanted)
        try:
            for queue in wanted.queues:
                self._claim_from(session, queue, found)
            self._contents.load(session.conn, found.to_send)
        except Exception as error:
            found.error = error
        return found

    def _claim_from(self, session: Session, queue: Queue, found: Found) -> None:
        wanted, taken = found.wanted, Counter[str]()
        names = list(wanted.rooms)
        while names:
            left = {
                name: min(
                    wanted.rooms[name] - found.by_channel[name],
                    wanted.parts.get((queue.name, name), wanted.rooms[name]) - taken[name],
                )
                for name in names
            }
            left = {name: room for name, room in left.items() if room > 0}
            limit = wanted.limit - found.by_channel.total()
            if not left or limit <= 0:
                return
            claimed, names = self._claim_once(session, queue, found, left, limit)
            taken += claimed.by_channel

    def _claim_once(
        self, session: Session, queue: Queue, found: Found, left: Mapping[str, int], limit: int
    ) -> tuple[Claimed, list[str]]:
        """One claim, and the channels that it found little in where it went on from a mark: what
        came in before that may be due."""
        context, wanted = self._context, found.wanted
        marks = {  # a probe takes the oldest
            name: None if name in wanted.exempt else self._marks.of((queue.name, name))
            for name in left
        }
        claimed = claims.claim_due(
            session,
            queue,
            run_id=context.run_id,
            now=context.clock.now(),
            rooms=left,
            limit=limit,
            unconfigured=wanted.unconfigured,
            exempt=wanted.exempt,
            max_age_hours=context.settings.delivery_max_age_hours,
            allowlist=context.settings.allowlist,
            after={name: mark for name, mark in marks.items() if mark is not None},
        )
        found.by_queue.append((queue, claimed))
        found.to_send += claimed.to_send
        found.by_channel += claimed.by_channel
        again = []
        for name, room in left.items():
            part = (queue.name, name)
            if claimed.by_channel[name] == room or claimed.by_channel.total() >= limit:
                found.full.add(part)
                if name in claimed.last and name not in wanted.exempt:
                    self._marks.move(part, claimed.last[name], anew=marks[name] is None)
            elif marks[name] is not None:
                self._marks.forget(part)
                again.append(name)
            else:
                found.empty.add(part)
        return claimed, again

    # -- beside the phase's thread ---------------------------------------------------------

    def begin(self, wanted: Wanted, when_done: Callable[[], None]) -> None:
        """Begin a claim in a thread of its own; its connection is opened when first needed."""
        self._under_way = future = Future[Found]()
        future.add_done_callback(lambda _: when_done())

        def work() -> None:
            session = self._session_beside()
            nothing = Found(Wanted({}, 0))
            future.set_result(nothing if session is None else self.claim(session, wanted))

        threading.Thread(target=work, name="alerts-claims", daemon=True).start()

    def _session_beside(self) -> Session | None:
        """None where the server gives no further connection: claims then go by the first one."""
        open_connection = self._context.open_connection
        if self._beside is None and open_connection is not None:
            try:
                self._beside = Session(open_connection("alerts-claims"))
            except Exception as error:
                self.can_work_beside = False
                fields = {"error": type(error).__name__}
                self._context.log.warning("no connection for claims beside sending", extra=fields)
        return self._beside

    def take(self) -> Found:
        """What the claim that was begun brought."""
        future, self._under_way = self._under_way, None
        if future is None:
            raise RuntimeError("no claim has begun")
        return future.result()

    def close(self) -> None:
        """End the connection, but not under a claim that still waits for the database."""
        if self._beside is not None and not self.busy:
            with suppress(psycopg2.Error):
                self._beside.conn.close()
