"""Rescue: rows whose sender went away before their outcome was known.

The provider may or may not have been called, so each row's outcome is ``sender_lost``, and the
retry rules decide what follows, as they do for every other failure.
"""

from __future__ import annotations

from alerts.failures import DeliveryError, FailureCode
from alerts.phases.context import PhaseContext
from alerts.phases.send import leases
from alerts.phases.send.claims import Queue
from alerts.phases.send.ledger import Ledger

ROWS_PER_STATEMENT = 1000


def rescue_lost(context: PhaseContext, ledger: Ledger) -> None:
    """Take over every lease that has lapsed and record what became of its rows; ends early on a
    stop.

    Raises :class:`alerts.locks.LockLost` and ``psycopg2.Error``.
    """
    while context.stop.reason() is None:
        context.ensure_lock()
        lapsed = leases.adopt_lapsed(context.conn, context.run_id)
        if lapsed is None:
            return
        _rescue(context, ledger, *lapsed)


def _rescue(context: PhaseContext, ledger: Ledger, queue: Queue, lease: int) -> None:
    """Record the rows in doubt and give the lease up, which is ours by now."""
    conn, run_id = context.conn, context.run_id
    error = DeliveryError(FailureCode.SENDER_LOST, "its run ended before the outcome was known")
    while context.stop.reason() is None:
        lost = leases.lost_rows(conn, queue, run_id, lease, ROWS_PER_STATEMENT)
        if not lost:
            if leases.let_go(conn, queue, run_id, lease):
                return
            continue
        context.ensure_lock()
        moved = ledger.record_rescued(queue, [ledger.failure(claim, error) for claim in lost])
        if not moved:
            return  # no longer ours: whoever has it rescues
