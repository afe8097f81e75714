"""The channels as a run finds, closes, probes and opens them.

Used by the phase's thread alone. A dry run judges alike and writes nothing.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from alerts.channels import settings_text
from alerts.channels.names import SEND_CHANNELS
from alerts.failures import DeliveryError, FailureClass, FailureCode
from alerts.phases.context import PhaseContext
from alerts.phases.send import channel_store as store
from alerts.phases.send.channel_state import (
    SAT_OUT_SECONDS,
    ChannelState,
    Streaks,
    closed_before,
    closes,
    costs_attempt,
    digests_first,
    domain_of,
    is_operators,
    wait_seconds,
)
from alerts.phases.send.claims import Claim
from alerts.phases.send.statements import Session


@dataclass(frozen=True)
class _Closing:
    """A closing that the database does not know of yet; ``known`` is the state before it."""

    known: ChannelState
    code: FailureCode
    seconds: float
    late: bool
    detail: str


class Gates:
    """Which channels may be claimed from, and what results mean for that."""

    def __init__(self, context: PhaseContext, session: Session) -> None:
        self._context = context
        self.session = session
        settings = context.settings.channels
        self.usable = tuple(name for name in context.channels if name not in settings.off)
        self.states: dict[str, ChannelState] = {}
        self.misconfigured: frozenset[str] = frozenset()
        self.held: dict[str, str] = {}  # by channel the code, until the run ends
        self.signing_key = b""  # of links to unsubscribe, once the state was read
        self._hashes: dict[str, str] = {}
        self._opens_at: dict[str, float] = {}  # of what is closed, monotonic
        self._probes: dict[str, Claim | None] = {}  # begun by this run; None: no message yet
        self._streaks = {name: Streaks() for name in self.usable}
        self._successes: dict[str, datetime] = {}
        self._through: set[str] = set()  # took a message since they last closed
        self._others_through: set[str] = set()  # had done so when they closed
        self._waited: set[str] = set()
        self._unwritten: dict[str, _Closing | None] = {}  # None: opened
        self._closed_here: set[str] = set()

    # -- the beginning and the end ---------------------------------------------------------

    def read(self) -> bool:
        """Load what earlier runs learned; a channel whose settings have changed since is opened.

        Returns whether a lost run left a lease behind.
        """
        found = store.read(self.session.conn)
        self.signing_key = found.signing_key
        settings = self._context.settings.channels
        self._hashes = {
            name: store.hash_of(found.key, settings_text(settings, name)) for name in self.usable
        }
        self.states = {name: found[name] for name in SEND_CHANNELS}
        lost = {
            name
            for name in set(SEND_CHANNELS) - set(self.usable) - settings.off
            if found[name].has_sent
        }
        self.misconfigured = (settings.misconfigured | lost) - set(self.usable)
        self._note_settings(settings.off)
        for name in self.usable:
            state = self.states[name]
            if state.closed:
                self._opens_at[name] = time.monotonic() + state.seconds_left(found.at)
            elif _got_through_since_failing(state):
                self._through.add(name)
        return found.lapsed

    def _note_settings(self, off: frozenset[str]) -> None:
        mended = [
            name
            for name in self.usable
            if self.states[name].closed and self.states[name].settings_hash != self._hashes[name]
        ]
        switched = {
            name: name in off
            for name in SEND_CHANNELS
            if self.states[name].switched_off != (name in off)
        }
        broken = [
            name
            for name in sorted(self.misconfigured)
            if self.states[name].code is not FailureCode.MISCONFIGURED
        ]
        if not self._context.dry_run:
            if mended:
                store.open_channels(self.session.conn, mended)
            if switched:
                store.note_switched_off(self.session.conn, switched)
            if broken:
                store.note_misconfigured(self.session.conn, broken)
        for name in mended:
            self.states[name] = _opened(self.states[name])

    @property
    def unconfigured(self) -> list[str]:
        """Channels whose messages are skipped: they are off, or were never set up."""
        return [n for n in SEND_CHANNELS if n not in self.usable and n not in self.misconfigured]

    @property
    def exempt(self) -> list[str]:
        """Channels that this run may claim from whatever their state in the database."""
        opened = [n for n in self.usable if self._context.dry_run and n not in self._opens_at]
        return [*self.unconfigured, *self._probes, *opened]

    def write_successes(self) -> None:
        """Store for later runs which channels took messages."""
        if self._successes and not self._context.dry_run:
            store.note_success(self.session.conn, self._successes)

    def held_and_closed(self) -> tuple[dict[str, str], dict[str, str]]:
        """By channel the code that somebody has to act on, and the codes of what will pass."""
        held = {**self.held, **dict.fromkeys(self.misconfigured, FailureCode.MISCONFIGURED.value)}
        closed: dict[str, str] = {}
        for name in self._opens_at:
            code = self.states[name].code
            if code is not None and name not in held:
                (held if is_operators(code) else closed)[name] = code.value
        awaited = {name: code for name, code in held.items() if name not in self._context.paused}
        return awaited, closed

    @property
    def asked_to_wait(self) -> bool:
        """Whether a provider asked this run to slow down and that time is not over."""
        return any(
            name in self._opens_at and self.states[name].code is FailureCode.RATE_LIMITED
            for name in self._closed_here
        )

    # -- claiming --------------------------------------------------------------------------

    def is_open(self, channel: str) -> bool:
        """Whether messages may be claimed as usual."""
        return channel not in self._opens_at and channel not in self.held

    def to_probe(self) -> list[str]:
        """Closed channels whose time has come."""
        now = time.monotonic()
        return [
            name
            for name, opens_at in self._opens_at.items()
            if opens_at <= now and name not in self.held and name not in self._probes
        ]

    def begin_probe(self, channel: str) -> bool:
        """Whether this sender is the one that may send a message."""
        if self._context.dry_run:
            return False
        context = self._context
        state = store.claim_probe(
            self.session.conn, channel, context.clock.now(), context.settings.allowlist
        )
        if state is None:
            return False
        self.states[channel] = state
        self._probes[channel] = None
        return True

    def probe_with(self, claim: Claim) -> None:
        """This is the message that probes."""
        self._probes[claim.channel] = claim

    def give_probe_back(self, channel: str) -> None:
        """There was nothing to send, or no time."""
        self._probes.pop(channel, None)
        store.give_probe_back(self.session.conn, channel)

    def probing(self, channel: str) -> bool:
        """Whether this run probes it now."""
        return channel in self._probes

    def unused_probes(self) -> list[str]:
        """Begun, and without a message."""
        return [name for name, claim in self._probes.items() if claim is None]

    def digests_first(self, channel: str) -> bool:
        """What the probe looks for first."""
        return digests_first(self.states[channel].failures)

    def may_wait_for(self, longest: float) -> tuple[str, float] | None:
        """The channel that opens soonest, once a run, and when (monotonic seconds).

        Only one that this run has closed: whether anything waits for another is not known.
        """
        now = time.monotonic()
        soon = [
            (opens_at, name)
            for name, opens_at in self._opens_at.items()
            if opens_at - now <= min(longest, SAT_OUT_SECONDS)
            and name in self._closed_here
            and name not in self.held
            and name not in self._waited
            and name not in self._context.paused
        ]
        if not soon:
            return None
        opens_at, name = min(soon)
        self._waited.add(name)
        return name, opens_at

    # -- results ---------------------------------------------------------------------------

    def succeeded(self, claim: Claim) -> None:
        """The provider took the row's message."""
        name = claim.channel
        self._through.add(name)
        self._successes[name] = datetime.now(UTC)
        self._streaks[name].after(claim.user_id, "", None)
        if self._is_probe(claim):
            self._open(name)

    def failed(self, claim: Claim, error: DeliveryError) -> bool:
        """Act on a failure; returns whether it concerns the channel rather than the row."""
        name, probing = claim.channel, self._is_probe(claim)
        if closes(error, probing=probing):
            self._close(name, error, code=error.code, probing=probing)
            return error.failure_class is not FailureClass.UNKNOWN
        if probing:
            self._open(name)
        domain = domain_of(name, claim.destination or "")
        code = self._streaks[name].after(claim.user_id, domain, error)
        if code is FailureCode.REFUSALS_IN_A_ROW:
            self._hold(name, code, "ten users in a row were refused")
        elif code is not None:
            self._close(name, error, code=code)
        return False

    def pays(self, claim: Claim) -> bool:
        """Whether this costs the row that closed its channel an attempt."""
        return costs_attempt(
            closed_before=closed_before(claim.failure_code),
            success_since=claim.channel in self._others_through,
        )

    def _is_probe(self, claim: Claim) -> bool:
        probe = self._probes.get(claim.channel)
        return probe is not None and (probe.source, probe.id) == (claim.source, claim.id)

    def _open(self, channel: str) -> None:
        self._probes.pop(channel, None)
        self._opens_at.pop(channel, None)
        self.states[channel] = _opened(self.states[channel])
        self._unwritten[channel] = None
        self._context.log.info("channel open again", extra={"channel": channel})

    def _close(
        self, channel: str, error: DeliveryError, *, code: FailureCode, probing: bool = False
    ) -> None:
        """Close, or for a late answer of a channel that is closed already, at most for longer."""
        known = self.states[channel]
        late = channel in self._opens_at and not probing
        seconds = wait_seconds(known.failures + (not late), error.retry_after)
        if late and not is_operators(code) and seconds <= self._left(channel):
            return
        if not late:
            self._probes.pop(channel, None)
            self._others_through.discard(channel)
            if channel in self._through:
                self._others_through.add(channel)
            self._through.discard(channel)
        first = self._unwritten.get(channel)
        self._unwritten[channel] = (
            _Closing(known, code, seconds, late, error.detail)
            if first is None
            else replace(first, code=code, seconds=max(first.seconds, seconds), detail=error.detail)
        )
        now = datetime.now(UTC)
        self.states[channel] = replace(
            known,
            closed_since=known.closed_since or now,
            code=code,
            failures=known.failures + (not late),
        )
        self._opens_at[channel] = time.monotonic() + max(seconds, self._left(channel))
        self._closed_here.add(channel)
        if is_operators(code):
            self._hold(channel, code, error.detail)
        else:
            fields = {"channel": channel, "code": code.value, "seconds": round(seconds)}
            self._context.log.warning("channel closed: %s", error.detail, extra=fields)

    def flush(self) -> None:
        """Tell the other senders, and later runs."""
        while self._unwritten:
            channel, closing = next(iter(self._unwritten.items()))
            if not self._context.dry_run:
                self._write(channel, closing)
            self._unwritten.pop(channel)

    def _write(self, channel: str, closing: _Closing | None) -> None:
        if closing is None:
            store.open_channels(self.session.conn, [channel])
            return
        known = replace(closing.known, last_success_at=self._successes.get(channel))
        self.states[channel], at = store.close(
            self.session.conn,
            known,
            closing.code,
            closing.seconds,
            self._hashes[channel],
            detail=closing.detail,
            late=closing.late,
        )
        self._opens_at[channel] = time.monotonic() + self.states[channel].seconds_left(at)

    def _hold(self, channel: str, code: FailureCode, detail: str) -> None:
        if channel not in self.held:
            self.held[channel] = code.value
            fields = {"channel": channel, "code": code.value}
            self._context.log.error("channel held: %s", detail, extra=fields)

    def _left(self, channel: str) -> float:
        return self._opens_at.get(channel, -math.inf) - time.monotonic()


def _opened(state: ChannelState) -> ChannelState:
    return replace(state, closed_since=None, closed_until=None, code=None, failures=0)


def _got_through_since_failing(state: ChannelState) -> bool:
    failed, took = state.last_failure_at, state.last_success_at
    return took is not None and (failed is None or took > failed)
