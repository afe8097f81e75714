"""PgQueuer: python use_pgqueuer.py enqueue|batched|recorded|recorded-single JOBS"""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import asyncpg
import uvloop
from job import STEP, URL, Tally, report, slices
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode

# Managers, each on its own connection, and their batch_size: the jobs that are dequeued together
# and, if they end together, logged together. Two of 250 were the fastest of several settings; the
# project's own benchmark uses five of 10. A manager keeps dequeuing while it logs, so a kill leaves
# about one batch in doubt; in "recorded-single", about one job per manager.
MANAGERS = {"batched": (2, 250), "recorded": (1, 8), "recorded-single": (8, 1)}


async def enqueue() -> None:
    queries = Queries(AsyncpgDriver(await asyncpg.connect(URL)))
    await queries.install()
    await queries.optimize_autovacuum()
    started = time.perf_counter()
    for numbers in slices():
        payloads = [str(number).encode() for number in numbers]
        await queries.enqueue(["noop"] * len(payloads), payloads, [0] * len(payloads))
    report("pgqueuer", time.perf_counter() - started)


async def work_off() -> None:
    tally = Tally()

    async def noop(job: Job) -> None:
        tally.ran(int(job.payload or b""))

    count, batch_size = MANAGERS[STEP]
    started = time.perf_counter()
    managers = [PgQueuer(AsyncpgDriver(await asyncpg.connect(URL))) for _ in range(count)]
    for manager in managers:
        manager.entrypoint("noop")(noop)
    # At the end of a queue, a manager waits this long for new jobs before it checks and stops.
    wait = timedelta(milliseconds=20)
    drain = QueueExecutionMode.drain
    await asyncio.gather(*(m.run(wait, batch_size=batch_size, mode=drain) for m in managers))
    report("pgqueuer", time.perf_counter() - started, tally)


uvloop.run(enqueue() if STEP == "enqueue" else work_off())
