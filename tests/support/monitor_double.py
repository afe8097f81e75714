"""A monitor that speaks Healthchecks' pinging API on 127.0.0.1, and keeps what it was told.

A check is named by its UUID, or by a ping key and a slug. ``/start``, ``/fail``, ``/log`` or an
exit status may follow; none means success. ``rid`` must be a UUID in its canonical form. 10,000
bytes of a body are kept.
"""

from __future__ import annotations

import re
import threading
import uuid
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

CHECK = "5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278"
SLUG = "fqOOd6-F4MMNuCEnzTU01w/energy-alerts"
BODY_LIMIT = 10_000
_PATH = re.compile(rf"/(?P<check>{CHECK}|{SLUG})(?:/(?P<signal>start|fail|log|[0-9]{{1,3}}))?/?")


@dataclass(frozen=True)
class Ping:
    """One ping as it was understood; ``raw`` as it arrived."""

    kind: str  # start, success, fail, log
    rid: str | None
    body: str
    raw: str


@dataclass
class Monitor:
    """Use as a context manager. ``status`` answers every ping with another status; ``hang`` with
    nothing; ``close`` ends so many connections before it answers one."""

    pings: list[Ping] = field(default_factory=list)
    status: int = 200
    hang: bool = False
    close: int = 0

    def __enter__(self) -> Self:
        monitor = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                monitor._take(self)

            do_GET = do_HEAD = do_POST

            def log_message(self, *args: Any) -> None:
                pass

        self._stopped = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        """The ping address of the check."""
        return f"{self.origin}/{CHECK}"

    def kinds(self) -> list[str]:
        """What was told, in the order in which it came."""
        return [ping.kind for ping in self.pings]

    def _take(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", "0")))
        if self.hang:
            self._stopped.wait()
            return
        if self.close:
            self.close -= 1
            request.close_connection = True
            return
        status, text = self._understood(request, body)
        answer = text.encode()
        request.send_response(self.status if status == 200 else status)
        request.send_header("Content-Type", "text/plain; charset=utf-8")
        request.send_header("Content-Length", str(len(answer)))
        request.send_header("Ping-Body-Limit", str(BODY_LIMIT))
        request.end_headers()
        request.wfile.write(answer)

    def _understood(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, str]:
        parts = urlsplit(request.path)
        found = _PATH.fullmatch(parts.path)
        if found is None:
            return 404, "not found"
        query = dict(parse_qsl(parts.query))
        if "rid" in query and not _is_canonical(query["rid"]):
            return 400, "invalid uuid format"
        signal = found["signal"] or "0"
        kind = {"0": "success"}.get(signal, "fail" if signal.isdigit() else signal)
        head = f"{request.requestline}\n{request.headers}".strip()
        text = body[:BODY_LIMIT].decode()
        self.pings.append(Ping(kind, query.get("rid"), text, f"{head}\n\n{text}"))
        return 200, "OK"


def _is_canonical(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
