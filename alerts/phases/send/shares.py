"""How a run's cap is shared among channels: arithmetic only, no clock and no database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

DIGESTS_SHARE = 5  # a fifth is kept for digests that are due

Part = tuple[str, str]  # queue and channel


class Shares:
    """What each channel may still claim of ``cap`` rows.

    Channels that have rows due get the same; what one of them does not need is the others'. Of a
    channel's part a fifth is kept for its digests, as long as some may be due. So fifty thousand
    old mails starve neither SMS nor digests.
    """

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self.used: Counter[Part] = Counter()

    def left(self, queue: str, channel: str, due: Collection[Part]) -> int:
        """Rows that the channel may claim from the queue while ``due`` may have some."""
        wanting = {name for _, name in due}
        if channel not in wanting:
            return 0
        mine = Counter[str]()
        for (_, name), rows in self.used.items():
            mine[name] += rows
        others = sum(rows for name, rows in mine.items() if name not in wanting)
        part, over = divmod(max(0, self.cap - others), len(wanting))
        taken = sum(mine[name] > part for name in wanting)
        left = part - mine[channel] + (mine[channel] > part or taken < over)
        if queue == "deliveries" and ("digests", channel) in due:
            left -= max(0, part // DIGESTS_SHARE - self.used["digests", channel])
        return max(0, min(left, self.cap_left))

    @property
    def cap_left(self) -> int:
        """Rows that the run may still claim."""
        return self.cap - self.used.total()

    def use(self, queue: str, channel: str, rows: int) -> None:
        """Note that so many were claimed; a negative number was given back untried."""
        self.used[queue, channel] += rows
