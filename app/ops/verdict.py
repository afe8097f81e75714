"""The sentence at the top, what to do about it, and where."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from alerts.health.brief import brief
from alerts.health.order import causes
from alerts.words import capital
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
    ("/ops#input", "See the input"),
)
_WELL = re.compile(r"^All is well[:.] ")  # which the word above says
_OF_INPUT = ("input_stale",)


_WORDS = {"ok": "All is well", "degraded": "Needs a look", "failing": "Failing"}


def verdict(health: Mapping[str, Any]) -> dict[str, Any]:
    """``status``, its ``mark`` and ``word``, the ``headline``, the ``first`` reason, which it is
    about (or None), the ``others``, and in ``symptoms`` what merely follows from these. Each has
    the ``mark`` of its severity and the ``label`` of its link."""
    status, reasons = health["status"], [_shown(each) for each in health["reasons"]]
    found, headline = causes(reasons), brief(health)["headline"]
    about = found[:1] if found and found[0]["message"] in headline else []
    told = {each["message"] for each in found}
    mark, word = _MARKS[status], _WORDS[status]
    if status == "ok" and about and headline == about[0]["message"]:
        stands_still = about[0]["code"] in ("paused", "switched_off")
        mark, word = "paused" if stands_still else "idle", "Worth knowing"
    return {
        "status": status,
        "mark": mark,
        "word": word,
        "headline": capital(_WELL.sub("", headline)) if status == "ok" else headline,
        "first": about[0] if about else None,
        "others": found[len(about) :],
        "symptoms": [each for each in reasons if each["message"] not in told],
    }


def _shown(reason: Mapping[str, Any]) -> dict[str, Any]:
    page = reason["page"] if is_below(reason["page"].partition("?")[0], "/ops") else "/ops"
    page = "/ops#input" if page == "/ops" and reason["code"] in _OF_INPUT else page
    return {**reason, "mark": _MARKS[reason["severity"]], "page": page, "label": _label(page)}


def _label(page: str) -> str | None:
    return next((label for start, label in _LABELS if page.startswith(start)), None)
