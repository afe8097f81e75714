"""Making what the database keeps about its own rows true again: the counts of health, and the
send queue.

After a restore, a load with triggers switched off, or a change that a trigger could not count.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from alerts import db
from alerts.paging import iso
from alerts.repair import audit

# Of ten million rows it takes a minute or two: longer than a session that answers people allows.
_TAKE_YOUR_TIME = "SET LOCAL statement_timeout = 0"
# Counts that disagree with the rows.
_DIFFERENCES = "SELECT count(*) AS amount FROM alerts_health_differences()"
_REBUILD = "SELECT alerts_health_rebuild() AS amount"
# Entries of the send queue that disagree with the rows.
_QUEUE_DIFFERENCES = "SELECT count(*) AS amount FROM alerts_queue_differences()"
_REBUILD_QUEUE = "SELECT alerts_queue_rebuild() AS amount"
_STALE_SINCE = "SELECT min(since) AS since FROM alerts_health_stale"


def rebuild(
    conn: db.Connection, *, dry_run: bool, now: datetime, token_key_id: str
) -> dict[str, Any]:
    """Count every delivery and digest anew, and queue exactly those to be sent that no lease
    holds; ``counts_mended`` and ``queue_mended`` say how many counts and entries were wrong.

    ``counts_stale_since`` is when a change first was not counted, None if none was noticed. The
    caller gives a READ COMMITTED transaction: writers of both tables and senders wait until it
    ends, and the audit row commits with it. A dry run takes no lock and changes nothing; it says
    what the real call would mend.

    Raises ``psycopg2.Error``: ``LockNotAvailable`` where a writer outlasts the session's
    ``lock_timeout``, ``InvalidTransactionState`` under another isolation level.
    """
    db.execute(conn, _TAKE_YOUR_TIME)
    db.watched(conn, limit_seconds=None)
    since = db.fetch_all(conn, _STALE_SINCE)[0]["since"]
    mended = db.fetch_all(conn, _DIFFERENCES if dry_run else _REBUILD)[0]["amount"]
    queue = db.fetch_all(conn, _QUEUE_DIFFERENCES if dry_run else _REBUILD_QUEUE)[0]["amount"]
    told = {
        "counts_mended": mended,
        "counts_stale_since": since and iso(since),
        "queue_mended": queue,
    }
    action_id = None
    if not dry_run:
        action_id = audit.record_action(
            conn,
            action="rebuild",
            token_key_id=token_key_id,
            parameters={},
            result=told,
            now=now,
        )
    return {"dry_run": dry_run, **told, "action_id": action_id}
