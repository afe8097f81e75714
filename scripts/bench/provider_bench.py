"""Sending through providers: a loopback HTTP one, a slow one, and the outbox."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import urllib3

from alerts.channels.base import Message
from scripts.bench.place import ROOT, database, free_port, seconds
from scripts.bench.world import QUEUE, ROUNDS, Row, add_event, compared, run_phase, world

WORKERS = 8
SLOW_SECONDS, SLOW_WORKERS = 0.2, 32
MAIL_QUEUE = QUEUE.replace("'telegram'", "'email'")


class Slow:
    """An adapter with a slow provider."""

    name = "slow"

    def send(self, message: Message) -> str:
        time.sleep(SLOW_SECONDS)
        return message.key

    def close(self) -> None:
        pass


class Bot(BaseHTTPRequestHandler):
    """Accepts every message with Telegram's answer."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"ok": True, "result": {"message_id": 1}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def provider(size: float) -> Row:
    """Messages per second through a loopback HTTP provider, against the HTTP client alone."""
    rows = max(1, round(200 * size))
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    # In a separate process, or both would share one interpreter.
    server = subprocess.Popen(
        [sys.executable, "-m", "scripts.bench.provider_bench", str(port)], cwd=ROOT
    )
    try:
        pool = urllib3.PoolManager(maxsize=WORKERS)
        pool.request("POST", base, body=b"{}", retries=urllib3.Retry(connect=8, backoff_factor=0.2))

        def bare() -> None:
            with ThreadPoolExecutor(WORKERS) as threads:
                list(threads.map(lambda _: pool.request("POST", base, body=b"{}"), range(rows)))

        return _sent(
            "a loopback HTTP provider", rows, QUEUE, bare, 1_000, "the HTTP client alone",
            TELEGRAM_BOT_TOKEN="1:benchmark", TELEGRAM_API_BASE=base,  # noqa: S106
        )  # fmt: skip
    finally:
        server.terminate()
        server.wait()


def outbox(size: float) -> Row:
    """Emails per second into the outbox, compared with writing as many files."""
    rows = max(1, round(200 * size))
    with tempfile.TemporaryDirectory() as folder:

        def bare() -> None:
            for number in range(rows):
                Path(folder, f"bare-{number}").write_bytes(b"x" * 4_000)

        return _sent(
            "the outbox", rows, MAIL_QUEUE, bare, 2_000, "writing files",
            EMAIL_PROVIDER="outbox", ALERTS_OUTBOX_DIR=folder, EMAIL_FROM="alerts@example.com",
        )  # fmt: skip


def slow_provider(size: float) -> Row:
    """Messages per second through a 200 ms provider, 32 workers, compared with arithmetic."""
    rows = max(1, round(80 * min(size, 10)))
    possible = SLOW_WORKERS / SLOW_SECONDS
    with database() as url:
        cursor = world(url, rows)
        cursor.execute(QUEUE, (add_event(cursor),))
        workers = {"ALERTS_SEND_WORKERS": str(SLOW_WORKERS)}
        took = seconds(lambda: run_phase(url, "c", channels={"telegram": Slow()}, **workers))
    rates = {"subject": [rows / took], "reference": [possible]}
    return compared("a provider of 200 ms", rows, rates, "arithmetic", "at least 90 %", 0.9)


def _sent(
    name: str, rows: int, queue: str, bare: Callable[[], None], least: float, reference: str,
    **environ: str,
) -> Row:  # fmt: skip
    rates: dict[str, list[float]] = {"subject": [], "reference": []}
    with database() as url:
        cursor = world(url, rows)
        for _ in range(ROUNDS):
            rates["reference"].append(rows / seconds(bare))
            cursor.execute(queue, (add_event(cursor),))
            rates["subject"].append(rows / seconds(lambda: run_phase(url, "c", 1_000, **environ)))
    return compared(f"sending, {name}", rows, rates, reference, f"{least:,.0f}/s", None, least)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Bot)
    threading.Thread(target=server.serve_forever).start()
