"""The other queues: how each runs, where it stores its jobs, and what it does not do."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psycopg2

from scripts.bench.peers import install
from scripts.bench.peers.contest import BATCHED, ENQUEUE, RECORDED, Outcome

LONGEST_SECONDS = 3600


class Failed(Exception):
    """A peer's program ended with an error."""


@dataclass
class Peer:
    """A queue with its own program, which takes a step and a number of jobs.

    ``installed`` returns the program's interpreter and folder, installing them if necessary.
    ``steps`` names the program's step for each figure. ``count`` selects the number of unfinished
    and finished jobs, with NULL if finished jobs are deleted.
    """

    name: str
    installed: Callable[[], tuple[Path, Path]]
    program: str
    steps: dict[str, str]
    count: str
    lacks: str
    version: str = field(default="", init=False)

    @property
    def figures(self) -> tuple[str, ...]:
        return tuple(self.steps)

    def enqueue(self, url: str, jobs: int) -> Outcome:
        return Outcome(self._run(url, "enqueue", jobs).seconds, jobs)

    def fill(self, url: str, jobs: int) -> None:
        self.enqueue(url, jobs)

    def work_off(self, url: str, figure: str, jobs: int) -> Outcome:
        return self._run(url, self.steps[figure], jobs)

    def left_and_finished(self, cursor: psycopg2.extensions.cursor) -> tuple[int, int | None]:
        cursor.execute(self.count)
        left, finished = cursor.fetchone() or (0, 0)
        return left, finished

    def _run(self, url: str, step: str, jobs: int) -> Outcome:
        interpreter, folder = self.installed()
        done = subprocess.run(
            (str(interpreter), str(folder / self.program), step, str(jobs)),
            check=False,
            env={"PATH": os.environ["PATH"], "DATABASE_URL": url},
            capture_output=True,
            text=True,
            timeout=LONGEST_SECONDS,
        )
        if done.returncode:
            raise Failed(f"{self.name}, {step}: exit {done.returncode}\n{done.stderr[-2000:]}")
        told = json.loads(done.stdout)
        self.version = told["version"]
        return Outcome(told["seconds"], told.get("ran", 0), told.get("distinct", 0))


GRAPHILE_COUNT = "SELECT count(*), NULL FROM graphile_worker._private_jobs"
PG_BOSS_COUNT = """
SELECT count(*) FILTER (WHERE state <> 'completed'), count(*) FILTER (WHERE state = 'completed')
FROM pgboss.job WHERE name = 'noop'
"""
# The log has one row for each change of a job and keeps those of finished jobs.
PGQUEUER_COUNT = """
SELECT (SELECT count(*) FROM pgqueuer),
    (SELECT count(*) FROM pgqueuer_log WHERE status = 'successful')
"""
PROCRASTINATE_COUNT = """
SELECT count(*) FILTER (WHERE status <> 'succeeded'),
    count(*) FILTER (WHERE status = 'succeeded')
FROM procrastinate_jobs
"""

GRAPHILE_LACKS = (
    "deletes finished jobs: no history, no provider's id, no counts; no pace for each channel;"
    " does not wait until a job is released before the next starts, so a kill leaves any number"
    " in doubt, locked for four hours"
)
PGQUEUER_LACKS = (
    "logs that a job ended, without a provider's id; no pace for each channel; counts are folded"
    " together every 30 s or when asked for"
)

PEERS = {
    "graphile": Peer(
        "graphile-worker",
        install.node,
        "use_graphile.mjs",
        {ENQUEUE: "enqueue", BATCHED: "batched", RECORDED: "recorded"},
        GRAPHILE_COUNT,
        GRAPHILE_LACKS,
    ),
    "graphile-plain": Peer(
        "graphile-worker, no local queue",
        install.node,
        "use_graphile.mjs",
        {BATCHED: "plain", RECORDED: "recorded-plain"},
        GRAPHILE_COUNT,
        "the same; jobs are fetched and released one at a time, 24 or 8 at once",
    ),
    "pg-boss": Peer(
        "pg-boss",
        install.node,
        "use_pg_boss.mjs",
        {ENQUEUE: "enqueue", BATCHED: "batched", RECORDED: "recorded"},
        PG_BOSS_COUNT,
        "a batch succeeds or fails as a whole unless the job tells them apart; no provider's id"
        " unless it returns one; no pace for each channel; counts of queues come from a cache",
    ),
    "pgqueuer": Peer(
        "PgQueuer",
        install.python,
        "use_pgqueuer.py",
        {ENQUEUE: "enqueue", BATCHED: "batched", RECORDED: "recorded"},
        PGQUEUER_COUNT,
        PGQUEUER_LACKS,
    ),
    "pgqueuer-single": Peer(
        "PgQueuer, batch_size 1",
        install.python,
        "use_pgqueuer.py",
        {RECORDED: "recorded-single"},
        PGQUEUER_COUNT,
        "the same",
    ),
    "procrastinate": Peer(
        "Procrastinate",
        install.python,
        "use_procrastinate.py",
        {ENQUEUE: "enqueue", RECORDED: "recorded"},
        PROCRASTINATE_COUNT,
        "neither fetches nor finishes in batches; no provider's id, no pace for each channel, no"
        " kept counts",
    ),
}
