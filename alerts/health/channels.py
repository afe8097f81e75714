"""The channels' states, as delivery health tells them."""

from __future__ import annotations

from typing import Any

from alerts import db
from alerts.channels.names import SEND_CHANNELS
from alerts.failures import CLASS_OF, FailureClass, FailureCode
from alerts.paging import iso

STATES = """
SELECT
    channel, switched_off, code, detail, closed_since, closed_until, last_success_at,
    last_failure_at
FROM alerts_channel_state
"""
STATE_TIMES = ("closed_since", "closed_until", "last_success_at", "last_failure_at")

OPEN, CLOSED, HELD, OFF = "open", "closed", "held", "off"


def channel_state(name: str, row: db.Row | None, waiting: int) -> dict[str, Any]:
    """``open``, ``closed`` (it will pass), ``held`` (somebody must act) or ``off``; since when and
    why, when it is tried next (None: with the next run), how many messages wait. Wall time."""
    row = row or {}
    since, code = row.get("closed_since"), row.get("code")
    if row.get("switched_off") and name in SEND_CHANNELS:
        state, code, since = OFF, None, None
    elif since is None:
        state = OPEN
    else:
        state = HELD if _is_operators(code) else CLOSED
    times = {
        "since": since,
        "next_try_at": row.get("closed_until") if since else None,
        "last_success_at": row.get("last_success_at"),
        "last_failure_at": row.get("last_failure_at"),
    }
    return {
        "state": state,
        "code": code,
        "detail": row.get("detail") if since else None,
        **{key: value and iso(value) for key, value in times.items()},
        "waiting": waiting,
    }


def _is_operators(code: str | None) -> bool:
    known = code in FailureCode.__members__.values()
    return known and CLASS_OF[FailureCode(str(code))] is FailureClass.OPERATOR
