"""Servers that behave as the providers document, keep what they accepted, and fail on demand.

``HttpProvider`` serves Brevo, Resend, Telegram and Twilio on one port, distinguished by path;
``MailServer`` speaks SMTP. ``python tests/support/providers.py`` runs the former for measurements.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs

BREVO_KEY = "xkeysib-canary0123456789abcdef"
RESEND_KEY = "re_canary0123456789abcdef"
BOT_TOKEN = "123456789:AAcanary0123456789abcdefghijklmnopq"
TWILIO_SID = "AC" + "0123456789abcdef" * 2
TWILIO_TOKEN = "canary-token-0123456789abcdef"
TWILIO_NUMBER = "+15005550006"
SECRETS = (BREVO_KEY, RESEND_KEY, BOT_TOKEN, TWILIO_TOKEN)


@dataclass(frozen=True)
class Request:
    """One request as received; header names are lower case."""

    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass(frozen=True)
class Accepted:
    """A message that a provider accepted."""

    provider: str
    destination: str
    text: str
    key: str | None = None
    subject: str = ""
    html: str = ""


@dataclass(frozen=True)
class Fault:
    """What happens to a request instead of the normal answer.

    ``how``: ``answer`` with ``status``, ``headers`` and ``body``; ``accept_then_answer``, the same
    after accepting the message; ``slow``, the provider's own answer after ``seconds``; ``raw``,
    only the ``body``; ``cut``, half of the promised length; ``hang``; ``close`` without an answer;
    ``drip``, the status line byte by byte; ``drip_body``, the ``body`` byte by byte after a head
    with ``status``; ``endless``, a body without end.
    """

    how: str = "answer"
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    seconds: float = 0.0


def own_error(name: str, status: int, code: object = "odd") -> dict[str, object]:
    """Return an error body in the format of the provider ``name``."""
    if name == "telegram":
        return {"ok": False, "error_code": status, "description": str(code)}
    named = {"resend": "name"}.get(name, "code")
    return {named: code, "message": "no", "statusCode" if named == "name" else "status": status}


def refusal(status: int, body: object, **headers: str) -> Fault:
    """Return an answer with a JSON body; underscores in header names become hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Fault(status=status, body=json.dumps(body).encode(), headers=named)


class HttpProvider:
    """The four HTTP providers on 127.0.0.1, one thread per connection; use as a context manager.

    Each request consumes one of ``faults``; ``rule`` may return one for any request. ``interim``
    answers precede each answer. ``supergroups`` are Telegram's moved chats, old id to new. With
    ``unread`` set, connections are accepted but never read.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.accepted: list[Accepted] = []
        self.faults: deque[Fault] = deque()
        self.rule: Callable[[Request], Fault | None] = lambda request: None
        self.interim: tuple[bytes, ...] = ()
        self.supergroups: dict[str, int] = {}
        self.unread = False
        self.connections = 0
        self._tls = tls
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str], tuple[bytes, bytes]] = {}
        self._stopped = threading.Event()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        scheme = "https" if tls else "http"
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{scheme}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop_connections()

    def drop_connections(self) -> None:
        """Close every connection, as servers do with idle ones."""
        with self._lock:
            connections, self._open = self._open, set()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    # -- connections -----------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self.connections += 1
                number = self.connections
                self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        try:
            if self.unread:
                self._stopped.wait()
                return
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            file = connection.makefile("rb")
            while (request := _read_request(file, number)) is not None:
                if not self._respond(connection, request):
                    return
        except OSError:
            pass
        finally:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _respond(self, connection: socket.socket, request: Request) -> bool:
        """Answer one request; returns whether the connection stays open."""
        with self._lock:
            self.requests.append(request)
            fault = self.faults.popleft() if self.faults else self.rule(request)
            if fault is None or fault.how in ("accept_then_answer", "slow"):
                answer = self._answer(request)
        connection.sendall(b"".join(self.interim))
        if fault is None or fault.how == "slow":
            if fault is not None and self._stopped.wait(fault.seconds):
                return False
            connection.sendall(answer)
            return True
        if fault.how == "raw":
            connection.sendall(fault.body)
        elif fault.how == "cut":
            whole = _http(fault.status, 2 * fault.body, fault.headers)
            connection.sendall(whole[: -len(fault.body)])
        elif fault.how in ("answer", "accept_then_answer"):
            connection.sendall(_http(fault.status, fault.body, fault.headers))
            return True
        if fault.how == "hang":
            self._stopped.wait()
        elif fault.how in ("drip", "drip_body", "endless"):
            self._drip(connection, fault)
        return False

    def _drip(self, connection: socket.socket, fault: Fault) -> None:
        if fault.how != "drip":
            head = b"HTTP/1.1 %d X\r\n\r\n" % fault.status
            connection.sendall(head + (fault.body or b'{"x": "'))
        if fault.how == "endless":
            while not self._stopped.is_set():
                connection.sendall(b"x" * 65536)
        slow = b"HTTP/1.1 200 OK\r\nX-Slow: " + b"z" * 1000
        for byte in slow:
            connection.sendall(bytes([byte]))
            if self._stopped.wait(0.05):
                return

    # -- the providers' answers ------------------------------------------------------------

    def _answer(self, request: Request) -> bytes:
        for prefix, speak in (
            ("/v3/smtp/email", self._brevo),
            ("/emails", self._resend),
            ("/bot", self._telegram),
            ("/2010-04-01/", self._twilio),
        ):
            if request.path.startswith(prefix):
                return speak(request)
        return _http(404, b"<html>not here</html>")

    def _take(self, message: Accepted) -> int:
        self.accepted.append(message)
        return len(self.accepted)

    def _brevo(self, request: Request) -> bytes:
        if request.headers.get("api-key") != BREVO_KEY:
            return _json(401, {"message": "Key not found", "code": "unauthorized"})
        body = json.loads(request.body)
        key = body["headers"]["idempotencyKey"]
        if ("brevo", key) in self._seen:
            return _json(400, {"code": "duplicate_parameter", "message": "known key"})
        self._seen["brevo", key] = (b"", b"")
        destination = body["to"][0]["email"]
        html = body.get("htmlContent", "")
        number = self._take(
            Accepted("brevo", destination, body["textContent"], key, body["subject"], html)
        )
        return _json(201, {"messageId": f"<{number}@smtp-relay.example.com>"})

    def _resend(self, request: Request) -> bytes:
        if request.headers.get("authorization") != f"Bearer {RESEND_KEY}":
            error = {"statusCode": 401, "name": "invalid_api_key", "message": "API key is invalid"}
            return _json(401, error)
        key = request.headers["idempotency-key"]
        if ("resend", key) in self._seen:
            known, answer = self._seen["resend", key]
            if known == request.body:
                return answer
            return _json(409, {"name": "invalid_idempotent_request", "message": "other payload"})
        body = json.loads(request.body)
        html = body.get("html", "")
        number = self._take(
            Accepted("resend", body["to"][0], body["text"], key, body["subject"], html)
        )
        answer = _json(200, {"id": f"49a3999c-0ce1-4ea6-ab68-{number:012d}"})
        self._seen["resend", key] = (request.body, answer)
        return answer

    def _telegram(self, request: Request) -> bytes:
        token, _, method = request.path.removeprefix("/bot").partition("/")
        if token != BOT_TOKEN or method != "sendMessage":
            error = {"ok": False, "error_code": 404, "description": "Not Found"}
            return _json(404, error)
        body = json.loads(request.body)
        if moved_to := self.supergroups.get(body["chat_id"]):
            described = "Bad Request: group chat was upgraded to a supergroup chat"
            error = {"ok": False, "error_code": 400, "description": described}
            return _json(400, {**error, "parameters": {"migrate_to_chat_id": moved_to}})
        number = self._take(Accepted("telegram", body["chat_id"], body["text"]))
        return _json(200, {"ok": True, "result": {"message_id": number, "text": body["text"]}})

    def _twilio(self, request: Request) -> bytes:
        pair = base64.b64encode(f"{TWILIO_SID}:{TWILIO_TOKEN}".encode()).decode()
        place = f"/2010-04-01/Accounts/{TWILIO_SID}/Messages.json"
        if request.headers.get("authorization") != f"Basic {pair}" or request.path != place:
            return _json(401, {"code": 20003, "message": "Authenticate", "status": 401})
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        number = self._take(Accepted("twilio", form["To"], form["Body"]))
        return _json(201, {"sid": f"SM{number:032x}", "status": "queued", "error_code": None})


def _read_request(file: Any, connection: int) -> Request | None:
    start = file.readline()
    if not start.endswith(b"\n"):
        return None
    headers = {}
    while (line := file.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    length = int(headers.get("content-length", "0"))
    body = file.read(length)
    if len(body) < length:  # the client was killed
        return None
    return Request(start.split()[1].decode(), headers, body, connection)


def _json(status: int, body: object) -> bytes:
    return _http(status, json.dumps(body).encode(), {"Content-Type": "application/json"})


def _http(status: int, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    head = f"HTTP/1.1 {status} X\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
    return head.encode("latin-1") + body


if __name__ == "__main__":
    with HttpProvider() as server:
        print(server.url, flush=True)
        sys.stdin.read()
