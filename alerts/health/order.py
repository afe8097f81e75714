"""In which order reasons are told: the cause before what is merely its symptom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alerts.health.reasons import SEVERITIES

Told = Mapping[str, Any]  # a reason as health answers it

_STANDS_STILL = ("no_recent_success", "queue_waiting", "sending_stuck")
# What a reason explains: where it is told, the others are but its symptoms.
EXPLAINS: Mapping[str, tuple[str, ...]] = {
    "paused": _STANDS_STILL,
    "misconfigured": ("last_run_failed", "queue_waiting"),
    "phase_locked_out": _STANDS_STILL,
    "last_run_failed": _STANDS_STILL,
    "no_recent_success": ("queue_waiting", "sending_stuck"),
    "never_run": ("queue_waiting", "sending_stuck"),
    "run_stale": ("sending_stuck",),
}
# What is told of the engine as a whole may be caused by a single channel.
_OF_THE_WHOLE = ("last_run_failed",)


def arranged(reasons: Sequence[Told]) -> list[Told]:
    """The worst first, a cause being as bad as what it explains; symptoms behind their causes."""

    def place(reason: Told) -> tuple[int, int, int]:
        weight = min(SEVERITIES.index(each["severity"]) for each in _with_symptoms(reason, reasons))
        return weight, _depth(reason, reasons), reasons.index(reason)

    return sorted(reasons, key=place)


def causes(reasons: Sequence[Told]) -> list[Told]:
    """The reasons that are nobody's symptom, in the order given."""
    return [reason for reason in reasons if not _depth(reason, reasons)]


def _explains(cause: Told, symptom: Told) -> bool:
    if symptom["code"] not in EXPLAINS.get(cause["code"], ()):
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
