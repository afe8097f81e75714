"""Phase C: rescue what a lost sender left, then claim, send and record until nothing is due."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress

import psycopg2

from alerts.channels.names import SEND_CHANNELS
from alerts.channels.transport.clock import longest_call
from alerts.failures import DeliveryError, FailureCode, PhaseFailed
from alerts.locks import LockLost
from alerts.messages import Style
from alerts.phases.context import Counts, PhaseContext
from alerts.phases.send import leases
from alerts.phases.send.claimer import Claimer, Found, Wanted
from alerts.phases.send.claims import QUEUES
from alerts.phases.send.content import Contents
from alerts.phases.send.demand import Demand
from alerts.phases.send.dispatch import Dispatcher, Result
from alerts.phases.send.gates import Gates
from alerts.phases.send.leases import Outcome
from alerts.phases.send.ledger import Ledger, released
from alerts.phases.send.rescue import rescue_lost
from alerts.phases.send.statements import Session

POLL_SECONDS = 0.25  # how long the phase waits for a result before it looks at the clock again
RENEW_SECONDS = 30.0
SIGNAL_GRACE_SECONDS = 4.0  # for calls under way when a stop signal comes
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
        self.session = Session(context.conn)
        self.gates = Gates(context, self.session)
        self.ledger = Ledger(context, self.session)
        self.contents = Contents(
            Style(app_base_url=settings.app_base_url, timezone=settings.timezone)
        )
        self.claimer = Claimer(context, self.contents)
        usable = {name: context.channels[name] for name in self.gates.usable}
        self.dispatcher = Dispatcher(
            usable,
            self.contents.render,
            workers=workers,
            record_batch=1 if self.park else settings.record_batch,
            rate_limits_per_minute={} if context.dry_run else settings.rate_limits_per_minute,
            call_seconds=longest_call(
                settings.provider_timeout_seconds, settings.provider_answer_seconds
            ),
            sender=context.sender,
            senders=settings.senders,
        )
        largest_claim = min(workers, context.batch_size) if self.park else context.batch_size
        self.demand = Demand(context, self.gates, self.dispatcher, largest_claim)
        self.paces, self.shares = self.demand.paces, self.demand.shares
        self.limited: set[str] = set()  # a provider asked to slow down
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
        if self.context.settings.senders > 1:
            counts["sender"] = self.context.sender
        held, closed = self.gates.held_and_closed()
        counts["channels_held"], counts["channels_closed"] = held, closed
        counts["channels"] = {name: self._seen(name, held) for name in SEND_CHANNELS}
        if stopped == "lock_lost":
            raise PhaseFailed("lock_lost: the connection that held the phase lock ended", counts)
        if held:
            told = ", ".join(f"{name} ({code})" for name, code in sorted(held.items()))
            raise PhaseFailed(f"channel held: {told}; its messages stay queued", counts)
        return counts

    def _seen(self, name: str, held: Mapping[str, str]) -> dict[str, bool]:
        """How the run found a channel."""
        return {
            "configured": name in self.gates.usable,
            "held": name in held,
            "rate_limited": name in self.limited,
            "paused": name in self.context.paused,
        }

    def _rescue_and_send(self) -> str | None:
        """All the work, ended in order; why it ended early, or None."""
        try:
            self.context.ensure_lock()
            lost = self.gates.read()
            self.contents.sign_with(self.gates.signing_key)
            if lost:
                rescue_lost(self.context, self.ledger)
            stopped = self._send_until_done()
        except LockLost:
            stopped = "lock_lost"
        except Exception:
            # Messages are under way: their outcomes must be stored, or they would be sent again.
            try:
                self._wind_down_somehow("error")
            except Exception as error:
                fields = {"error": type(error).__name__}
                self.context.log.warning("not all outcomes could be recorded", extra=fields)
            raise
        self._wind_down_somehow(stopped)
        self.gates.write_successes()
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
            if self._renew():  # another host died while this one sends
                rescue_lost(self.context, self.ledger)
            if not (results or claiming) and self.dispatcher.idle:
                if self.shares.cap_left <= 0:
                    return "cap"
                if not self._sit_out():
                    return "rate_limited" if self.gates.asked_to_wait else None

    def _wind_down(self, stopped: str | None) -> None:
        """Give back what has not started, then wait for the calls under way.

        It waits patiently if the run ends because nothing is left to do.
        """
        self._store(())  # what could not be stored before
        for name in self.dispatcher.lanes:
            self._release(name)
        hurry, ends = None, math.inf
        while self.claimer.busy or not self.dispatcher.idle:
            reason = self.context.stop.reason() or stopped  # one may come only now
            if reason != hurry:
                self.dispatcher.give_up_calls(self._grace(reason))
                hurry = reason
                if reason == "signal":
                    ends = time.monotonic() + SIGNAL_GRACE_SECONDS
            self._record(self.dispatcher.take_results(POLL_SECONDS))
            if self.claimer.done:
                found = self.claimer.take()
                self._count_claimed(found)
                self._store(released(claim) for claim in found.to_send)
            elif self.dispatcher.idle and time.monotonic() > ends:
                return  # a claim that waits for a lock: if it gets it, it lapses
            self._renew()

    def _grace(self, reason: str | None) -> float:
        """Seconds that the calls under way get: no more patience than the reason leaves."""
        if reason == "signal":
            return SIGNAL_GRACE_SECONDS
        if reason in ("deadline", "lock_lost", "error"):
            return float(self.context.settings.provider_timeout_seconds)
        return math.inf

    def _wind_down_somehow(self, stopped: str | None) -> None:
        """Wind down, on a new connection where this one has ended: what was sent can still be
        recorded under the leases that the run has. A server that restarts gets some time."""
        context = self.context
        ends = time.monotonic() + RECONNECT_SECONDS
        while True:
            try:
                if self.session.conn.closed and context.open_connection is not None:
                    self.session = Session(context.open_connection("alerts-engine"))
                    self.ledger.session = self.gates.session = self.session
                return self._wind_down(stopped)
            except psycopg2.Error:
                if not self.session.conn.closed or time.monotonic() > ends:
                    raise
                if context.stop.signalled.wait(POLL_SECONDS):
                    raise

    def _renew(self) -> bool:
        """Keep the leases; whether those of another run have been seen to lapse."""
        if time.monotonic() - self.renewed_at < RENEW_SECONDS:
            return False
        self.renewed_at = time.monotonic()
        return leases.renew(self.session.conn, self.context.run_id)

    def _sit_out(self) -> bool:
        """With nothing else due, wait for a channel that opens soon; False where none does."""
        stop = self.context.stop
        left = math.inf if stop.deadline is None else stop.deadline - time.monotonic()
        waiting = self.gates.may_wait_for(left)
        if waiting is None:
            return False
        name, ends = waiting
        while stop.reason() is None and (seconds := ends - time.monotonic()) > 0:
            stop.signalled.wait(min(POLL_SECONDS, seconds))
            self._renew()
        self.demand.look_again(name)
        return True

    # -- claiming --------------------------------------------------------------------------

    def _claim_ahead(self, beside: bool) -> bool:
        """Claim where there is room, or start what the last claim brought; False when there is
        neither. ``beside``: there is something to record meanwhile."""
        if self.claimer.busy:
            if self.claimer.done:
                self._start(self.claimer.take())
            return True
        if self.shares.cap_left <= 0:
            return False
        if self.park and beside:  # only what is truly under way may be in doubt
            return False
        probing = self._probe()
        wanted = self.demand.wanted()
        if wanted is None:
            return probing
        self.context.ensure_lock()
        if beside and self.claimer.can_work_beside:
            self.claimer.begin(wanted, self.dispatcher.wake)
        else:
            self._start(self.claimer.claim(self.session, wanted))
        return True

    def _probe(self) -> bool:
        """Send one message through each closed channel whose time has come."""
        begun = False
        for name in self.gates.to_probe():
            if not self.demand.parts_of([name]) or self.shares.cap_left <= 0:
                continue
            self.context.ensure_lock()
            if self.gates.begin_probe(name):
                begun = self._claim_probe(name) or begun
            else:
                self.demand.nothing_due(self.demand.parts_of([name]))
        return begun

    def _claim_probe(self, name: str) -> bool:
        """Claim the message that probes; False where there was none after all."""
        queues = QUEUES[::-1] if self.gates.digests_first(name) else QUEUES
        wanted = Wanted({name: 1}, 1, (), self.gates.exempt, queues)
        self.dispatcher.open(name)
        while name in self.gates.unused_probes():
            found = self.claimer.claim(self.session, wanted)
            self._start(found)
            if not found.by_channel:  # what was found, and may not be sent, is gone
                self.gates.give_probe_back(name)
                return False
        return True

    def _count_claimed(self, found: Found) -> None:
        for queue, claimed in found.by_queue:
            self.ledger.add_claimed(queue, claimed)
        taken = Counter([(claim.source, claim.channel) for claim in found.to_send])
        for (source, channel), rows in taken.items():
            self.shares.use(source, channel, rows)

    def _start(self, found: Found) -> None:
        """Give the rows to the workers; those without a destination end here."""
        self._count_claimed(found)
        if found.error is not None:
            self._store(released(claim) for claim in found.to_send)
            raise found.error
        self.demand.note(found)
        nowhere = FailureCode.MISSING_DESTINATION.value
        ready = [claim for claim in found.to_send if claim.destination]
        if len(ready) < len(found.to_send):
            lost = [claim for claim in found.to_send if not claim.destination]
            self._store(Outcome(claim, "skipped", 0, failure_code=nowhere) for claim in lost)
        for name, rows in Counter([claim.channel for claim in ready]).items():
            self.paces[name].claimed(rows)
        self.given += len(ready)
        for name in self.gates.unused_probes():
            for claim in [claim for claim in ready if claim.channel == name][:1]:
                self.gates.probe_with(claim)
        self.dispatcher.add(ready)
        self._release_standing()

    # -- recording -------------------------------------------------------------------------

    def _record(self, results: list[Result]) -> None:
        """Store the outcomes, and act on what they mean for the channels."""
        if not results:
            return
        for name, sent in Counter([result.claim.channel for result in results]).items():
            self.paces[name].sent(sent)
        self._store([self._outcome(result) for result in results])
        self.gates.flush()
        for result in results:
            if result.moved_to:
                self.ledger.move_destination(result.claim, result.moved_to)
        self.dispatcher.recorded(len(results))
        self._show_progress(len(results))
        for name in self.dispatcher.lanes:  # a late answer may have shut one that is probed
            if self.gates.is_open(name) or self.gates.probing(name):
                self.dispatcher.open(name)
        self._release_standing()

    def _outcome(self, result: Result) -> Outcome:
        claim, message_id, error, _ = result
        if error is None:
            self.gates.succeeded(claim)
            return Outcome(claim, "sent", 1, None, None, None, message_id)
        if error.code is FailureCode.RATE_LIMITED:
            self.limited.add(claim.channel)
        if not self.gates.failed(claim, error):
            return self.ledger.failure(claim, error)
        if error.handed_over:  # whatever it says of the channel, the message may have been taken
            unknown = DeliveryError(FailureCode.OUTCOME_UNKNOWN, error.detail)
            return self.ledger.failure(claim, unknown)
        if self.gates.pays(claim):
            return self.ledger.failure(claim, error)
        return self.ledger.behind(claim, error.code)

    def _release_standing(self) -> None:
        """Put back rows that wait for a channel that has closed."""
        for name in self.dispatcher.lanes:
            if not self.gates.is_open(name) and not self.gates.probing(name):
                self.dispatcher.shut(name)
                self._release(name)

    def _show_progress(self, answered: int) -> None:
        """How many messages are done, and of how many once nothing is left to claim."""
        self.answered += answered
        all_claimed = self.demand.all_claimed
        self.context.progress("messages", self.answered, self.given if all_claimed else None)

    def _release(self, channel: str) -> None:
        """Put back what was claimed and has not started."""
        waiting = self.dispatcher.withdraw(channel)
        if waiting:
            self.demand.look_again(channel)  # they are due again
        self.paces[channel].sent(len(waiting))
        self.given -= len(waiting)
        self._store(released(claim) for claim in waiting)

    def _store(self, outcomes: Iterable[Outcome]) -> None:
        for (queue, channel), rows in self.ledger.record(outcomes).items():
            self.shares.use(queue, channel, -rows)
