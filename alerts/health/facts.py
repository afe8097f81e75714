"""What the reasons follow from, gathered from everything that health has read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from alerts.db import Row
from alerts.health.runs import LockedOut, Runs
from alerts.words import Clockface


@dataclass(frozen=True)
class Facts:
    """All that the rules look at. Minutes are since; None: never."""

    wall: Clockface  # for runs, pauses, claims and channels
    business: Clockface  # for messages and input
    expected_minutes: int
    runs: Runs
    channels: Mapping[str, Mapping[str, Any]]  # as health's ``channels`` tells them
    deliveries_24h: Mapping[str, Mapping[str, int]]
    oldest_due: Mapping[str, datetime]  # by channel, business time
    lapsed_claims: int
    not_configured: int
    paused: list[dict[str, Any]]
    counts_stale_since: datetime | None  # a change was not counted; None: all were
    queue_differs: bool  # from what is to be sent by the counts
    enabled: bool = True
    misconfigured: Mapping[str, list[str]] = field(default_factory=dict)  # channel: variables
    locked_out: tuple[tuple[LockedOut, list[Row]], ...] = ()  # with who holds its locks
    weak_tokens: tuple[str, ...] = ()  # variables

    @property
    def interval(self) -> timedelta:
        """How often a run is meant to start."""
        return timedelta(minutes=self.expected_minutes)

    @property
    def engine_pause(self) -> dict[str, Any] | None:
        """The pause of the whole engine, if there is one."""
        return next((each for each in self.paused if each["channel"] is None), None)
