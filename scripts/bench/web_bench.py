"""The endpoints over HTTP, under gunicorn."""

from __future__ import annotations

import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg2
import urllib3

from app.ops.session import COOKIE, new_value
from app.tokens import Holder
from scripts.bench.place import ROOT, connect, database, free_port, seconds
from scripts.bench.world import USERS, Row, add_event, backlog, rows_scanned

TOKEN = "benchmark"  # noqa: S105
SESSION = f"{COOKIE}={new_value(Holder(TOKEN.encode(), may_write=True))}"
REQUESTS = 300
CLIENTS = 4


API = "/internal/alerts/engine"
# What is asked on top of the history, and how many milliseconds its p95 may take (None: no target).
READINGS: tuple[tuple[str, str, float | None], ...] = (
    ("GET /health", f"{API}/health", 10),
    ("GET /ops", "/ops", 15),
    ("GET /deliveries", f"{API}/deliveries?limit=50", None),
    ("GET /deliveries, of a user", f"{API}/deliveries?limit=50&user_id=77", None),
    ("GET /explain", f"{API}/explain?event_id={{event}}&user_id=77", None),
)
# Health looks at so many rows of the queue, however long it is.
MOST_SCANNED = 1_000


def readings(size: float) -> list[Row]:
    """Milliseconds over HTTP at ``100,000 x size`` deliveries of 30 days, of which one in 26
    waits."""
    rows = max(1, round(100_000 * size))
    users = max(100, round(min(1.0, size) * 50_000))
    with database() as url:
        cursor = connect(url)
        cursor.execute(USERS, (users,))
        history(cursor, rows, users)
        backlog(cursor, rows // 26)
        event = add_event(cursor)
        cursor.execute("VACUUM ANALYZE")
        grouped = seconds(
            lambda: cursor.execute(
                "SELECT channel, status, count(*) FROM user_alert_deliveries"
                " WHERE created_at > now() - interval '24 hours' GROUP BY 1, 2"
            )
        )
        before = rows_scanned(cursor)
        requests = REQUESTS if size >= 1 else REQUESTS // 10
        with _served(url) as site:
            times = [_times(site + path.format(event=event), requests) for _, path, _ in READINGS]
        scanned = (rows_scanned(cursor) - before) // (requests * len(READINGS))
    return [
        _reading(rows, *asked, each, scanned, grouped)
        for asked, each in zip(READINGS, times, strict=True)
    ]


def _reading(
    rows: int, name: str, _: str, at_most: float | None, times: list[float], scanned: int,
    grouped: float,
) -> Row:  # fmt: skip
    p95 = times[int(len(times) * 0.95)]
    target = "no scans" if at_most is None else f"p95 at most {at_most:g} ms, no scans"
    return {
        "benchmark": name, "size": rows, "value": p95, "reference_value": grouped * 1e3,
        "figure": f"p95 {p95:.1f} ms, p50 {statistics.median(times):.1f} ms, "
        f"{scanned:,} rows scanned on average", "reference": f"GROUP BY {grouped * 1e3:.0f} ms",
        "target": target,
        "met": scanned <= MOST_SCANNED and (at_most is None or p95 <= at_most),
    }  # fmt: skip


def runs(size: float) -> Row:
    """GET /runs?limit=50 over ``10,000 x size`` runs: milliseconds, and requests per second with
    four clients, compared with GET /healthz."""
    rows = max(1, round(10_000 * size))
    with database() as url:
        cursor = connect(url)
        cursor.execute(
            """
            INSERT INTO alerts_engine_runs (run_id, triggered_by, phase, started_at, finished_at,
                duration_ms, status, counts)
            SELECT gen_random_uuid()::text, 'github_actions_schedule', 'all', t, t, 0, 'success',
                '{"a": {}, "b": {}, "d": {}, "c": {}}'
            FROM generate_series(1, %s) AS n,
                LATERAL (SELECT now() - n * interval '1 minute') AS s (t)
            """,
            (rows,),
        )
        cursor.execute(USERS, (1_000,))
        backlog(cursor, 3_800)
        cursor.execute("VACUUM ANALYZE")
        scanned = rows_scanned(cursor)
        with _served(url) as address:
            page = f"{address}/internal/alerts/engine/runs?limit=50"
            times = _times(page)
            rate, bare = _rate(page), _rate(f"{address}/healthz")
        scanned = rows_scanned(cursor) - scanned
    p95 = times[int(len(times) * 0.95)]
    return {
        "benchmark": "GET /runs", "size": rows, "value": p95, "reference_value": bare,
        "figure": f"p95 {p95:.1f} ms, {rate:,.0f} requests/s, {scanned} rows scanned",
        "reference": f"GET /healthz {bare:,.0f} requests/s",
        "target": "p95 at most 5 ms, no scans", "met": p95 <= 5 and not scanned,
    }  # fmt: skip


@contextmanager
def _served(url: str) -> Iterator[str]:
    """Run the app under gunicorn, warmed up; yields its address."""
    address = f"http://127.0.0.1:{free_port()}"
    server = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "gunicorn.conf.py"),
         "-b", address.removeprefix("http://"), "app:create_app()"],
        cwd=ROOT, env={"DATABASE_URL": url, "INTERNAL_RUNNER_TOKEN": TOKEN},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        pool = urllib3.PoolManager(retries=urllib3.Retry(connect=8, backoff_factor=0.2))
        pool.request("GET", f"{address}/healthz")
        for _ in range(20):  # enough for every worker to have opened its connections
            with closing(_Client(f"{address}/internal/alerts/engine/runs")) as client:
                client.get()
        yield address
    finally:
        server.terminate()
        server.wait()


class _Client:
    """A kept connection that requests one address. It does as little as possible, since it shares
    the machine with the measured server."""

    def __init__(self, address: str) -> None:
        host, _, path = address.removeprefix("http://").partition("/")
        name, _, port = host.partition(":")
        self._address = address
        self._socket = socket.create_connection((name, int(port)), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = (
            f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nx-internal-token: {TOKEN}\r\n"
            f"Cookie: {SESSION}\r\n\r\n".encode()
        )

    def get(self) -> None:
        """Send one request and read the whole answer, which must be a 200 of known length."""
        self._socket.sendall(self._request)
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._more()
        head = received[:end].lower()
        length = re.search(rb"\r\ncontent-length: (\d+)", head)
        if not head.startswith(b"http/1.1 200") or length is None:
            sys.exit(f"GET {self._address} answered {head.partition(b' ')[2].decode()}")
        left = int(length[1]) - (len(received) - end - 4)
        while left > 0:
            left -= len(self._more())

    def close(self) -> None:
        self._socket.close()

    def _more(self) -> bytes:
        part = self._socket.recv(65536)
        if not part:
            sys.exit(f"GET {self._address} was not answered")
        return part


def _times(address: str, requests: int = REQUESTS) -> list[float]:
    """Milliseconds per request, sequentially; sorted."""
    with closing(_Client(address)) as client:
        for _ in range(20):
            client.get()
        return sorted(1e3 * seconds(client.get) for _ in range(requests))


def _rate(address: str) -> float:
    """Requests per second with a few concurrent clients."""

    def ask() -> None:
        with closing(_Client(address)) as client:
            for _ in range(REQUESTS):
                client.get()

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return CLIENTS * REQUESTS / (time.perf_counter() - started)


def history(
    cursor: psycopg2.extensions.cursor, rows: int, users: int = 50_000, until: int = 0
) -> None:
    """30 days of runs up to so many days ago, one every ten minutes: most rows share their run's
    time, as fan-out creates them; one in ten has its own."""
    for day in range(30 + until, until, -1):
        cursor.execute(
            """
            WITH events AS (
                INSERT INTO alert_events (alert_type, severity, headline, body, cooldown_key,
                    event_fingerprint, created_at, fanout_completed_at)
                SELECT 'HIGH_IMPACT_EVENT', 5, 'x', 'x', %(day)s || ':' || n, %(day)s || ':' || n,
                    now() - %(day)s * interval '1 day' + n * interval '10 minutes', now()
                FROM generate_series(0, 143) AS n
                RETURNING id, created_at
            )
            SELECT array_agg(id) FROM events
            """,
            {"day": day},
        )
        (ids,) = cursor.fetchone() or ([],)
        cursor.execute(
            """
            INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, status, attempts,
                failure_code, failed_at, sent_at, risk_at, created_at)
            SELECT 1 + (m * 7919 + e.id * 13) %% %(users)s, e.id, (ARRAY['email', 'telegram', 'sms',
                'account'])[1 + m %% 4], s.status, 1 + (m %% 20 = 1)::integer,
                CASE s.status WHEN 'failed' THEN 'network' END,
                CASE s.status WHEN 'failed' THEN t.at END,
                CASE s.status WHEN 'sent' THEN t.at + random() * interval '90 s' END,
                t.at - random() * interval '10 min', t.at
            FROM alert_events AS e, generate_series(1, %(each)s) AS m,
                LATERAL (SELECT CASE WHEN m %% 50 = 7 THEN 'failed' ELSE 'sent' END) AS s (status),
                LATERAL (SELECT e.created_at + CASE WHEN m %% 10 = 3
                    THEN random() * interval '10 minutes' ELSE interval '0' END) AS t (at)
            WHERE e.id = ANY (%(ids)s)
            ORDER BY e.id, m  -- fan-out writes an event's rows together
            ON CONFLICT DO NOTHING
            """,
            {"each": max(1, rows // 30 // 144), "ids": ids, "users": users},
        )
    cursor.execute(
        """
        INSERT INTO alerts_engine_runs (run_id, triggered_by, phase, started_at, finished_at,
            duration_ms, status)
        SELECT gen_random_uuid()::text, 'github_actions_schedule', 'all', t, t, 0, 'success'
        FROM generate_series(now() - interval '30 days', now(), interval '10 minutes') AS t
        """
    )
    cursor.execute("VACUUM ANALYZE")
