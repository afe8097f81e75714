"""A reason: what is wrong, or worth knowing, in a sentence, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from alerts.paging import iso

FAILING, DEGRADED, NOTE = "failing", "degraded", "note"
SEVERITIES = (FAILING, DEGRADED, NOTE)  # the worst first
# Every code that a rule can give.
CODES = (
    "migrations_pending",
    "paused",
    "switched_off",
    "dry_run",
    "runs_not_recorded",
    "two_deployments",
    "misconfigured",
    "channel_held",
    "refused_at_once",
    "channel_closed",
    "phase_locked_out",
    "no_recent_success",
    "last_run_failed",
    "never_run",
    "run_stale",
    "run_lost",
    "cap_reached",
    "channel_failing",
    "queue_waiting",
    "sending_stuck",
    "parked",
    "channel_not_configured",
    "attempts_exhausted",
    "recipients_refused",
    "input_stale",
    "allowlist",
    "runs_late",
    "clock_skew",
    "records_spooled",
    "token_too_short",
    "counts_stale",
    "queue_differs",
    "nothing_risky",
    "channel_off",
)


@dataclass(frozen=True)
class Reason:
    """One thing that health tells.

    ``message`` names the cause and ``action`` says what to do and where, both without codes and
    field names, with times of the engine's zone. A ``note`` leaves the status as it is.
    ``channel`` is None where it concerns more than one. ``page`` is where the app shows more.
    ``cause`` is set for ``no_recent_success`` alone.
    """

    code: str
    severity: str
    message: str
    action: str
    since: datetime | None = None
    channel: str | None = None
    cause: str | None = None
    page: str = "/ops"

    def as_json(self) -> dict[str, Any]:
        """Its fields as health answers them; ``cause`` only where there is one."""
        told: dict[str, Any] = {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "action": self.action,
            "since": self.since and iso(self.since),
            "channel": self.channel,
            "page": self.page,
        }
        return told if self.cause is None else {**told, "cause": self.cause}
