"""Claiming: in the phase's own thread, or beside it on a connection of its own."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field

import psycopg2

from alerts.phases.context import PhaseContext
from alerts.phases.send import claims
from alerts.phases.send.claims import QUEUES, Claim, Claimed, Queue
from alerts.phases.send.content import Contents
from alerts.phases.send.statements import Session


@dataclass
class Found:
    """What a claim for ``rooms`` brought."""

    rooms: dict[str, int]
    limit: int
    by_queue: list[tuple[Queue, Claimed]] = field(default_factory=list)
    to_send: list[Claim] = field(default_factory=list)
    by_channel: Counter[str] = field(default_factory=Counter)  # all rows moved
    error: Exception | None = None  # then nothing of it may be sent: it may lack its content


class Claimer:
    """Claims rows and reads what they say. One claim at a time."""

    def __init__(
        self, context: PhaseContext, contents: Contents, unconfigured: Sequence[str]
    ) -> None:
        self._context = context
        self._contents = contents
        self._unconfigured = unconfigured
        self._beside: Session | None = None
        self._under_way: Future[Found] | None = None
        self.can_work_beside = context.open_connection is not None

    @property
    def busy(self) -> bool:
        """A claim has begun and was not taken yet."""
        return self._under_way is not None

    @property
    def done(self) -> bool:
        """The claim that has begun can be taken."""
        return self._under_way is not None and self._under_way.done()

    def claim(self, session: Session, rooms: dict[str, int], limit: int) -> Found:
        """Claim at most ``rooms[channel]`` a channel and ``limit`` in all, deliveries before
        digests. An error is told beside what was claimed by then."""
        found = Found(rooms, limit)
        try:
            for queue in QUEUES:
                self._claim_from(session, queue, found)
            self._contents.load(session.conn, found.to_send)
        except Exception as error:
            found.error = error
        return found

    def _claim_from(self, session: Session, queue: Queue, found: Found) -> None:
        context = self._context
        left = {
            name: room - found.by_channel[name]
            for name, room in found.rooms.items()
            if room > found.by_channel[name]
        }
        limit = found.limit - found.by_channel.total()
        if not left or limit <= 0:
            return
        claimed = claims.claim_due(
            session,
            queue,
            run_id=context.run_id,
            now=context.clock.now(),
            rooms=left,
            limit=limit,
            unconfigured=self._unconfigured,
            max_age_hours=context.settings.delivery_max_age_hours,
            allowlist=context.settings.allowlist,
        )
        found.by_queue.append((queue, claimed))
        found.to_send += claimed.to_send
        found.by_channel += claimed.by_channel

    # -- beside the phase's thread ---------------------------------------------------------

    def begin(self, rooms: dict[str, int], limit: int, when_done: Callable[[], None]) -> None:
        """Begin a claim in a thread of its own; its connection is opened when first needed."""
        self._under_way = future = Future[Found]()
        future.add_done_callback(lambda _: when_done())

        def work() -> None:
            session = self._session_beside()
            future.set_result(
                Found({}, 0) if session is None else self.claim(session, rooms, limit)
            )

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
        """What the claim brought that was begun."""
        future, self._under_way = self._under_way, None
        if future is None:
            raise RuntimeError("no claim has begun")
        return future.result()

    def close(self) -> None:
        """End the connection, but not under a claim that still waits for the database."""
        if self._beside is not None and not self.busy:
            with suppress(psycopg2.Error):
                self._beside.conn.close()
