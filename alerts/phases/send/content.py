"""What claimed rows say: their events, read once a run, and the rendered messages."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

from alerts import db
from alerts.channels.base import Message
from alerts.leaving import links
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
SELECT i.digest_id, array_agg(d.alert_event_id)
FROM user_alert_digest_items AS i
JOIN user_alert_deliveries AS d ON d.id = i.delivery_id
WHERE i.digest_id = ANY (%s) AND d.alert_event_id IS NOT NULL
GROUP BY i.digest_id
"""


class Contents:
    """Events and renderings of a run, kept: one event goes to many users with the same text."""

    def __init__(self, style: Style) -> None:
        self._style = style
        self._signing_key = b""
        self._digests: dict[int, Sequence[int]] = {}  # events of those that are not rendered yet
        self._alerts: dict[int, Alert] = {}
        self._rendered: dict[tuple[str, int | None], Rendered] = {}

    def sign_with(self, key: bytes) -> None:
        """Let emails carry links to unsubscribe, from now on; before anything is rendered."""
        base = links.base_of(self._style.app_base_url)
        self._style, self._signing_key = replace(self._style, unsubscribe_base=base), key

    def load(self, conn: db.Connection, claims: Sequence[Claim]) -> None:
        """Read what the claims are about, so that :meth:`render` can make their messages."""
        digests = [claim.id for claim in claims if claim.source == DIGESTS.name]
        if digests:
            self._digests.update(dict.fromkeys(digests, ()))
            with conn.cursor() as cursor:
                cursor.execute(DIGEST_EVENTS, (digests,))
                self._digests.update(cursor.fetchall())
        self._load(conn, {claim.event_id for claim in claims})
        self._load(conn, {event_id for row in digests for event_id in self._digests[row]})

    def render(self, claim: Claim) -> Message:
        """The message of a claimed row. Safe to call in any thread."""
        if claim.source == DIGESTS.name:
            rendered = self._render_digest(claim)
        else:
            rendered = self._render_alert(claim)
        base, unsubscribe = self._style.unsubscribe_base, ""
        if base is not None and claim.channel in links.LINKED_CHANNELS:
            signed = links.sign(self._signing_key, claim.user_id, claim.channel)
            rendered = rendered.signed(signed)
            unsubscribe = base + signed if links.is_one_click(base) else ""
        return Message(
            key=message_key(claim),
            destination=claim.destination or "",
            text=rendered.text,
            subject=rendered.subject,
            html=rendered.html,
            unsubscribe=unsubscribe,
        )

    def _render_alert(self, claim: Claim) -> Rendered:
        key = (claim.channel, claim.event_id)
        rendered = self._rendered.get(key)
        if rendered is None:
            if claim.event_id is None:
                raise ValueError("an instant delivery without event")
            alert = self._alerts[claim.event_id]
            rendered = self._rendered[key] = render_alert(claim.channel, alert, self._style)
        return rendered

    def _render_digest(self, claim: Claim) -> Rendered:
        if claim.period is None or claim.window_start is None or claim.window_end is None:
            raise ValueError("a digest without window")
        return render_digest(
            claim.channel,
            [self._alerts[event_id] for event_id in self._digests.pop(claim.id)],
            claim.period,
            claim.window_start,
            claim.window_end,
            self._style,
        )

    def _load(self, conn: db.Connection, event_ids: Iterable[int | None]) -> None:
        missing = [each for each in event_ids if each is not None and each not in self._alerts]
        if not missing:
            return
        for row in db.fetch_all(conn, EVENTS, (missing,)):
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
    identity = f"{claim.source}:{claim.id}:{claim.user_id}:{claim.created_at}"
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return f"{claim.source}-{claim.id}-{digest}"
