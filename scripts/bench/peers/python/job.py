"""Shared by both programs: arguments, counting each job's runs, and the report."""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import version

URL = os.environ["DATABASE_URL"]
STEP, JOBS = sys.argv[1], int(sys.argv[2])
BATCH = 1000


class Tally:
    """Counts how often each job ran."""

    def __init__(self) -> None:
        self._runs = [0] * JOBS

    def ran(self, number: int) -> None:
        self._runs[number] += 1

    def counts(self) -> dict[str, int]:
        return {"ran": sum(self._runs), "distinct": sum(runs > 0 for runs in self._runs)}


def slices() -> list[range]:
    """Job numbers in the order they are enqueued."""
    return [range(start, min(start + BATCH, JOBS)) for start in range(0, JOBS, BATCH)]


def report(name: str, seconds: float, tally: Tally | None = None) -> None:
    """One line of JSON for the runner."""
    counts = tally.counts() if tally else {}
    print(json.dumps({"version": version(name), "seconds": seconds, **counts}))
