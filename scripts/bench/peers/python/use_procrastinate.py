"""Procrastinate: python use_procrastinate.py enqueue|recorded JOBS"""

from __future__ import annotations

import asyncio
import time

from job import STEP, URL, Tally, report, slices
from procrastinate import App, PsycopgConnector

app = App(connector=PsycopgConnector(conninfo=URL, max_size=10))
tally = Tally()


@app.task(name="noop")
async def noop(n: int) -> None:
    tally.ran(n)


async def enqueue() -> None:
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        started = time.perf_counter()
        for numbers in slices():
            await noop.batch_defer_async(*({"n": number} for number in numbers))
        report("procrastinate", time.perf_counter() - started)


async def work_off() -> None:
    async with app.open_async():
        started = time.perf_counter()
        await app.run_worker_async(concurrency=8, wait=False, install_signal_handlers=False)
        report("procrastinate", time.perf_counter() - started, tally)


asyncio.run(enqueue() if STEP == "enqueue" else work_off())
