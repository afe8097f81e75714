"""Business time. Leases, heartbeats and timeouts use wall time: PostgreSQL's or monotonic."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Clock:
    """Ticks in UTC, or stands still at ``frozen``, so a replay runs the same code as production."""

    frozen: datetime | None = None

    def now(self) -> datetime:
        """The current business time, aware, in UTC."""
        return self.frozen or datetime.now(UTC)
