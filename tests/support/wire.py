"""HTTP as it goes over the wire, where no client stands between a test and the bytes."""

from __future__ import annotations

import re
import socket
from contextlib import closing
from urllib.parse import quote

from app.ops.session import COOKIE
from tests.support.canaries import ADMIN_TOKEN, assert_clean
from tests.support.gunicorn import Served


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


def sign_in(served: Served) -> str:
    """The cookie of a browser that may write."""
    form = f"token={quote(ADMIN_TOKEN)}"
    answer = ask(served, "/ops/login", "POST", token="", body=form)
    assert " 303 " in answer.splitlines()[0], answer
    assert_clean("signing in", answer)
    found = re.search(f"{COOKIE}=[^;]+", answer)
    assert found, answer
    return found[0]


def cookie_parts(cookie: str) -> tuple[str, ...]:
    """Its value and its signature."""
    value = cookie.partition("=")[2]
    return (value, value.rpartition(".")[2])
