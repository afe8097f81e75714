"""What a run costs besides its work: its round trips to a database 100 ms away, its recording."""

from __future__ import annotations

import select
import socket
import statistics
import threading
import time
from contextlib import suppress
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit, urlunsplit

from place import connect, database, seconds
from psycopg2.extensions import connection, cursor, parse_dsn
from world import ROUNDS, Instant, Row, add_event, run_phase, world

from alerts import db, engine
from alerts.engine_observability import HEARTBEAT_SECONDS

ROUND_TRIP_SECONDS = 0.1
MOST_ROUND_TRIPS, MOST_CONNECTIONS = 25, 3
# Of recording: besides the heartbeats of a long run; a hundredth of a run of ten seconds.
MOST_STATEMENTS, MOST_SECONDS = 6, 0.1


class DistantDatabase:
    """A proxy in front of PostgreSQL that makes each round trip take longer, and counts them."""

    def __init__(self, url: str) -> None:
        dsn = parse_dsn(url)
        self._target = (dsn.get("host", "localhost"), int(dsn.get("port", 5432)))
        self._listener = socket.create_server(("127.0.0.1", 0))
        login = urlsplit(url).netloc.rpartition("@")[0]
        address = f"{login}@127.0.0.1:{self._listener.getsockname()[1]}"
        options = "sslmode=disable&gssencmode=disable"  # no round trips but PostgreSQL's own
        self.url = urlunsplit(urlsplit(url)._replace(netloc=address, query=options))
        self.connections = self.round_trips = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        host, port = self._target
        family = socket.AF_UNIX if host.startswith("/") else socket.AF_INET
        asked = False
        with client, socket.socket(family) as server, suppress(OSError):
            server.connect(f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port))
            while True:
                for source in select.select([client, server], [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    if source is client and not asked and data[:1] != b"X":  # goodbye is not asked
                        time.sleep(ROUND_TRIP_SECONDS)
                        self.round_trips += 1
                    asked = source is client
                    (server if source is client else client).sendall(data)


def idle(size: float) -> Row:
    """Seconds, round trips and connections of all phases with nothing to do; the same for each
    size but for ``2000 x size`` users who wait for nothing."""
    users = max(1, round(2_000 * size))
    with database() as url:
        cursor = connect(url)
        cursor.execute(
            "INSERT INTO users (email) SELECT n || '@example.com' FROM generate_series(1, %s) AS n",
            (users,),
        )
        proxy = DistantDatabase(url)
        took = seconds(lambda: run_phase(proxy.url, "all"))
        trips, connections = proxy.round_trips, proxy.connections
        probe = connect(proxy.url)
        one = seconds(lambda: probe.execute("SELECT 1"))
        proxy.close()
    return {
        "benchmark": "idle run, 100 ms away", "size": users, "value": took,
        "reference_value": trips * one,
        "figure": f"{took:.1f} s, {trips} round trips, {connections} connections",
        "reference": f"SELECT 1 {one * 1e3:.0f} ms",
        "target": f"at most {MOST_ROUND_TRIPS} round trips, {MOST_CONNECTIONS} connections",
        "met": trips <= MOST_ROUND_TRIPS and connections <= MOST_CONNECTIONS,
    }  # fmt: skip


class _NoRecorder:
    """In the place of the recorder where there is to be none."""

    def __init__(self, *_: object) -> None: ...

    def submit(self, _: object) -> None: ...

    def close(self, *_: object) -> bool:
        return True


class _TimedRecorder(engine.RunRecorder):
    """The recorder, and how long the run's own thread was with it."""

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
    """Statements of recording a run of all phases, and how long the run waits for it, beside the
    run without: an event to ``2000 x size`` users on two channels."""
    users = max(1, round(2_000 * size))
    took: dict[str, list[float]] = {"with": [], "without": []}
    waited, statements = [], 0
    counted: list[str] = []

    class Counting(cursor):
        def execute(self, query: Any, parameters: Any = None) -> None:
            counted.append("statement")
            super().execute(query, parameters)

    def opened(url: str) -> connection:
        counted.append("settings")  # of the session: a statement as well
        conn = db.open_session(url, application_name="alerts-recorder")
        conn.cursor_factory = Counting
        return conn

    with database() as url:
        work = world(url, users)
        for _ in range(ROUNDS):
            for kind, recorder in (("without", _NoRecorder), ("with", _TimedRecorder)):
                work.execute("TRUNCATE user_alert_deliveries CASCADE")
                work.execute("UPDATE alert_events SET fanout_completed_at = now()")
                add_event(work)
                counted.clear()
                _TimedRecorder.spent = 0.0
                channels = {"email": Instant(), "telegram": Instant()}
                with (
                    patch.object(engine, "RunRecorder", recorder),
                    patch.object(engine, "open_connection", opened),
                ):
                    took[kind].append(seconds(lambda c=channels: run_phase(url, "all", None, c)))
            waited.append(_TimedRecorder.spent)
            statements = max(statements, len(counted))
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
