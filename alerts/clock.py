"""Business time. Wall time, for the machinery, is PostgreSQL's or ``time.monotonic``'s."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Clock:
    """Ticks in UTC, or stands still at ``frozen``: then a replay runs what production runs."""

    frozen: datetime | None = None

    def now(self) -> datetime:
        """The current business time, aware, in UTC."""
        return self.frozen or datetime.now(UTC)
