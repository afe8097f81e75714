"""When the owner is told of what runs found at their end: pure, from the history to a decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile

OK = "ok"
# No second notice with the same code within SAME_CODE; no second attempt within UNDER_WAY.
SAME_CODE = timedelta(hours=1)
UNDER_WAY = timedelta(minutes=1)


@dataclass(frozen=True)
class Found:
    """What a run found at its end: the status, and the code of the main cause (None where ok)."""

    status: str
    code: str | None


@dataclass(frozen=True)
class Seen:
    """A change of what runs found, by the run that saw it first; ``told_at`` None: not told."""

    found: Found
    run_id: str
    tried_at: datetime | None = None
    told_at: datetime | None = None


@dataclass(frozen=True)
class Decision:
    """``changed``: what was found is another row of the history. ``tell``: the owner is told."""

    changed: bool
    tell: bool


def decide(history: Sequence[Seen], found: Found, run_id: str, now: datetime) -> Decision:
    """Whether the owner is told of what the run found; ``history`` has the newest first.

    Trouble is told once a second run has found it, and once: each status, and while it stays the
    same each main cause. That all is well again is told at once. What may not be told yet (the
    same code within the hour, another run about to tell it) or could not be is due with the next
    run that still finds it.
    """
    newest = history[0] if history else None
    changed = newest is None or newest.found != found
    due = _recovered(history) if found.status == OK else _confirmed(history, found, run_id)
    busy = not changed and newest is not None and _within(newest.tried_at, UNDER_WAY, now)
    return Decision(changed, due and not busy and not _told_lately(history, found, now))


def _recovered(history: Sequence[Seen]) -> bool:
    """Whether the last thing the owner heard was trouble."""
    return _last_told(history).status != OK


def _confirmed(history: Sequence[Seen], found: Found, run_id: str) -> bool:
    """Whether this is trouble that the owner has not heard of, and not the first run to find it."""
    if not history or history[0].run_id == run_id:
        return False
    before = history[0].found
    if found.status != _last_told(history).status:
        return before.status == found.status
    spell = takewhile(lambda seen: not (seen.told_at and seen.found.status == OK), history)
    told = {seen.found.code for seen in spell if seen.told_at}
    return before == found and found.code not in told


def _last_told(history: Sequence[Seen]) -> Found:
    return next((seen.found for seen in history if seen.told_at), Found(OK, None))


def _told_lately(history: Sequence[Seen], found: Found, now: datetime) -> bool:
    return any(
        _within(seen.told_at, SAME_CODE, now) for seen in history if seen.found.code == found.code
    )


def _within(moment: datetime | None, span: timedelta, now: datetime) -> bool:
    return moment is not None and now - moment < span
