"""Consecutive refusals by user and channel: after several the address counts as missing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from alerts import db
from alerts.failures import CLASS_OF, FailureClass, FailureCode
from alerts.phases.send.leases import Outcome

_PERMANENT = (FailureClass.RECIPIENT, FailureClass.PAYLOAD)

# In a row: of the same address, and nothing was taken since the one before. Of several refusals
# in one statement each counts.
_NOTE = """
INSERT INTO alerts_refused_addresses AS r (user_id, channel, address_hash, refusals, last_at)
SELECT n.user_id, n.channel, n.address_hash, count(*), %(now)s
FROM (
    SELECT user_id, channel, alerts_address_hash(user_id, channel, address) AS address_hash
    FROM unnest(%(user_ids)s::bigint[], %(channels)s::text[], %(addresses)s::text[])
        AS g (user_id, channel, address)
) AS n
JOIN users AS u ON u.id = n.user_id
GROUP BY n.user_id, n.channel, n.address_hash
ON CONFLICT (user_id, channel) DO UPDATE
SET address_hash = excluded.address_hash,
    last_at = excluded.last_at,
    refusals = excluded.refusals + CASE
        WHEN r.address_hash = excluded.address_hash
            AND NOT EXISTS (
                SELECT
                FROM user_alert_deliveries AS d
                WHERE d.user_id = r.user_id AND d.channel = r.channel AND d.status = 'sent'
                  AND d.sent_at > r.last_at
            )
            AND NOT EXISTS (
                SELECT
                FROM user_alert_digests AS d
                WHERE d.user_id = r.user_id AND d.channel = r.channel AND d.status = 'sent'
                  AND d.sent_at > r.last_at
            )
            THEN r.refusals
        ELSE 0
    END
"""


def note_refusals(conn: db.Connection, outcomes: Sequence[Outcome], now: datetime) -> None:
    """Count the outcomes that the provider refused for good; ``now`` is business time."""
    refused = [
        outcome.claim
        for outcome in outcomes
        if outcome.status == "failed"
        and outcome.failure_code is not None
        and outcome.claim.destination
        and CLASS_OF[FailureCode(outcome.failure_code)] in _PERMANENT
    ]
    if not refused:
        return
    # One address per user and channel: that of the last message, should it have changed in between.
    places = {(claim.user_id, claim.channel): claim.destination for claim in refused}
    same = [c for c in refused if places[c.user_id, c.channel] == c.destination]
    values = {
        "user_ids": [claim.user_id for claim in same],
        "channels": [claim.channel for claim in same],
        "addresses": [claim.destination for claim in same],
        "now": now,
    }
    db.execute(conn, _NOTE, values)
