"""The app as it is deployed: gunicorn as a process, asked over real sockets."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import CHECKOUT

TOKEN = "schlüssel-für-gunicorn"
DEADLINE = 30.0  # seconds for something that takes a second on an idle machine


@dataclass
class Served:
    """A running server, and the file its output goes to."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def request(
        self, method: str, path: str, *, token: str | None = TOKEN, **headers: str
    ) -> tuple[int, Any, http.client.HTTPMessage]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)) as http_:
            http_.putrequest(method, path, skip_accept_encoding=True)
            for name, text in headers.items():
                http_.putheader(name, text)
            if token is not None:
                http_.putheader("x-internal-token", token.encode())
            http_.endheaders()
            answer = http_.getresponse()
            return answer.status, json.loads(answer.read() or b"null"), answer.headers

    def get(self, path: str) -> tuple[int, Any]:
        status, body, _ = self.request("GET", path)
        return status, body

    def wait_for_log(self, text: str) -> str:
        ends = time.monotonic() + DEADLINE
        while text not in (logged := self.log.read_text()):
            assert time.monotonic() < ends, logged
            time.sleep(0.02)
        return logged


def command(port: int) -> list[str]:
    return [sys.executable, "-m", "gunicorn", "app:create_app()", "--bind", f"127.0.0.1:{port}"]


def environment(**variables: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "WEB_CONCURRENCY": "1", **variables}


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(database_url: str, log: Path, **variables: str) -> Iterator[Served]:
    port = free_port()
    variables = {"DATABASE_URL": database_url, "INTERNAL_RUNNER_TOKEN": TOKEN, **variables}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(port),
            cwd=CHECKOUT,
            env=environment(**variables),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    served = Served(process, port, log)
    try:
        served.wait_for_log("Booting worker")
        yield served
    finally:
        process.terminate()
        try:
            process.wait(timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
