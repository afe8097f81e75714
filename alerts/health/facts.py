"""What the reasons follow from, gathered from everything that health has read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from alerts import words
from alerts.channels import provider_named
from alerts.channels.provider import Provider
from alerts.db import Row
from alerts.failures import FailureCode
from alerts.health.around import Around
from alerts.health.counts import Cell
from alerts.health.input import Input
from alerts.health.runs import LockedOut, Runs
from alerts.runs.engine_state import EngineState, true_since
from alerts.words import Clockface

# What a message that is tried again met with its provider; a run that died says nothing of that.
_TRIED = frozenset(set(FailureCode) - {FailureCode.SENDER_LOST})


@dataclass
class Tally:
    """What became of a channel's messages: how many were sent, and by code how many have failed
    for good or wait for another attempt."""

    sent: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    retrying: Counter[str] = field(default_factory=Counter)

    @property
    def bad(self) -> int:
        """Failed at least once and not sent yet."""
        return self.failed.total() + self.retrying.total()


def tallies(cells: Iterable[Cell]) -> dict[str, Tally]:
    """By channel; the cells are those of own messages."""
    found: dict[str, Tally] = {}
    for cell in cells:
        tally = found.setdefault(cell.channel, Tally())
        if cell.status == "sent":
            tally.sent += cell.amount
        elif cell.status == "failed":
            tally.failed[cell.failure_code or ""] += cell.amount
        elif cell.status == "queued" and cell.retried and cell.failure_code in _TRIED:
            tally.retrying[cell.failure_code] += cell.amount
    return found


@dataclass(frozen=True)
class Facts:
    """All that the rules look at. Runs, pauses, claims and channels go by wall time."""

    wall: Clockface
    business: Clockface  # for messages and input
    runs: Runs
    changes: list[EngineState]  # of what the engine runs with, the newest first
    around: Around
    input: Input
    schedule: Mapping[str, Any]  # as health tells it
    channels: Mapping[str, Mapping[str, Any]]  # as health's ``channels`` tells them
    last_hour: Mapping[str, Tally]
    last_day: Mapping[str, Tally]
    came_in: int  # messages that were made in the last hour
    oldest_due: Mapping[str, datetime]  # by channel, business time
    lapsed_claims: int
    not_configured: int
    paused: list[dict[str, Any]]
    counts_stale_since: datetime | None  # a change was not counted; None: all were
    queue_differs: bool  # from what is to be sent by the counts
    locked_out: tuple[tuple[LockedOut, list[Row]], ...] = ()  # with who holds its locks
    records_held_by: tuple[Row, ...] = ()  # who keeps runs from being recorded
    weak_tokens: tuple[str, ...] = ()  # variables

    @property
    def engine(self) -> EngineState:
        """What the engine last ran with."""
        return self.changes[0]

    @property
    def interval(self) -> timedelta:
        """How often a run is meant to start."""
        return timedelta(minutes=self.engine.interval_minutes)

    @property
    def on_github(self) -> bool:
        """Whether the last run was a job of GitHub's."""
        return any(run["triggered_by"].startswith("github") for run in self.runs.recent[:1])

    def place(self, *, secret: bool = False) -> str:
        """Where the engine's variables are set."""
        if not self.on_github:
            return "where the engine runs"
        return f"in the repository's {'secrets' if secret else 'variables'} on GitHub"

    def provider(self, channel: str) -> Provider | None:
        """Through which the channel sends, or last did."""
        for each in self.changes:
            found = provider_named(each.providers.get(channel))
            if found is not None:
                return found
        return None

    def who(self, channel: str) -> str:
        """The provider's name within a sentence."""
        provider = self.provider(channel)
        return provider.title if provider else f"the provider of {words.channel(channel)}"

    def messages_on(self, number: int, channel: str) -> str:
        """``4 messages on email``."""
        return f"{words.count(number, 'message')} on {words.channel(channel)}"

    def newest_success(self) -> datetime | None:
        """When a channel last took a message, by the clock of the run that sent it."""
        times = [channel["last_success_at"] for channel in self.channels.values()]
        return max((datetime.fromisoformat(each) for each in times if each), default=None)

    def since_change(self, holds: Callable[[EngineState], bool]) -> datetime | None:
        """Since when ``holds(state)`` has been true of what the engine runs with."""
        return true_since(self.changes, holds)
