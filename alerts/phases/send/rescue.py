"""Rescue: rows whose sender went away before their outcome was known.

The provider may or may not have been called, so each row's outcome is ``sender_lost``, and the
retry rules decide what follows, as they do for every other failure.
"""

from __future__ import annotations

from alerts.failures import DeliveryError, FailureCode
from alerts.phases.context import PhaseContext
from alerts.phases.send import claims
from alerts.phases.send.ledger import Ledger

ROWS_PER_STATEMENT = 1000


def rescue_lost(context: PhaseContext, ledger: Ledger) -> None:
    """Take over every claim that has lapsed and record its outcome; ends early on a stop.

    Raises :class:`alerts.locks.LockLost` and ``psycopg2.Error``.
    """
    context.ensure_lock()
    error = DeliveryError(FailureCode.SENDER_LOST, "its run ended before the outcome was known")
    for queue in claims.queues_with_lost(context.conn):
        while context.stop.reason() is None:
            context.ensure_lock()
            lost = claims.adopt_lost(context.conn, queue, context.run_id, ROWS_PER_STATEMENT)
            ledger.record_rescued(queue, [ledger.failure(claim, error) for claim in lost])
            if len(lost) < ROWS_PER_STATEMENT:
                break
