"""How many users have left lately, as delivery health tells it."""

from __future__ import annotations

# By link, in the last seven days. Those who have come back since do not count: see
# sql/0012_unsubscribe.sql.
UNSUBSCRIBED = """
SELECT count(*) AS amount
FROM user_channel_prefs
WHERE unsubscribed_at >= %(last_week)s AND unsubscribed_at < %(end)s AND enabled IS FALSE
"""
