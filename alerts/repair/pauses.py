"""Pausing and resuming the engine, or one of its channels."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from alerts import db
from alerts.paging import iso
from alerts.redaction import REDACTED
from alerts.repair import audit

ENGINE = "all"
LONGEST_REASON = 200
# A chat id, or a phone number without its plus: in a log it could be any count, but in a reason it
# identifies somebody.
_LONG_NUMBER = re.compile(r"\d{7,}")

CURRENT = """
SELECT channel, reason, paused_at, token_key_id AS by
FROM alerts_pauses
ORDER BY channel <> 'all', channel
"""

# Wall time. What is paused already keeps its time and gets the new reason.
_PAUSE = """
INSERT INTO alerts_pauses AS p (channel, reason, paused_at, token_key_id)
VALUES (%(channel)s, %(reason)s, clock_timestamp(), %(token_key_id)s)
ON CONFLICT (channel) DO UPDATE
SET reason = excluded.reason, token_key_id = excluded.token_key_id
RETURNING xmax <> 0 AS was_paused
"""

_RESUME = "DELETE FROM alerts_pauses WHERE channel = %(channel)s"

# Whoever resumes does not want to wait for a channel's next probe.
_OPEN = """
UPDATE alerts_channel_state
SET closed_since = NULL, closed_until = NULL, code = NULL, detail = NULL, failures = 0
WHERE closed_since IS NOT NULL AND (%(channel)s = 'all' OR channel = %(channel)s)
RETURNING channel
"""


@dataclass(frozen=True)
class Pause:
    """One pause: of a channel, or with :data:`ENGINE` of everything."""

    channel: str
    reason: str
    paused_at: datetime
    by: str | None = None  # the token's key id, as in the audit

    def __str__(self) -> str:
        return f"paused since {iso(self.paused_at)}: {self.reason}"


def current(conn: db.Connection) -> list[Pause]:
    """What is paused now, the engine first."""
    return [Pause(**row) for row in db.fetch_all(conn, CURRENT)]


def checked_reason(text: str) -> str:
    """The reason; raises ValueError saying what it takes."""
    text = text.strip()
    if not text or len(text) > LONGEST_REASON or not text.isprintable():
        raise ValueError(f"takes 1 to {LONGEST_REASON} printable characters")
    return text


def pause(
    conn: db.Connection,
    channel: str | None,
    reason: str,
    *,
    now: datetime,
    token_key_id: str,
    scrub: Callable[[str], str],
) -> dict[str, Any]:
    """Pause the engine (``channel`` None) or a channel, with its audit row in the caller's
    transaction. ``scrub`` keeps addresses and secrets out of the reason."""
    name, safe = channel or ENGINE, _stored(reason, scrub)
    row = {"channel": name, "reason": safe, "token_key_id": token_key_id}
    was_paused = bool(db.fetch_all(conn, _PAUSE, row)[0]["was_paused"])
    return _answer(conn, "pause", name, safe, was_paused, now, token_key_id)


def resume(
    conn: db.Connection,
    channel: str | None,
    reason: str | None,
    *,
    now: datetime,
    token_key_id: str,
    scrub: Callable[[str], str],
) -> dict[str, Any]:
    """End a pause, and open channels that are closed. Otherwise like :func:`pause`."""
    name, safe = channel or ENGINE, _stored(reason, scrub) if reason else None
    was_paused = db.execute(conn, _RESUME, {"channel": name}) > 0
    opened = sorted(row["channel"] for row in db.fetch_all(conn, _OPEN, {"channel": name}))
    return _answer(conn, "resume", name, safe, was_paused, now, token_key_id, opened)


def as_json(pause: Pause) -> dict[str, Any]:
    """``channel`` (None: the engine), ``reason``, ``paused_at``, ``by`` (a token's key id)."""
    return {
        "channel": None if pause.channel == ENGINE else pause.channel,
        "reason": pause.reason,
        "paused_at": iso(pause.paused_at),
        "by": pause.by,
    }


def _stored(reason: str, scrub: Callable[[str], str]) -> str:
    """The reason as it may be kept and shown: it names nobody and holds no secret."""
    return _LONG_NUMBER.sub(REDACTED, scrub(reason))[:LONGEST_REASON]


def _answer(
    conn: db.Connection,
    action: str,
    channel: str,
    reason: str | None,
    was_paused: bool,
    now: datetime,
    token_key_id: str,
    opened: list[str] | None = None,
) -> dict[str, Any]:
    told = {"opened": opened} if opened else {}
    action_id = audit.record_action(
        conn,
        action=action,
        token_key_id=token_key_id,
        parameters={"channel": channel, "reason": reason},
        result={"was_paused": was_paused, **told},
        now=now,
    )
    paused = [as_json(each) for each in current(conn)]
    return {"action": action, "channel": channel, "was_paused": was_paused, **told,
            "paused": paused, "action_id": action_id}  # fmt: skip
