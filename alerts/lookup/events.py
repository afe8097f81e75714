"""The newest global events, for ``GET /alerts/events/latest``. No user data."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from alerts import db
from alerts.paging import iso

LATEST = """
SELECT
    id, alert_type, scope_region AS region, scope_assets AS assets, severity, risk_score,
    headline, body, created_at::timestamptz AS created_at
FROM alert_events
WHERE created_at <= %(now)s
ORDER BY alert_events.created_at DESC, id DESC
LIMIT %(limit)s
"""


def latest_events(conn: db.Connection, *, limit: int, now: datetime) -> dict[str, Any]:
    """At most ``limit`` events created up to ``now``, newest first."""
    events = db.fetch_all(conn, LATEST, {"limit": limit, "now": now})
    for event in events:
        event["created_at"] = iso(event["created_at"])
    return {"count": len(events), "events": events}
