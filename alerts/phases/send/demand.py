"""What to claim next: from which channels and queues, and how much."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

from alerts.channels.names import DIGEST_CHANNELS
from alerts.phases.context import PhaseContext
from alerts.phases.send.claimer import Found, Wanted
from alerts.phases.send.claims import DIGESTS, QUEUES
from alerts.phases.send.dispatch import Dispatcher
from alerts.phases.send.gates import Gates
from alerts.phases.send.pacing import Pace
from alerts.phases.send.shares import Part, Shares

RECLAIM_SECONDS = 5.0  # how often a long run looks at what had nothing due


class Demand:
    """The channels that are open and may have rows due, with each one's pace and share."""

    def __init__(
        self, context: PhaseContext, gates: Gates, dispatcher: Dispatcher, largest_claim: int
    ) -> None:
        self._batch_size = context.batch_size
        self._gates = gates
        self._dispatcher = dispatcher
        self._largest_claim = largest_claim
        workers = context.settings.send_workers
        self.paces = {name: Pace(2 * workers, largest_claim) for name in gates.usable}
        self.shares = Shares(context.settings.max_send_per_run)
        self._empty: dict[Part, float] = {}  # nothing was due, seen when

    def parts_of(self, channels: Iterable[str]) -> list[Part]:
        """Queues of the channels that may have rows due."""
        parts = [
            (queue.name, name)
            for name in channels
            for queue in QUEUES
            if queue is not DIGESTS or name in DIGEST_CHANNELS
        ]
        return [part for part in parts if self._may_have_due(part)]

    def look_again(self, channel: str) -> None:
        """The channel has rows due that were not there when it was last looked at."""
        for queue in QUEUES:
            self._empty.pop((queue.name, channel), None)

    def nothing_due(self, parts: Iterable[Part]) -> None:
        """Nothing is due there, or nobody may have it now."""
        self._empty |= dict.fromkeys(parts, time.monotonic())

    def note(self, found: Found) -> None:
        """Learn from a claim which parts are empty."""
        for part in found.full:
            self._empty.pop(part, None)
        self.nothing_due(found.empty)

    def wanted(self) -> Wanted | None:
        """How many rows to claim of each channel and queue that may have some due."""
        gates, shares = self._gates, self.shares
        skipping = self.parts_of(gates.unconfigured)
        due = self.parts_of(name for name in gates.usable if gates.is_open(name))
        parts = dict.fromkeys(skipping, self._batch_size)
        parts |= {part: shares.left(*part, due) for part in due}
        rooms = {name: self._batch_size for _, name in skipping}
        for _, name in due:
            room = self.paces[name].room(self._dispatcher.waiting(name))
            rooms[name] = min(room, max(parts.get((queue.name, name), 0) for queue in QUEUES))
        rooms = {name: room for name, room in rooms.items() if room > 0}
        if not rooms or shares.cap_left <= 0:
            return None
        for name in rooms:  # what is known to be empty is not asked
            for queue in QUEUES:
                parts.setdefault((queue.name, name), 0)
        limit = min(self._largest_claim, shares.cap_left)
        return Wanted(rooms, limit, gates.unconfigured, gates.exempt, QUEUES, parts)

    @property
    def all_claimed(self) -> bool:
        """Whether no more is to be claimed, as far as is known."""
        open_ones = [name for name in self._gates.usable if self._gates.is_open(name)]
        return self.shares.cap_left <= 0 or not self.parts_of(open_ones)

    def _may_have_due(self, part: Part) -> bool:
        again = RECLAIM_SECONDS if not self._dispatcher.idle else math.inf
        return time.monotonic() - self._empty.get(part, -again) >= again
