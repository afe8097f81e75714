"""Switching a user's channel off by the link of a message, and on again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from alerts import db
from alerts.leaving.links import KEY_PURPOSE, Leaver
from alerts.repair import audit

KEY_ID = "link"  # shown in the audit, where requests show their token's key id

_SIGNING_KEY = "SELECT key FROM alerts_keys WHERE purpose = %(purpose)s"

# No row for a user who does not exist (any more). Waits for one who is being erased.
_PREFERENCE = """
SELECT coalesce(p.enabled, TRUE) AS enabled, p.unsubscribed_at
FROM users AS u
LEFT JOIN user_channel_prefs AS p ON p.user_id = u.id AND p.channel = %(channel)s
WHERE u.id = %(user_id)s
"""
_LOCK_USER = "SELECT FROM users WHERE id = %(user_id)s FOR KEY SHARE"

# What is off stays as it is: since when, and whether by link. All else of the row is kept.
_SWITCH_OFF = """
INSERT INTO user_channel_prefs AS p (user_id, channel, enabled, unsubscribed_at)
VALUES (%(user_id)s, %(channel)s, FALSE, %(now)s)
ON CONFLICT (user_id, channel) DO UPDATE
SET enabled = FALSE, unsubscribed_at = excluded.unsubscribed_at, updated_at = clock_timestamp()
WHERE p.enabled
"""

# Only what a link switched off; a trigger ends the unsubscription.
_SWITCH_ON = """
UPDATE user_channel_prefs
SET enabled = TRUE, updated_at = clock_timestamp()
WHERE user_id = %(user_id)s AND channel = %(channel)s
  AND enabled IS FALSE AND unsubscribed_at IS NOT NULL
"""


@dataclass(frozen=True)
class Standing:
    """Whether a user gets messages on a channel; if not, since when by link.

    ``unsubscribed_at`` is None where the user switched the channel off in the app, and for a user
    who was erased or does not exist: there is nothing that a link could undo.
    """

    subscribed: bool
    unsubscribed_at: datetime | None = None


def signing_key(conn: db.Connection) -> bytes | None:
    """The key of all links; None if a restore left it out, and then no link is valid."""
    row = db.fetch_one(conn, _SIGNING_KEY, {"purpose": KEY_PURPOSE})
    return None if row is None else bytes(row["key"])


def standing(conn: db.Connection, leaver: Leaver) -> Standing:
    """The present state; changes nothing."""
    row = db.fetch_one(conn, _PREFERENCE, leaver._asdict())
    if row is None:
        return Standing(subscribed=False)
    enabled = row["enabled"]
    return Standing(enabled, None if enabled else row["unsubscribed_at"])


def unsubscribe(conn: db.Connection, leaver: Leaver, now: datetime) -> Standing:
    """Switch the channel off, in the caller's transaction; again, it changes nothing."""
    return _switch(conn, leaver, now, "unsubscribe", _SWITCH_OFF)


def resubscribe(conn: db.Connection, leaver: Leaver, now: datetime) -> Standing:
    """Undo :func:`unsubscribe`: everything is as it was before."""
    return _switch(conn, leaver, now, "resubscribe", _SWITCH_ON)


def _switch(
    conn: db.Connection, leaver: Leaver, now: datetime, action: str, statement: str
) -> Standing:
    told = leaver._asdict()
    if db.fetch_all(conn, _LOCK_USER, told) and db.execute(conn, statement, {**told, "now": now}):
        result = {"enabled": statement == _SWITCH_ON}
        audit.record_action(
            conn, action=action, token_key_id=KEY_ID, parameters=told, result=result, now=now
        )
    return standing(conn, leaver)
