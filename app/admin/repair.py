"""The admin endpoints that change something."""

from __future__ import annotations

from typing import Any

from flask import g

from alerts.channels.names import SEND_CHANNELS
from alerts.failures import FailureCode
from alerts.redaction import redactor_for
from alerts.repair import audit, pauses, requeue
from app.current import business_now, database, settings
from app.errors import ApiError
from app.params import Params


def retry_failed() -> dict[str, Any]:
    """Put failed rows back into the queue."""
    params = Params("kind", "since_hours", "dry_run", "limit", "include", "failure_code", "channel")
    kind = params.choice("kind", tuple(requeue.KINDS))
    if kind is None:
        raise ApiError(400, "bad_parameter", "Parameter kind is missing: deliveries or digests.")
    most = settings().max_send_per_run
    asked = requeue.RetryRequest(
        kind=kind,
        since_hours=params.integer(
            "since_hours", requeue.DEFAULT_SINCE_HOURS, 1, requeue.MAX_SINCE_HOURS
        ),
        limit=params.integer("limit", most, 1, most),
        include=params.parsed("include", (), requeue.parse_include, _INCLUDE_TAKES),
        failure_code=params.choice("failure_code", tuple(FailureCode)),
        channel=params.choice("channel", SEND_CHANNELS),
        dry_run=params.boolean("dry_run"),
    )
    with database().transaction(read_only=False) as conn:
        return requeue.retry_failed(
            conn, settings(), asked, now=business_now(), token_key_id=g.token_key_id
        )


_INCLUDE_TAKES = f"a comma list of {', '.join(requeue.INCLUDES)}"


def list_actions() -> dict[str, Any]:
    """The audit of admin writes, newest first."""
    params = Params("limit", "before", "action")
    limit = params.integer("limit", 50, 1, 200)
    before = params.integer("before", 0, 1, 10**12 - 1) or None
    action = params.choice("action", audit.ACTIONS)
    with database().transaction() as conn:
        return audit.list_actions(conn, limit=limit, before=before, action=action)


def pause() -> dict[str, Any]:
    """Stop the engine, or one channel."""
    params = Params("channel", "reason")
    channel = params.choice("channel", SEND_CHANNELS)
    reason = params.parsed("reason", "", pauses.checked_reason, _REASON_TAKES)
    if not reason:
        raise ApiError(400, "bad_parameter", f"Parameter reason is missing: {_REASON_TAKES}.")
    with database().transaction(read_only=False) as conn:
        return pauses.pause(conn, channel, reason, **_writer())


def resume() -> dict[str, Any]:
    """Let it go on."""
    params = Params("channel", "reason")
    channel = params.choice("channel", SEND_CHANNELS)
    reason = params.parsed("reason", "", pauses.checked_reason, _REASON_TAKES) or None
    with database().transaction(read_only=False) as conn:
        return pauses.resume(conn, channel, reason, **_writer())


_REASON_TAKES = f"1 to {pauses.LONGEST_REASON} printable characters"


def _writer() -> dict[str, Any]:
    """Who writes, and when."""
    scrub = redactor_for(settings()).scrub
    return {"now": business_now(), "token_key_id": g.token_key_id, "scrub": scrub}
