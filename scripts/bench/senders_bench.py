"""Several senders at once, as processes, through a provider that takes 200 ms."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from scripts.bench.place import database
from scripts.bench.provider_bench import SLOW_SECONDS, SLOW_WORKERS, Slow
from scripts.bench.world import QUEUE, Row, add_event, compared, run_phase, world

RUN_SECONDS = 2.0  # of work for each, at size 1


def senders(size: float, hosts: int) -> Row:
    """Messages per second of a whole phase C on so many hosts, from the first one's start to the
    last one's end, compared with as many times 160/s."""
    possible = hosts * SLOW_WORKERS / SLOW_SECONDS
    rows = max(1, round(possible * RUN_SECONDS * min(size, 10)))
    with database() as url:
        cursor = world(url, rows)
        cursor.execute(QUEUE, (add_event(cursor),))
        # Forked, for they need nothing new and shall begin together.
        with ProcessPoolExecutor(hosts, get_context("fork")) as pool:
            together = time.monotonic() + 0.1
            begun = [pool.submit(_send, url, hosts, together) for _ in range(hosts)]
            times = [each.result() for each in begun]
        cursor.execute(
            "SELECT count(*) FROM user_alert_deliveries WHERE status = 'sent' AND attempts = 1"
        )
        (sent,) = cursor.fetchone() or (0,)
    if sent != rows:
        sys.exit(f"{sent} of {rows} were sent at the first attempt")
    took = max(ended for _, ended in times) - min(started for started, _ in times)
    rates = {"subject": [rows / took], "reference": [possible]}
    return compared(f"senders: {hosts}", rows, rates, "arithmetic", "at least 90 %", 0.9)


def _send(url: str, hosts: int, together: float) -> tuple[float, float]:
    """One host's run: when it began and ended, by the machine's own clock."""
    time.sleep(max(0.0, together - time.monotonic()))
    started = time.monotonic()
    environ = {"ALERTS_SENDERS": str(hosts), "ALERTS_SEND_WORKERS": str(SLOW_WORKERS)}
    run_phase(url, "c", None, {"telegram": Slow()}, **environ)
    return started, time.monotonic()
