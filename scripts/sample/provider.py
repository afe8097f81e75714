"""A local stand-in for Brevo, Telegram and Twilio, which answers as the sample's bad day wants."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

EMAIL, TELEGRAM, SMS = "email", "telegram", "sms"


@dataclass(frozen=True)
class Answer:
    """What a provider answers; ``status`` 0: it hangs up without a word."""

    status: int
    body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


TAKEN = {
    EMAIL: Answer(201, {"messageId": "<sample@example.com>"}),
    TELEGRAM: Answer(200, {"ok": True, "result": {"message_id": 1}}),
    SMS: Answer(201, {"sid": "SM" + "0" * 32, "status": "queued"}),
}

# By channel, the recipient and the headers of the request; None takes the message.
Rule = Callable[[str, str, Mapping[str, str]], Answer | None]


@contextmanager
def provider(rule: Rule) -> Iterator[str]:
    """Serve on the loopback address, yielding the base URL for all three."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            channel, recipient = _of(
                self.path, self.rfile.read(int(self.headers["Content-Length"])).decode()
            )
            answer = rule(channel, recipient, self.headers) or TAKEN[channel]
            if answer.status == 0:
                self.close_connection = True
                return
            body = json.dumps(answer.body).encode()
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing to say."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _of(path: str, body: str) -> tuple[str, str]:
    """The channel and the recipient of a request."""
    if path.endswith("/sendMessage"):
        return TELEGRAM, str(json.loads(body)["chat_id"])
    if path.endswith("/Messages.json"):
        return SMS, parse_qs(body)["To"][0]
    return EMAIL, str(json.loads(body)["to"][0]["email"])
