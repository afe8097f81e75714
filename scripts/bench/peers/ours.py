"""This engine in the contest: fan-out enqueues, phase C does the work."""

from __future__ import annotations

import psycopg2

from alerts.channels.base import Message
from scripts.bench.peers.contest import BATCHED, FIGURES, RECORDED, Outcome
from scripts.bench.place import seconds
from scripts.bench.world import QUEUE, Instant, add_event, run_phase, world

RECORD_BATCH = {BATCHED: 1000, RECORDED: 1}
CHANNELS = 3  # per user: email, Telegram and account
COUNT = """
SELECT count(*) FILTER (WHERE status <> 'sent'), count(*) FILTER (WHERE status = 'sent')
FROM user_alert_deliveries
"""


class Counting(Instant):
    """Returns at once and counts how often each message was sent."""

    def __init__(self) -> None:
        self.keys: list[str] = []  # appending is atomic: the adapter runs on several threads

    def send(self, message: Message) -> str:
        self.keys.append(message.key)
        return super().send(message)


class Ours:
    """Phases B and C as a run calls them, with an adapter that returns at once."""

    name = "this engine"
    version = ""
    lacks = (
        "no queue for arbitrary jobs: alerts only, and it starts by schedule, not by notification."
        " Rendering, the provider's id, history and the counts of health are in the figures"
    )

    @property
    def figures(self) -> tuple[str, ...]:
        return FIGURES

    def enqueue(self, url: str, jobs: int) -> Outcome:
        """One event to a third as many users, on all three channels."""
        users = -(-jobs // CHANNELS)
        add_event(world(url, users))
        return Outcome(seconds(lambda: run_phase(url, "b")), CHANNELS * users)

    def fill(self, url: str, jobs: int) -> None:
        cursor = world(url, jobs)
        cursor.execute(QUEUE, (add_event(cursor),))

    def work_off(self, url: str, figure: str, jobs: int) -> Outcome:
        adapter = Counting()
        environ = {"ALERTS_RECORD_BATCH": str(RECORD_BATCH[figure])}
        took = seconds(lambda: run_phase(url, "c", 1000, {"telegram": adapter}, **environ))
        return Outcome(took, len(adapter.keys), len(set(adapter.keys)))

    def left_and_finished(self, cursor: psycopg2.extensions.cursor) -> tuple[int, int | None]:
        cursor.execute(COUNT)
        left, finished = cursor.fetchone() or (0, 0)
        return left, finished
