"""From the risk data to the messages: what users feel of the engine and of its schedule."""

from __future__ import annotations

import time

from alerts.channels.base import Message
from scripts.bench.place import database
from scripts.bench.world import ROUNDS, Row, run_phase, world

EVERY_SECONDS, CRON_SECONDS = 30, 600
MOST_SECONDS, MOST_OWN_SECONDS = 35.0, 1.0
RISK = """
INSERT INTO events (title, source_name, source_url, category, region, severity_score, event_time,
    inserted_at)
VALUES ('Benchmark', 'bench', gen_random_uuid()::text, 'energy', 'Europe', 5, now(),
    clock_timestamp())
"""


class Noting:
    """An adapter that returns at once and notes when."""

    name = "noting"

    def __init__(self) -> None:
        self.times: list[float] = []

    def send(self, message: Message) -> str:
        self.times.append(time.perf_counter())
        return message.key

    def close(self) -> None:
        pass


def risk_to_phone(size: float) -> Row:
    """Seconds from an event's row to ``100 x size`` users' messages on two channels (at most 1,000
    users) where a run begins at once, and with what the wait for the next run adds to it."""
    users = max(1, round(100 * min(size, 10)))
    own: list[float] = []
    with database() as url:
        cursor = world(url, users)
        for _ in range(ROUNDS):  # as many instant alerts as the plan has a day
            phones = {"email": Noting(), "telegram": Noting()}
            started = time.perf_counter()
            cursor.execute(RISK)
            run_phase(url, "all", None, phones)
            own += [at - started for phone in phones.values() for at in phone.times]
    p95, every, cron = (_with_waits(own, wait) for wait in (0, EVERY_SECONDS, CRON_SECONDS))
    return {
        "benchmark": "from risk row to message", "size": len(own) // ROUNDS,
        "value": every, "reference_value": EVERY_SECONDS,
        "figure": f"p95 {p95:.2f} s of our own, {every:.1f} s with a run every {EVERY_SECONDS} s",
        "reference": f"{cron / 60:.1f} min with one every {CRON_SECONDS // 60} min",
        "target": f"p95 at most {MOST_SECONDS:.0f} s, {MOST_OWN_SECONDS:.0f} s of our own",
        "met": every <= MOST_SECONDS and p95 <= MOST_OWN_SECONDS,
    }  # fmt: skip


def _with_waits(own: list[float], interval: int) -> float:
    """The 95th percentile where risk rows come at any time between two runs."""
    places = [(n + 0.5) / 100 * interval for n in range(100)]
    total = sorted(wait + took for took in own for wait in places)
    return total[-(-95 * len(total) // 100) - 1]
