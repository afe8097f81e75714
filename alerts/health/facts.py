"""What the reasons follow from, gathered from everything that health has read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from alerts import db, words
from alerts.channels import provider_named
from alerts.channels.names import SEND_CHANNELS
from alerts.channels.provider import Provider
from alerts.db import Row
from alerts.failures import FailureCode
from alerts.health.around import RECORDS_LOCKED, Around
from alerts.health.counts import Cell
from alerts.health.input import Input
from alerts.health.reading import Reading
from alerts.health.runs import LockedOut, Runs
from alerts.health.windows import DAY, HOUR
from alerts.runs.engine_state import EngineState, true_since
from alerts.settings.config import Settings
from alerts.settings.tokens import weak_tokens
from alerts.words import Clockface, zone_of

# How much newer than any sign of a run a success of a channel must be to prove another run.
UNRECORDED_SECONDS = 60
# What a message that is being retried met at its provider; a run that died says nothing about it.
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
    """By channel, of messages that are sent on their own."""
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
    """Everything the rules look at. Runs, pauses, claims and channels go by wall time."""

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
        """Whether the last run was a GitHub job."""
        return any(run["triggered_by"].startswith("github") for run in self.runs.recent[:1])

    def place(self, *, secret: bool = False) -> str:
        """Where the engine's variables are set."""
        if not self.on_github:
            return "where the engine runs"
        return f"in the repository's {'secrets' if secret else 'variables'} on GitHub"

    def provider(self, channel: str) -> Provider | None:
        """The provider the channel sends through, or last did."""
        for each in self.changes:
            found = provider_named(each.providers.get(channel))
            if found is not None:
                return found
        return None

    def who(self, channel: str) -> str:
        """The provider's name within a sentence."""
        provider = self.provider(channel)
        return (
            provider.title or provider.name
            if provider
            else f"the provider of {words.channel(channel)}"
        )

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

    def unrecorded_since(self) -> datetime | None:
        """When a run was last heard of, where messages have gone out since that none can have
        sent; None where nothing shows that."""
        newest, gone = self.runs.newest_sign(), self.newest_success()
        if newest is None or gone is None:
            return None
        allowed = UNRECORDED_SECONDS + abs(self.runs.clock_skew_seconds or 0)
        return newest if (gone - newest).total_seconds() > allowed else None


def facts_of(
    conn: db.Connection,
    reading: Reading,
    settings: Settings,
    channels: dict[str, dict[str, Any]],
) -> Facts:
    """Everything that the rules look at; ``channels`` as health tells them."""
    runs, not_configured = reading.runs, FailureCode.CHANNEL_NOT_CONFIGURED.value
    day, hour = reading.messages(DAY), reading.messages(HOUR)
    off = {name for name, row in reading.states.items() if row["switched_off"]}  # deliberately
    zone = zone_of(reading.engine.timezone, settings.timezone)
    facts = Facts(
        wall=Clockface(runs.now, zone),
        business=Clockface(reading.now, zone),
        runs=runs,
        changes=reading.changes,
        around=reading.around,
        input=reading.input,
        schedule=reading.schedule,
        channels=channels,
        last_hour=tallies(hour),
        last_day=tallies(day),
        came_in=sum(c.amount for c in hour if c.channel in SEND_CHANNELS),
        oldest_due=_oldest_due(reading),
        lapsed_claims=sum(row["lapsed_claims"] for row in reading.queue.values()),
        not_configured=sum(
            c.amount for c in day if c.failure_code == not_configured and c.channel not in off
        ),
        paused=reading.paused,
        counts_stale_since=reading.counts_stale_since,
        queue_differs=reading.queue_differs,
        locked_out=tuple(
            (each, reading.lock_holders[each.phase.letter])
            for each in runs.locked_out()
            if each.phase.letter in reading.lock_holders
        ),
        weak_tokens=tuple(weak_tokens(settings)),
    )
    if facts.unrecorded_since() is not None:
        holders = db.fetch_all(conn, RECORDS_LOCKED)
        return replace(facts, records_held_by=tuple(holders))
    return facts


def _oldest_due(reading: Reading) -> dict[str, datetime]:
    """Since when the oldest due message of each channel that has one waits."""
    found = {}
    for name, row in reading.queue.items():
        due = [each for each in (row["delivery"], row["digest"]) if each is not None]
        if due:
            found[name] = min(due)
    return found
