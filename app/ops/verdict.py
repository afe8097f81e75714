"""The sentence at the top, what to do about it, and where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MARKS = {"failing": "bad", "degraded": "warn", "note": "idle", "ok": "ok"}
_LABELS = (
    ("/ops/failures", "See what failed"),
    ("/ops/runs/", "Open the run"),
    ("/ops/runs", "See the runs"),
    ("/ops/pause", "Pausing and resuming"),
    ("/ops/setup", "See the set-up"),
    ("/ops/messages", "See the messages"),
    ("/ops/retry", "Preview sending again"),
)


def verdict(health: Mapping[str, Any]) -> dict[str, Any]:
    """``status``, its ``mark`` and ``word``, the ``headline``, the ``first`` reason, which it is
    about (or None), and the ``others``, each with its ``mark`` and the ``label`` of its link."""
    reasons = [
        {
            "severity": health["status"], "action": "", "since": None, "channel": None,
            "page": None, **reason,
        }
        for reason in health["reasons"]
    ]  # fmt: skip
    for reason in reasons:
        reason["mark"] = _MARKS.get(reason["severity"], "warn")
        reason["label"] = _label(reason["page"])
    status = health["status"]
    return {
        "status": status,
        "mark": _MARKS[status],
        "word": {"ok": "All is well", "degraded": "Needs a look", "failing": "Failing"}[status],
        "headline": reasons[0]["message"] if reasons else "All is well.",
        "first": reasons[0] if reasons else None,
        "others": reasons[1:],
    }


def _label(page: str | None) -> str | None:
    known = (label for start, label in _LABELS if page and page.startswith(start))
    return next(known, None)
