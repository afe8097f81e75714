"""Where the bars of a chart stand. Geometry only: the templates draw it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from math import log1p
from typing import Any, NamedTuple

RUNS_SHOWN = 48
STRIP_HEIGHT = 40.0
HOURS_HEIGHT = 71.0
_LEAST = 6.0
KINDS = ("success", "failed", "skipped", "running", "stale", "missed")
_GAPS_AT_MOST = 12  # of one outage; more would push the runs off the strip


class Block(NamedTuple):
    """A run of the strip, or with ``kind`` ``missed`` a slot without one; ``x`` in per cent."""

    x: float
    height: float
    kind: str  # of KINDS
    run: Mapping[str, Any] | None


def strip(runs: Sequence[Mapping[str, Any]], interval_minutes: int) -> list[Block]:
    """The runs (given newest first) from left to right, their height by duration, with a gap for
    each slot of the schedule that no run filled."""
    longest = max((log1p(run["duration_ms"] or 0) for run in runs), default=0.0) or 1.0
    found: list[tuple[float, str, Mapping[str, Any] | None]] = []
    slot: datetime | None = None
    for run in reversed(runs):
        if run["triggered_by"] == "github_actions_schedule" and not run["rerun"]:
            this = datetime.fromisoformat(run["scheduled_for"] or run["started_at"])
            if slot is not None:
                step = timedelta(minutes=interval_minutes)
                missed = min(round((this - slot) / step) - 1, _GAPS_AT_MOST)
                found += [(_LEAST, "missed", None)] * missed
            slot = this
        share = log1p(run["duration_ms"] or 0) / longest
        height = _LEAST + (STRIP_HEIGHT - _LEAST) * share
        found.append((round(height, 1), "stale" if run["stale"] else run["status"], run))
    shown = found[-RUNS_SHOWN:]
    first = RUNS_SHOWN - len(shown)
    return [Block(round(100 * (first + n) / RUNS_SHOWN, 2), *b) for n, b in enumerate(shown)]


class Hour(NamedTuple):
    """Messages that were created in an hour, and what has become of them.

    ``bars`` are what is drawn: kind, top and height; ``x`` in per cent."""

    starts: str
    created: int
    sent: int
    failed: int
    other: int  # waits, was skipped, or is part of a digest
    x: float
    bars: list[tuple[str, float, float]]


def hours(points: Sequence[Mapping[str, Any]]) -> list[Hour]:
    """Health's ``per_hour`` with deliveries and digests added up."""
    names = ("created", "sent", "failed")
    sums = [[p["deliveries"][name] + p["digests"][name] for name in names] for p in points]
    most = max((created for created, _, _ in sums), default=0) or 1
    found = []
    for place, (point, (created, sent, failed)) in enumerate(zip(points, sums, strict=True)):
        other = max(created - sent - failed, 0)
        bars, top = [], HOURS_HEIGHT
        for kind, amount in (("success", sent), ("failed", failed), ("rest", other)):
            height = round((HOURS_HEIGHT - 2) * amount / most, 1)
            top = round(top - height, 1)
            bars += [(kind, top, height)] if height else []
        x = round(100 * place / len(points), 2)
        found.append(Hour(point["starts"], created, sent, failed, other, x, bars))
    return found


FUNNEL = (
    ("events_created", "alerts made"),
    ("deliveries_considered", "users and channels looked at"),
    ("deliveries_created", "deliveries made"),
    ("digests_created", "digests built"),
    ("claimed", "taken to send"),
    ("sent", "sent"),
    ("failed", "failed"),
    ("retried", "to be tried again"),
)


class Step(NamedTuple):
    """A step of the funnel; its width in per cent of the widest."""

    words: str
    amount: int | None
    width: float
    name: str


def funnel(steps: Mapping[str, Any]) -> list[Step]:
    """Health's ``funnel``. Widths go by the square root, so 5 events stay visible beside 100,000
    rows."""
    widest = max((steps[name] or 0 for name, _ in FUNNEL), default=0) or 1
    return [
        Step(words, steps[name], round(100 * ((steps[name] or 0) / widest) ** 0.5, 1), name)
        for name, words in FUNNEL
    ]


class Bar(NamedTuple):
    """A phase's place within its run, in per cent of the run's duration."""

    start: float
    width: float


def phase_bars(run: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> list[Bar]:
    """One for each item, to scale."""
    whole = max(run["duration_ms"] or 0, 1)
    first = datetime.fromisoformat(run["started_at"])
    bars = []
    for item in items:
        after = (datetime.fromisoformat(item["started_at"]) - first) / timedelta(milliseconds=1)
        start = min(max(100 * after / whole, 0.0), 99.0)
        width = min(max(100 * (item["duration_ms"] or 0) / whole, 1.0), 100.0 - start)
        bars.append(Bar(round(start, 1), round(width, 1)))
    return bars
