"""Phase C: rescue what a lost sender left, then claim, send and record until nothing is due."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

import psycopg2

from alerts.channels.names import SEND_CHANNELS
from alerts.failures import DeliveryError, FailureClass, FailureCode, PhaseFailed
from alerts.locks import LockLost
from alerts.messages import Style
from alerts.phases.context import Counts, PhaseContext
from alerts.phases.send import leases
from alerts.phases.send.claimer import Claimer, Found
from alerts.phases.send.content import Contents
from alerts.phases.send.dispatch import Dispatcher, Result
from alerts.phases.send.leases import Outcome
from alerts.phases.send.ledger import Ledger, released
from alerts.phases.send.pacing import Pace
from alerts.phases.send.rescue import rescue_lost
from alerts.phases.send.statements import Session

POLL_SECONDS = 0.25  # how long the phase waits for a result before it looks at the clock again
RENEW_SECONDS = 30.0
RECLAIM_SECONDS = 5.0  # how often a long run looks at a channel that had nothing due
SIGNAL_GRACE_SECONDS = 4.0  # for calls under way when a stop signal comes
LONGEST_PAUSE_SECONDS = 30.0  # of a provider, that is waited for
RECONNECT_SECONDS = 20.0  # for a server that has gone to come back


def run(context: PhaseContext) -> Counts:
    """Send what is due.

    Raises :class:`PhaseFailed`, carrying the counts, for a held channel and for a lost lock:
    both need someone to look.
    """
    return _Sender(context).run()


class _Sender:
    """One run of the phase: the dispatcher's other side, and the only user of the database."""

    def __init__(self, context: PhaseContext) -> None:
        settings = context.settings
        workers = settings.send_workers
        self.context = context
        self.park = settings.park_unknown_outcomes
        self.unconfigured = [name for name in SEND_CHANNELS if name not in context.channels]
        self.session = Session(context.conn)
        self.ledger = Ledger(context, self.session)
        self.contents = Contents(
            Style(app_base_url=settings.app_base_url, timezone=settings.timezone)
        )
        self.claimer = Claimer(context, self.contents, self.unconfigured)
        self.dispatcher = Dispatcher(
            context.channels,
            self.contents.render,
            workers=workers,
            record_batch=1 if self.park else settings.record_batch,
            rate_limits_per_minute={} if context.dry_run else settings.rate_limits_per_minute,
            call_seconds=settings.provider_timeout_seconds,
        )
        self.largest_claim = min(workers, context.batch_size) if self.park else context.batch_size
        self.paces = {name: Pace(2 * workers, self.largest_claim) for name in context.channels}
        self.held: dict[str, str] = {}
        self.limited: set[str] = set()  # a provider asked to slow down
        self.cap_left = settings.max_send_per_run
        self.exhausted: dict[str, float] = {}  # channels with nothing due, and when that was seen
        self.renewed_at = time.monotonic()
        self.given = self.answered = 0  # messages the workers got, and those they are done with

    def run(self) -> Counts:
        """The phase; see the module's function."""
        try:
            stopped = self._rescue_and_send()
        finally:
            self.dispatcher.close()
            self.claimer.close()
            if self.session.conn is not self.context.conn:
                with suppress(psycopg2.Error):
                    self.session.conn.close()
        counts = self.ledger.counts()
        counts["stopped_early"] = stopped
        counts["channels_held"] = dict(self.held)
        counts["channels"] = {name: self._seen(name) for name in SEND_CHANNELS}
        if stopped == "lock_lost":
            raise PhaseFailed("lock_lost: the connection that held the phase lock ended", counts)
        if self.held:
            held = ", ".join(f"{name} ({code})" for name, code in sorted(self.held.items()))
            raise PhaseFailed(f"channel held: {held}; its messages stay queued", counts)
        return counts

    def _seen(self, name: str) -> dict[str, bool]:
        """How the run found a channel."""
        return {
            "configured": name in self.context.channels,
            "held": name in self.held,
            "rate_limited": name in self.limited,
            "paused": name in self.context.paused,
        }

    def _rescue_and_send(self) -> str | None:
        """All the work, ended in order; why it ended early, or None."""
        try:
            rescue_lost(self.context, self.ledger)
            stopped = self._send_until_done()
        except LockLost:
            stopped = "lock_lost"
        except Exception:
            # Messages are under way: what becomes of them is kept, or they would be sent again.
            try:
                self._wind_down_somehow()
            except Exception as error:
                fields = {"error": type(error).__name__}
                self.context.log.warning("not all outcomes could be recorded", extra=fields)
            raise
        self._wind_down_somehow()
        return stopped

    def _send_until_done(self) -> str | None:
        """Claim ahead of the workers and record behind them; why it ended early, or None."""
        while True:
            reason = self.context.stop.reason()
            if reason:
                return reason
            results: list[Result] = []
            if self.claimer.busy or not self.dispatcher.idle:
                results = self.dispatcher.take_results(POLL_SECONDS)
            try:
                claiming = self._claim_ahead(beside=bool(results) or not self.dispatcher.idle)
            finally:
                self._record(results)
            self._renew()
            if not (results or claiming) and self.dispatcher.idle:
                if self.cap_left <= 0:
                    return "cap"
                if not self._sit_out_pause():
                    return "rate_limited" if self._pauses() else None

    def _wind_down(self) -> None:
        """Give back what has not started, then wait for the calls under way."""
        self._store(())  # what could not be stored before
        for name in self.dispatcher.lanes:
            self._release(name)
        ends = None
        while self.claimer.busy or not self.dispatcher.idle:
            if ends is None and self.context.stop.reason() == "signal":  # it may come only now
                self.dispatcher.give_up_calls(SIGNAL_GRACE_SECONDS)
                ends = time.monotonic() + SIGNAL_GRACE_SECONDS
            self._record(self.dispatcher.take_results(POLL_SECONDS))
            if self.claimer.done:
                found = self.claimer.take()
                self._count_claimed(found)
                self._store(released(claim) for claim in found.to_send)
            elif ends is not None and self.dispatcher.idle and time.monotonic() > ends:
                return  # a claim that waits for a lock: if it gets it, it lapses
            self._renew()

    def _wind_down_somehow(self) -> None:
        """Wind down, on a new connection where this one has ended: what was sent can still be
        recorded under the leases that the run has. A server that restarts gets some time."""
        context = self.context
        ends = time.monotonic() + RECONNECT_SECONDS
        while True:
            try:
                if self.session.conn.closed and context.open_connection is not None:
                    self.session = Session(context.open_connection("alerts-engine"))
                    self.ledger.session = self.session
                return self._wind_down()
            except psycopg2.Error:
                if not self.session.conn.closed or time.monotonic() > ends:
                    raise
                if context.stop.signalled.wait(POLL_SECONDS):
                    raise

    def _renew(self) -> None:
        if time.monotonic() - self.renewed_at >= RENEW_SECONDS:
            leases.renew(self.session.conn, self.context.run_id)
            self.renewed_at = time.monotonic()

    def _pauses(self) -> dict[str, float]:
        """Channels that a provider asked to pause, and how many seconds are left."""
        now = time.monotonic()
        return {
            name: lane.paused_until - now
            for name, lane in self.dispatcher.lanes.items()
            if lane.paused_until > now and not lane.held
        }

    def _sit_out_pause(self) -> bool:
        """With nothing else due, wait for the shortest pause; False where that is too long."""
        pauses = self._pauses()
        if not pauses:
            return False
        name, seconds = min(pauses.items(), key=lambda pause: pause[1])
        ends = time.monotonic() + seconds
        deadline = self.context.stop.deadline
        if seconds > LONGEST_PAUSE_SECONDS or (deadline is not None and deadline < ends):
            return False
        while self.context.stop.reason() is None and (left := ends - time.monotonic()) > 0:
            self.context.stop.signalled.wait(min(POLL_SECONDS, left))
        self.exhausted.pop(name, None)
        return True

    # -- claiming --------------------------------------------------------------------------

    def _rooms(self) -> dict[str, int]:
        """How many rows to claim for each channel that may have some due."""
        if self.cap_left <= 0:
            return {}
        rooms = dict.fromkeys(self.unconfigured, self.context.batch_size)
        now = time.monotonic()
        for name, lane in self.dispatcher.lanes.items():
            if not lane.held and lane.paused_until <= now:
                rooms[name] = self.paces[name].room(self.dispatcher.waiting(name))
        again = RECLAIM_SECONDS if not self.dispatcher.idle else float("inf")
        return {
            name: room
            for name, room in rooms.items()
            if room > 0 and now - self.exhausted.get(name, -again) >= again
        }

    def _claim_ahead(self, beside: bool) -> bool:
        """Claim where there is room, or start what the last claim brought; False when there is
        neither. ``beside``: there is something to record meanwhile."""
        if self.claimer.busy:
            if self.claimer.done:
                self._start(self.claimer.take())
            return True
        if self.park and beside:  # only what is truly under way may be in doubt
            return False
        rooms = self._rooms()
        if not rooms:
            return False
        self.context.ensure_lock()
        limit = min(self.largest_claim, self.cap_left)
        if beside and self.claimer.can_work_beside:
            self.claimer.begin(rooms, limit, self.dispatcher.wake)
        else:
            self._start(self.claimer.claim(self.session, rooms, limit))
        return True

    def _count_claimed(self, found: Found) -> None:
        for queue, claimed in found.by_queue:
            self.ledger.add_claimed(queue, claimed)
        self.cap_left -= len(found.to_send)

    def _start(self, found: Found) -> None:
        """Give the rows to the workers; those without a destination end here."""
        self._count_claimed(found)
        if found.error is not None:
            self._store(released(claim) for claim in found.to_send)
            raise found.error
        moved = found.by_channel
        for name, room in found.rooms.items():
            self.exhausted.pop(name, None)
            if moved[name] < room and moved.total() < found.limit:
                self.exhausted[name] = time.monotonic()
        nowhere = FailureCode.MISSING_DESTINATION.value
        ready = [claim for claim in found.to_send if claim.destination]
        if len(ready) < len(found.to_send):
            lost = [claim for claim in found.to_send if not claim.destination]
            self._store(Outcome(claim, "skipped", 0, failure_code=nowhere) for claim in lost)
        for name, rows in Counter([claim.channel for claim in ready]).items():
            self.paces[name].claimed(rows)
        self.given += len(ready)
        self.dispatcher.add(ready)
        self._release_standing()

    # -- recording -------------------------------------------------------------------------

    def _record(self, results: list[Result]) -> None:
        """Store what came back, and draw the consequences for the channels."""
        if not results:
            return
        for name, sent in Counter([result.claim.channel for result in results]).items():
            self.paces[name].sent(sent)
        self._store([self._outcome(result) for result in results])
        self.dispatcher.recorded(len(results))
        self._show_progress(len(results))
        self._release_standing()

    def _outcome(self, result: Result) -> Outcome:
        claim, message_id, error = result
        if error is None:
            return Outcome(claim, "sent", 1, None, None, None, message_id)
        if error.failure_class is FailureClass.OPERATOR:
            self._note_held(claim.channel, error)
            return released(claim)
        if error.code is FailureCode.RATE_LIMITED:
            self.limited.add(claim.channel)
        return self.ledger.failure(claim, error)

    def _release_standing(self) -> None:
        """Put back what waits for a channel that is held, or was asked to wait."""
        for name in {*self.held, *self._pauses()}:
            self._release(name)

    def _show_progress(self, answered: int) -> None:
        """How many messages are through; of how many once there is nothing more to claim."""
        self.answered += answered
        all_claimed = self.cap_left <= 0 or all(
            name in self.exhausted or lane.held for name, lane in self.dispatcher.lanes.items()
        )
        self.context.progress("messages", self.answered, self.given if all_claimed else None)

    def _note_held(self, channel: str, error: DeliveryError) -> None:
        if channel not in self.held:
            self.held[channel] = error.code.value
            fields = {"channel": channel, "code": error.code.value}
            self.context.log.error("channel held: %s", error.detail, extra=fields)

    def _release(self, channel: str) -> None:
        """Put back what was claimed and has not started."""
        waiting = self.dispatcher.withdraw(channel)
        if waiting:
            self.exhausted.pop(channel, None)  # they are due again
        self.paces[channel].sent(len(waiting))
        self.given -= len(waiting)
        self._store(released(claim) for claim in waiting)

    def _store(self, outcomes: Iterable[Outcome]) -> None:
        self.cap_left += self.ledger.record(outcomes)
