"""HTTP as it goes over the wire, where no client stands between a test and the bytes."""

from __future__ import annotations

import socket
from contextlib import closing

from tests.app.test_gunicorn import Served
from tests.support.canaries import ADMIN_TOKEN


def ask(
    served: Served,
    path: str,
    method: str = "",
    token: str = ADMIN_TOKEN,
    body: str = "",
    **headers: str,
) -> str:
    """An answer as it came over the wire: status, headers and body. ``body`` is a form's."""
    method = method or ("POST" if "retry_failed" in path else "GET")
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close"]
    lines += [f"Content-Length: {len(body)}"]
    lines += ["Content-Type: application/x-www-form-urlencoded"] if body else []
    lines += [f"x-internal-token: {token}"] if token else []
    lines += [f"{name.replace('_', '-')}: {text}" for name, text in headers.items()]
    with closing(socket.create_connection(("127.0.0.1", served.port), timeout=15)) as wire:
        wire.sendall("\r\n".join([*lines, "", body]).encode())
        with wire.makefile("rb") as file:
            return file.read().decode(errors="replace")
