"""The overhead of a run: its round trips to a database 100 ms away, and its recording."""

from __future__ import annotations

import statistics
import time
from typing import Any
from unittest.mock import patch

from alerts import engine
from alerts.engine_observability import HEARTBEAT_SECONDS, open_connection
from scripts.bench.place import connect, database, seconds
from scripts.bench.world import ROUNDS, Instant, Row, add_event, run_phase, world
from tests.support.pg_proxy import PgProxy

ROUND_TRIP_SECONDS = 0.1
MOST_ROUND_TRIPS, MOST_CONNECTIONS = 27, 3
# Limits for recording: statements besides a long run's heartbeats, and 1 % of a ten-second run.
MOST_STATEMENTS, MOST_SECONDS = 6, 0.1


def idle(size: float) -> Row:
    """Seconds, round trips and connections of all phases with nothing to do; sizes differ only in
    ``2000 x size`` users without work."""
    users = max(1, round(2_000 * size))
    with database() as url:
        cursor = connect(url)
        cursor.execute(
            "INSERT INTO users (email) SELECT n || '@example.com' FROM generate_series(1, %s) AS n",
            (users,),
        )
        with PgProxy(url, delay_seconds=ROUND_TRIP_SECONDS) as proxy:
            took = seconds(lambda: run_phase(proxy.url, "all"))
            trips = sum(wire.round_trips for wire in proxy.wires)
            connections = len(proxy.wires)
            probe = connect(proxy.url)
            one = seconds(lambda: probe.execute("SELECT 1"))
    return {
        "benchmark": "idle run, 100 ms away", "size": users, "value": took,
        "reference_value": trips * one,
        "figure": f"{took:.1f} s, {trips} round trips, {connections} connections",
        "reference": f"SELECT 1 {one * 1e3:.0f} ms",
        "target": f"at most {MOST_ROUND_TRIPS} round trips, {MOST_CONNECTIONS} connections",
        "met": trips <= MOST_ROUND_TRIPS and connections <= MOST_CONNECTIONS,
    }  # fmt: skip


class _NoRecorder:
    """Replaces the recorder to measure a run without one."""

    def __init__(self, *_: object) -> None: ...

    def submit(self, _: object) -> None: ...

    def close(self, *_: object) -> bool:
        return True


class _TimedRecorder(engine.RunRecorder):
    """The recorder, measuring how long it keeps the run's own thread busy."""

    spent = 0.0

    def submit(self, record: Any) -> None:
        started = time.perf_counter()
        super().submit(record)
        type(self).spent += time.perf_counter() - started

    def close(self, record: Any, *rest: Any) -> bool:
        before, started = self.spent, time.perf_counter()
        recorded = super().close(record, *rest)
        type(self).spent = before + time.perf_counter() - started
        return recorded


def recording(size: float) -> Row:
    """Statements for recording a run of all phases and how long the run waits for it, compared with
    a run without recording: an event to ``2000 x size`` users on two channels."""
    users = max(1, round(2_000 * size))
    took: dict[str, list[float]] = {"with": [], "without": []}
    waited = []
    with database() as url, PgProxy(url) as proxy:
        work = world(url, users)
        for _ in range(ROUNDS):
            for kind, recorder in (("without", _NoRecorder), ("with", _TimedRecorder)):
                work.execute("TRUNCATE user_alert_deliveries CASCADE")
                work.execute("UPDATE alert_events SET fanout_completed_at = now()")
                add_event(work)
                _TimedRecorder.spent = 0.0
                channels = {"email": Instant(), "telegram": Instant()}
                with (
                    patch.object(engine, "RunRecorder", recorder),
                    # Only the recorder's connection goes through the proxy.
                    patch.object(engine, "open_connection", lambda _: open_connection(proxy.url)),
                ):
                    took[kind].append(seconds(lambda c=channels: run_phase(url, "all", None, c)))
            waited.append(_TimedRecorder.spent)
    statements = max(len(wire.statements) for wire in proxy.wires)
    wait, bare = statistics.median(waited), statistics.median(took["without"])
    beats = int(max(took["with"]) // HEARTBEAT_SECONDS)
    return {
        "benchmark": "recording a run", "size": users, "value": wait, "reference_value": bare,
        "figure": f"{statements} statements, {wait * 1e3:.0f} ms of a run of "
        f"{statistics.median(took['with']):.2f} s", "reference": f"without {bare:.2f} s",
        "target": f"at most {MOST_STATEMENTS} statements, one more each "
        f"{HEARTBEAT_SECONDS:.0f} s, {MOST_SECONDS * 1e3:.0f} ms",
        "met": statements <= MOST_STATEMENTS + beats and wait <= MOST_SECONDS,
    }  # fmt: skip
