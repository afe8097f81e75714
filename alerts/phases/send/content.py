"""What claimed rows say: their events, read once a run, and the rendered messages."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from alerts import db
from alerts.channels.base import Message
from alerts.messages import Alert, Rendered, Style, render_alert, render_digest
from alerts.phases.send.claims import DIGESTS, Claim

EVENTS = """
SELECT
    id, alert_type, severity, scope_region, scope_assets, headline, body,
    created_at::timestamptz AS created_at
FROM alert_events
WHERE id = ANY (%s)
"""

# Read after the claim, in a statement of its own: only then is no item still to come.
DIGEST_EVENTS = """
SELECT i.digest_id, d.alert_event_id
FROM user_alert_digest_items AS i
JOIN user_alert_deliveries AS d ON d.id = i.delivery_id
WHERE i.digest_id = ANY (%s) AND d.alert_event_id IS NOT NULL
"""


class Contents:
    """Events and renderings of a run, kept: one event goes to many users with the same text."""

    def __init__(self, conn: db.Connection, style: Style) -> None:
        self._conn = conn
        self._style = style
        self._alerts: dict[int, Alert] = {}
        self._rendered: dict[tuple[str, int], Rendered] = {}

    def renderers(self, claims: Sequence[Claim]) -> list[Callable[[], Message]]:
        """For each claim a function that renders its message, safe to call in any thread."""
        digests = self._digest_events([c.id for c in claims if c.queue is DIGESTS])
        self._load(
            {c.event_id for c in claims if c.event_id is not None}
            | {event_id for events in digests.values() for event_id in events}
        )
        return [self._renderer(claim, digests.get(claim.id, [])) for claim in claims]

    def _renderer(self, claim: Claim, digest_events: list[int]) -> Callable[[], Message]:
        def render() -> Message:
            if claim.queue is DIGESTS:
                rendered = self._render_digest(claim, digest_events)
            else:
                rendered = self._render_alert(claim)
            return Message(
                key=message_key(claim),
                destination=claim.destination or "",
                text=rendered.text,
                subject=rendered.subject,
                html=rendered.html,
            )

        return render

    def _render_alert(self, claim: Claim) -> Rendered:
        if claim.event_id is None:
            raise ValueError("an instant delivery without event")
        key = (claim.channel, claim.event_id)
        if key not in self._rendered:
            self._rendered[key] = render_alert(
                claim.channel, self._alerts[claim.event_id], self._style
            )
        return self._rendered[key]

    def _render_digest(self, claim: Claim, event_ids: list[int]) -> Rendered:
        if claim.window_start is None or claim.window_end is None:
            raise ValueError("a digest without window")
        return render_digest(
            claim.channel,
            [self._alerts[event_id] for event_id in event_ids],
            claim.period,
            claim.window_start,
            claim.window_end,
            self._style,
        )

    def _digest_events(self, digest_ids: list[int]) -> dict[int, list[int]]:
        events: dict[int, list[int]] = defaultdict(list)
        if digest_ids:
            for row in db.fetch_all(self._conn, DIGEST_EVENTS, (digest_ids,)):
                events[row["digest_id"]].append(row["alert_event_id"])
        return events

    def _load(self, event_ids: Iterable[int]) -> None:
        missing = [event_id for event_id in event_ids if event_id not in self._alerts]
        if not missing:
            return
        for row in db.fetch_all(self._conn, EVENTS, (missing,)):
            self._alerts[row["id"]] = Alert(
                event_id=row["id"],
                alert_type=row["alert_type"],
                severity=row["severity"],
                region=row["scope_region"],
                assets=tuple(row["scope_assets"] or ()),
                headline=row["headline"],
                body=row["body"],
                created_at=row["created_at"],
            )


def message_key(claim: Claim) -> str:
    """The message's key: the same for every attempt at the row, another in another deployment.

    Ids alone repeat between deployments that share a provider account; the row's creation time,
    to the microsecond, tells them apart.
    """
    identity = f"{claim.queue.name}:{claim.id}:{claim.user_id}:{claim.created_at.isoformat()}"
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return f"{claim.queue.name}-{claim.id}-{digest}"
