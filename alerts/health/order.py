"""The order in which reasons are told: a cause comes before its symptoms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alerts.health.reasons import SEVERITIES

Told = Mapping[str, Any]  # a reason as health answers it

_WAITS = ("queue_waiting", "sending_stuck")
# What a reason explains: when it is given, the others are only its symptoms. With a colon and a
# cause: only if that is the cause.
EXPLAINS: Mapping[str, tuple[str, ...]] = {
    "migrations_pending": ("last_run_failed", "no_recent_success:migrations"),
    "paused": ("no_recent_success:paused", "runs_late", *_WAITS),
    "switched_off": ("no_recent_success:switched_off", *_WAITS),
    "dry_run": ("no_recent_success:dry_runs", "never_run"),
    "runs_not_recorded": (
        "no_recent_success:not_recorded", "last_run_failed", "run_stale", "run_lost", "runs_late",
    ),
    "misconfigured": ("last_run_failed", "queue_waiting"),
    "channel_held": ("last_run_failed", "queue_waiting", "channel_failing", "attempts_exhausted"),
    "channel_closed": ("queue_waiting", "channel_failing", "attempts_exhausted"),
    "refused_at_once": ("last_run_failed", "channel_failing", "recipients_refused"),
    "phase_locked_out": ("no_recent_success:locked_out", *_WAITS),
    "run_stale": ("no_recent_success:killed", "never_run", *_WAITS),
    "run_lost": ("sending_stuck",),
    "last_run_failed": ("no_recent_success:failing", "no_recent_success:killed", *_WAITS),
    "no_recent_success": ("runs_late", *_WAITS),
    "never_run": _WAITS,
    "cap_reached": ("queue_waiting",),
    "channel_failing": ("attempts_exhausted", "recipients_refused", "queue_waiting"),
}  # fmt: skip
# What is told of the engine as a whole may be caused by a single channel.
_OF_THE_WHOLE = ("last_run_failed",)


def arranged(reasons: Sequence[Told]) -> list[Told]:
    """The worst first, a cause being as bad as what it explains; symptoms follow their causes."""

    def place(reason: Told) -> tuple[int, int, int]:
        weight = min(SEVERITIES.index(each["severity"]) for each in _with_symptoms(reason, reasons))
        return weight, _depth(reason, reasons), reasons.index(reason)

    return sorted(reasons, key=place)


def causes(reasons: Sequence[Told]) -> list[Told]:
    """The reasons that are not symptoms of another, in the order given."""
    return [reason for reason in reasons if not _depth(reason, reasons)]


def _explains(cause: Told, symptom: Told) -> bool:
    names = {symptom["code"], f"{symptom['code']}:{symptom.get('cause')}"}
    if not names & set(EXPLAINS.get(cause["code"], ())):
        return False
    whole = cause["channel"] is None or symptom["code"] in _OF_THE_WHOLE
    return whole or cause["channel"] == symptom["channel"]


def _with_symptoms(reason: Told, reasons: Sequence[Told]) -> list[Told]:
    found = [reason]
    for other in reasons:
        if _explains(reason, other):
            found += _with_symptoms(other, reasons)
    return found


def _depth(reason: Told, reasons: Sequence[Told]) -> int:
    above = [_depth(cause, reasons) for cause in reasons if _explains(cause, reason)]
    return 1 + max(above) if above else 0
