"""Sending again what failed: ``POST /retry_failed`` and ``retry-failed``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg2 import sql

from alerts import db
from alerts.failures import FailureClass, FailureCode, codes_of
from alerts.phases.send.claims import LEFT_OUT, QUEUES, too_old
from alerts.repair import audit
from alerts.settings.config import Settings

_QUEUE_OF = {queue.name: queue for queue in QUEUES}
KINDS = {name: queue.table for name, queue in _QUEUE_OF.items()}
INCLUDES = ("exhausted", "unknown", "not_configured", "refused")
# What one has to know before sending more than the safe ones again.
WARNINGS = {
    "unknown": "Some of these messages may have arrived: their recipients would get them twice.",
    "refused": "These messages were refused for good. Providers count messages to addresses that "
    "do not work against their sender: mend the addresses, or the text, first.",
}
_REFUSED = (FailureCode.RECIPIENT_INVALID.value, FailureCode.PAYLOAD_INVALID.value)
MAX_SINCE_HOURS = 168
DEFAULT_SINCE_HOURS = 24

# Every failed row of the window (and, when asked for, the skipped ones without a provider) with
# the reason that keeps it out, NULL for those to send again.
_CANDIDATES = """
SELECT
    q.id,
    q.channel,
    q.status,
    CASE
        WHEN q.status <> 'skipped' AND NOT coalesce(
            q.failure_code = ANY (%(transient)s::text[])
            OR (%(include_unknown)s AND q.failure_code = ANY (%(unknown)s::text[]))
            OR (%(include_refused)s AND q.failure_code = ANY (%(refused)s::text[])),
            FALSE
        ) THEN coalesce(q.failure_code, 'no_code')
        ELSE coalesce(
            {left_out},
            CASE
                WHEN q.status <> 'skipped'
                    AND q.failure_code = ANY (%(transient)s::text[])
                    AND q.attempts >= %(max_attempts)s
                    AND NOT %(include_exhausted)s
                    THEN 'attempts_exhausted'
            END
        )
    END AS excluded_by,
    coalesce(q.failed_at, q.created_at) AS since
FROM {table} AS q
WHERE {of_queue}
  AND (%(channel)s::text IS NULL OR q.channel = %(channel)s)
  AND (%(failure_code)s::text IS NULL OR q.failure_code = %(failure_code)s)
  AND (
      (q.status = 'failed' AND q.failed_at > %(since)s AND q.failed_at <= %(now)s)
      OR (
          %(include_not_configured)s
          AND q.status = 'skipped'
          AND q.failure_code = 'channel_not_configured'
          AND q.created_at > %(since)s
          AND q.created_at <= %(now)s
      )
  )
"""

_COUNT = """
SELECT excluded_by, channel, count(*) AS count
FROM ({candidates}) AS c
GROUP BY excluded_by, channel
ORDER BY excluded_by, channel
"""

# Oldest first, up to the limit. Rows that another session has locked are skipped.
_PICK = """
SELECT q.id, q.channel
FROM {table} AS q
JOIN ({candidates}) AS c ON c.id = q.id
WHERE c.excluded_by IS NULL
ORDER BY c.since, q.id
LIMIT %(limit)s
FOR UPDATE OF q SKIP LOCKED
"""

_REQUEUE = """
UPDATE {table} AS q
SET status = 'queued', next_retry_at = NULL, failed_at = NULL, failure_code = NULL
WHERE q.id = ANY (%(ids)s) AND q.status IN ('failed', 'skipped')
RETURNING q.channel, q.user_id
"""

# An address that was refused too often counts as missing; sending again gives it another chance.
_FORGIVE = """
DELETE FROM alerts_refused_addresses AS r
USING unnest(%(user_ids)s::bigint[], %(channels)s::text[]) AS again (user_id, channel)
WHERE r.user_id = again.user_id AND r.channel = again.channel
"""


@dataclass(frozen=True)
class RetryRequest:
    """What to send again: failures of the last ``since_hours``, at most ``limit`` of them.

    Each value of ``include`` lifts one exclusion: ``exhausted``, ``unknown``,
    ``not_configured``, ``refused`` (what was refused for good, and the addresses that count as
    none for it; never what the recipient has blocked). With ``failure_code`` or ``channel`` only
    such rows are looked at and counted. What sending would skip is left out whatever is asked for.
    """

    kind: str
    since_hours: int = DEFAULT_SINCE_HOURS
    limit: int | None = None
    include: tuple[str, ...] = ()
    failure_code: str | None = None
    channel: str | None = None
    dry_run: bool = False


def retry_failed(
    conn: db.Connection,
    settings: Settings,
    request: RetryRequest,
    *,
    now: datetime,
    token_key_id: str,
) -> dict[str, Any]:
    """Put failed rows back into the queue, and say which were left out and why.

    The caller gives a transaction: the audit row and the requeued rows commit together or not
    at all. A dry run gives the same numbers and writes nothing.
    """
    parameters = _parameters(settings, request, now)
    limit = parameters["limit"]
    eligible, excluded = _count(conn, request.kind, parameters)
    picked = db.fetch_all(conn, _statement(_PICK, request.kind), parameters)
    by_channel: dict[str, int] = {}
    if not request.dry_run:
        ids = [row["id"] for row in picked]
        picked = db.fetch_all(conn, _statement(_REQUEUE, request.kind), {"ids": ids})
        if "refused" in request.include:
            places = {name: [row[name[:-1]] for row in picked] for name in ("user_ids", "channels")}
            db.execute(conn, _FORGIVE, places)
    for row in picked:
        by_channel[row["channel"]] = by_channel.get(row["channel"], 0) + 1
    result = {
        "kind": request.kind,
        "since_hours": request.since_hours,
        "dry_run": request.dry_run,
        "eligible": eligible,
        "requeued": len(picked),
        "excluded": excluded,
        "by_channel": by_channel,
        "action_id": None,
    }
    if warnings := [WARNINGS[name] for name in WARNINGS if name in request.include]:
        result["warnings"] = warnings
    if not request.dry_run:
        asked = {
            "kind": request.kind,
            "since_hours": request.since_hours,
            "limit": limit,
            "include": list(request.include),
            "failure_code": request.failure_code,
            "channel": request.channel,
        }
        told = {name: result[name] for name in ("eligible", "requeued", "excluded", "by_channel")}
        result["action_id"] = audit.record_action(
            conn,
            action="retry_failed",
            token_key_id=token_key_id,
            parameters=asked,
            result=told,
            now=now,
        )
    return result


def _count(
    conn: db.Connection, kind: str, parameters: dict[str, Any]
) -> tuple[int, dict[str, int]]:
    eligible = 0
    excluded: dict[str, int] = {}
    for row in db.fetch_all(conn, _statement(_COUNT, kind), parameters):
        reason = row["excluded_by"]
        if reason is None:
            eligible += row["count"]
        else:
            excluded[reason] = excluded.get(reason, 0) + row["count"]
    return eligible, excluded


def _parameters(settings: Settings, request: RetryRequest, now: datetime) -> dict[str, Any]:
    most = settings.max_send_per_run
    return {
        "now": now,
        "since": now - timedelta(hours=request.since_hours),
        "limit": min(request.limit or most, most),
        "max_attempts": settings.max_attempts,
        "failure_code": request.failure_code,
        "channel": request.channel,
        "too_old": too_old(_QUEUE_OF[request.kind], settings.delivery_max_age_hours, now),
        "transient": list(codes_of(FailureClass.TRANSIENT)),
        "unknown": list(codes_of(FailureClass.UNKNOWN)),
        "refused": list(_REFUSED),
        **{f"include_{name}": name in request.include for name in INCLUDES},
    }


def _statement(text: str, kind: str) -> sql.Composed:
    parts = {
        "table": sql.Identifier(KINDS[kind]),
        "of_queue": sql.SQL(
            "q.delivery_kind IN ('instant', 'digest')" if kind == "deliveries" else "TRUE"
        ),
    }
    left_out = sql.SQL(LEFT_OUT).format(too_old=sql.SQL("%(too_old)s::timestamptz"))
    candidates = sql.SQL(_CANDIDATES).format(**parts, left_out=left_out)
    return sql.SQL(text).format(**parts, candidates=candidates)
