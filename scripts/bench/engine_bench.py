"""A run with nothing to do, on a database that is 100 ms away."""

from __future__ import annotations

import select
import socket
import threading
import time
from contextlib import suppress
from urllib.parse import urlsplit, urlunsplit

from place import connect, database, seconds
from psycopg2.extensions import parse_dsn
from world import Row, run_phase

ROUND_TRIP_SECONDS = 0.1
MOST_ROUND_TRIPS, MOST_CONNECTIONS = 25, 3


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
