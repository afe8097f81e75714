"""Links to unsubscribe, as tests make and look at them."""

from __future__ import annotations

from typing import Any

from psycopg2.extensions import connection as Connection

from alerts.leaving import links
from tests.support.world import query, value


def link_of(conn: Connection, user_id: int, channel: str = "email") -> str:
    """The path of the link that the user's mails hold."""
    key = bytes(value(conn, "SELECT key FROM alerts_keys WHERE purpose = 'unsubscribe'"))
    return links.PATH + links.sign(key, user_id, channel)


def channel_pref(conn: Connection, user_id: int, channel: str = "email") -> dict[str, Any] | None:
    """The user's row of a channel."""
    rows = query(
        conn,
        "SELECT enabled, digest_only, unsubscribed_at FROM user_channel_prefs"
        " WHERE user_id = %s AND channel = %s",
        user_id,
        channel,
    )
    return rows[0] if rows else None


def audit(conn: Connection) -> list[dict[str, Any]]:
    """What was written into the audit, oldest first."""
    return query(
        conn,
        "SELECT action, token_key_id, parameters, result FROM alerts_admin_actions ORDER BY id",
    )
