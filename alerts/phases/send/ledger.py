"""What the send phase writes down: the outcome of every claimed row, and the counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import timedelta

import psycopg2
from psycopg2 import sql

from alerts import db
from alerts.channels.names import KINDS
from alerts.failures import DeliveryError, FailureCode
from alerts.phases.channel_sql import destination
from alerts.phases.context import Counts, PhaseContext
from alerts.phases.send import claims, leases
from alerts.phases.send.claims import QUEUE_OF, QUEUES, Claim, Queue
from alerts.phases.send.leases import Outcome
from alerts.phases.send.refusals import note_refusals
from alerts.phases.send.retry import RetryPolicy, after_failure
from alerts.phases.send.shares import Part
from alerts.phases.send.statements import Session

# Claimed is the sum of these.
OUTCOME_COUNTS = (
    "sent",
    "failed",
    "retried",
    "released",
    "skipped_not_configured",
    "skipped_missing_destination",
    "skipped_expired",
    "skipped_channel_disabled",
)
_SKIPPED = {
    FailureCode.EXPIRED: "skipped_expired",
    FailureCode.CHANNEL_DISABLED: "skipped_channel_disabled",
    FailureCode.CHANNEL_NOT_CONFIGURED: "skipped_not_configured",
}


# The provider knows the recipient by a new address: it replaces the old one where that still
# stands, so that what the user has changed in the meantime is kept.
_MOVE_DESTINATION = """
UPDATE users AS u
SET {column} = %(new)s
FROM (SELECT %(channel)s::text AS channel) AS q
WHERE u.id = %(user_id)s AND {destination} = %(old)s
"""
_MOVE = {
    kind.name: sql.SQL(_MOVE_DESTINATION).format(
        column=sql.Identifier(kind.destination), destination=destination("u", "q")
    )
    for kind in KINDS
    if kind.destination
}


class Ledger:
    """Records outcomes, set by set, and counts what became of the claimed rows."""

    def __init__(self, context: PhaseContext, session: Session) -> None:
        settings = context.settings
        self._context = context
        self.session = session
        self._in_hand: list[Outcome] = []
        self._policy = RetryPolicy(
            max_attempts=settings.max_attempts,
            base_seconds=settings.retry_base_seconds,
            max_seconds=settings.retry_max_seconds,
            park_unknown=settings.park_unknown_outcomes,
        )
        self.tally: dict[str, Counter[str]] = {queue.name: Counter() for queue in QUEUES}
        self.claims_lost = 0

    def add_claimed(self, queue: Queue, found: claims.Claimed) -> None:
        """Count a claim, with the rows it skipped at once."""
        tally = self.tally[queue.name]
        tally["claimed"] += len(found.to_send) + found.skipped.total()
        for code, rows in found.skipped.items():
            tally[_SKIPPED[FailureCode(code)]] += rows

    def record(self, outcomes: Iterable[Outcome]) -> Counter[Part]:
        """Store and count outcomes, and those that an error kept from being stored before; how
        many rows of each queue and channel no attempt was made at (released or without
        destination), which use up nothing of the run's cap."""
        not_tried: Counter[Part] = Counter()
        self._in_hand += outcomes
        while self._in_hand:
            queue = QUEUE_OF[self._in_hand[0].claim.source]
            mine = [each for each in self._in_hand if each.claim.source == queue.name]
            moved = self._write(queue, mine)
            self._in_hand = [each for each in self._in_hand if each.claim.source != queue.name]
            # A refused outcome is no longer ours to count as anything but given away.
            stored = [each for each in mine if each.claim.id in moved]
            note_refusals(self.session.conn, stored, self._context.clock.now())
            self.tally[queue.name].update(
                _count_name(each) if each.claim.id in moved else "released" for each in mine
            )
            not_tried.update((queue.name, each.claim.channel) for each in mine if not each.tried)
        return not_tried

    def record_rescued(self, queue: Queue, outcomes: list[Outcome]) -> int:
        """Store the outcomes of adopted rows, which some other run had claimed; how many moved."""
        moved = self._write(queue, outcomes)
        self.tally[queue.name]["rescued"] += len(moved)
        return len(moved)

    def failure(self, claim: Claim, error: DeliveryError) -> Outcome:
        """What a failed attempt makes of its row."""
        context = self._context
        decision = after_failure(
            self._policy,
            error.code,
            attempts=claim.attempts + 1,
            previous_code=claim.failure_code,
            retry_after=error.retry_after,
            random=context.random,
        )
        retry_at = None
        if decision.delay_seconds is not None:
            retry_at = context.clock.now() + timedelta(seconds=decision.delay_seconds)
        context.log.info(
            "not sent: %s",
            error.detail,
            extra={
                "channel": claim.channel,
                "code": error.code.value,
                "queue": claim.source,
                "row_id": claim.id,
                "status": decision.status,
            },
        )
        return Outcome(
            claim,
            decision.status,
            1,
            failure_code=decision.failure_code.value,
            last_error=context.scrub(f"{error.code.value}: {error.detail}"),
            next_retry_at=retry_at,
        )

    def behind(self, claim: Claim, code: FailureCode) -> Outcome:
        """The row that closed its channel: no attempt, and it goes behind the others."""
        keeps = claim.failure_code == FailureCode.OUTCOME_UNKNOWN
        return Outcome(
            claim,
            "queued",
            0,
            failure_code=claim.failure_code if keeps else code.value,
            next_retry_at=self._context.clock.now(),
        )

    def move_destination(self, claim: Claim, new: str) -> None:
        """Remember a recipient's new address; failing to costs a call at the next message."""
        values = {
            "new": new,
            "user_id": claim.user_id,
            "channel": claim.channel,
            "old": claim.destination,
        }
        try:
            db.execute(self.session.conn, _MOVE[claim.channel], values)
        except psycopg2.Error as error:
            fields = {"channel": claim.channel, "error": type(error).__name__}
            self._context.log.warning("a recipient's new address was not stored", extra=fields)

    def counts(self) -> Counts:
        """The counts of both queues."""
        counts: Counts = {
            name: {key: tally[key] for key in ("rescued", "claimed", *OUTCOME_COUNTS)}
            for name, tally in self.tally.items()
        }
        if self.claims_lost:
            counts["claims_lost"] = self.claims_lost
        return counts

    def _write(self, queue: Queue, outcomes: list[Outcome]) -> set[int]:
        context = self._context
        now = context.clock.now()
        moved = leases.record(self.session, queue, context.run_id, now, outcomes)
        refused = len(outcomes) - len(moved)
        if refused:
            self.claims_lost += refused
            context.log.warning(
                "outcomes refused: the claims had lapsed and another run has the rows",
                extra={"queue": queue.name, "rows": refused},
            )
        return moved


def released(claim: Claim) -> Outcome:
    """The row stays as it is and goes back into the queue: no attempt is burned."""
    return Outcome(claim, "queued", 0)


def _count_name(outcome: Outcome) -> str:
    if outcome.status == "queued":
        return "retried" if outcome.tried else "released"
    return "skipped_missing_destination" if outcome.status == "skipped" else outcome.status
