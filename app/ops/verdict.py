"""The sentence at the top, what to do about it, and where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alerts.health.brief import brief
from alerts.health.order import causes
from app.errors import is_below

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


_WORDS = {"ok": "All is well", "degraded": "Needs a look", "failing": "Failing"}


def verdict(health: Mapping[str, Any]) -> dict[str, Any]:
    """``status``, its ``mark`` and ``word``, the ``headline``, the ``first`` reason, which it is
    about (or None), the ``others``, and in ``symptoms`` what merely follows from these. Each has
    the ``mark`` of its severity and the ``label`` of its link."""
    status, reasons = health["status"], [_shown(each) for each in health["reasons"]]
    found = causes(reasons)
    about = found[:1] if status != "ok" else []
    return {
        "status": status,
        "mark": _MARKS[status],
        "word": _WORDS[status],
        "headline": brief(health)["headline"],
        "first": about[0] if about else None,
        "others": found[len(about) :],
        "symptoms": [each for each in reasons if each not in found],
    }


def _shown(reason: Mapping[str, Any]) -> dict[str, Any]:
    page = reason["page"] if is_below(reason["page"].partition("?")[0], "/ops") else "/ops"
    return {**reason, "mark": _MARKS[reason["severity"]], "page": page, "label": _label(page)}


def _label(page: str) -> str | None:
    return next((label for start, label in _LABELS if page.startswith(start)), None)
