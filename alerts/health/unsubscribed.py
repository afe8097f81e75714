"""How many users have left lately, as delivery health tells it."""

from __future__ import annotations

from datetime import datetime, timedelta

from alerts import db

# Those who have come back since do not count: see sql/0012_unsubscribe.sql.
UNSUBSCRIBED = """
SELECT count(*) AS amount
FROM user_channel_prefs
WHERE unsubscribed_at > %(since)s AND unsubscribed_at <= %(now)s AND enabled IS FALSE
"""
LATELY = timedelta(days=7)


def unsubscribed(conn: db.Connection, now: datetime) -> int:
    """Unsubscriptions by link of the last seven days that still hold."""
    amount: int = db.fetch_all(conn, UNSUBSCRIBED, {"since": now - LATELY, "now": now})[0]["amount"]
    return amount
