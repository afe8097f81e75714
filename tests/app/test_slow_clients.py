"""Clients that are slow, silent or gone keep nobody else waiting: gunicorn and real sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.databases import TestServer
from tests.support.gunicorn import TOKEN, Served, serving
from tests.support.web import PREFIX

MANY = 40
PROMPT = 3.0  # seconds
HEAD = b"POST %s/pause?reason=test HTTP/1.1\r\nHost: a\r\nx-internal-token: %s\r\n" % (
    PREFIX.encode(), TOKEN.encode(),
)  # fmt: skip

SLOW = {
    "silent": b"",
    "one byte": b"G",
    "half a request line": b"GET /heal",
    "half a head": b"GET /healthz HTTP/1.1\r\nHost: a\r\n",
    "all but the last line end": b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r",
    "half a body": HEAD + b"Content-Length: 1000\r\n\r\nchan",
    "no body yet": HEAD + b"Content-Length: 1000\r\n\r\n",
    "half a form": b"POST /ops/login HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\ntoken=a",
    "a chunked form": b"POST /ops/login HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a form too long": b"POST /ops/login HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n",
    "half a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nff\r\nchan",
    "an endless head": b"GET /healthz HTTP/1.1\r\nA: " + b"a" * 60_000,
    "half a second request": b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /heal",
    "never hangs up": b"GET /healthz HTTP/1.0\r\n\r\n",
    "not HTTP": b"\x16\x03\x01\x02\x00\x01",
}


@pytest.fixture(scope="module")
def server(test_server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    name = test_server.create(migrated=True)
    with serving(test_server.url(name), tmp_path_factory.mktemp("web") / "log") as served:
        yield served
    test_server.drop(name)


@contextmanager
def clients(port: int, say: bytes) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        found = []
        for _ in range(MANY):
            client = socket.create_connection(("127.0.0.1", port), timeout=10)
            found.append(stack.enter_context(closing(client)))
            client.sendall(say)
        yield found


@contextmanager
def repeating(act: Callable[[], None], every: float) -> Iterator[None]:
    over = threading.Event()

    def work() -> None:
        while not over.wait(every):
            act()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def slowest(server: Served, seconds: float = 0.5) -> float:
    """How long the slowest of the answers took that were asked for one after another."""
    found, ends = [], time.monotonic() + seconds
    while time.monotonic() < ends:
        started = time.monotonic()
        assert server.get("/healthz") == (200, {"status": "ok"})
        found.append(time.monotonic() - started)
    return max(found)


def status_of(client: socket.socket) -> int:
    """The status of the next answer, which is read to its end."""
    answer = HTTPResponse(client)
    answer.begin()
    answer.read()
    return answer.status


@pytest.mark.parametrize("kind", SLOW)
def test_slow_clients_keep_nobody_else_waiting(server: Served, kind: str) -> None:
    with clients(server.port, SLOW[kind]):
        assert slowest(server) < PROMPT


def test_clients_that_send_byte_after_byte_keep_nobody_else_waiting(server: Served) -> None:
    with clients(server.port, b"GET /healthz HTTP/1.1\r\nA: ") as slow:

        def more() -> None:
            for client in slow:
                client.sendall(b"a")

        with repeating(more, every=0.1):
            assert slowest(server) < PROMPT


def test_a_client_that_does_not_get_done_is_sent_away(server: Served) -> None:
    with clients(server.port, b"GET /healthz HTTP/1.1\r\n") as slow:
        for client in slow:
            assert client.recv(1) == b""


def test_a_head_that_arrives_in_pieces_is_answered(server: Served) -> None:
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as client:
        for piece in (b"GET /hea", b"lthz HTTP/1.1\r\nHo", b"st: a\r\n\r", b"\nGET /healthz HT"):
            client.sendall(piece)
            server.get("/healthz")  # the piece has been read by now
        assert status_of(client) == 200
        client.sendall(b"TP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")  # the same connection
        assert status_of(client) == 200
        assert client.recv(1) == b""


def test_a_form_that_arrives_in_pieces_is_read_as_a_whole(server: Served) -> None:
    form = b"token=" + quote(TOKEN).encode()
    head = b"POST /ops/login HTTP/1.1\r\nHost: a\r\nContent-Type: %s\r\ncontent-length: 0%d\r\n\r\n"
    whole = head % (b"application/x-www-form-urlencoded", len(form)) + form
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as client:
        for start in range(0, len(whole), 40):
            client.sendall(whole[start : start + 40])
            server.get("/healthz")  # the piece has been read by now
        assert status_of(client) == 303
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")  # the same connection
        assert status_of(client) == 200


def test_requests_sent_at_once_are_answered_one_after_another(server: Served) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as client:
        client.sendall(request * 3)
        client.shutdown(socket.SHUT_WR)
        answers = b"".join(iter(lambda: client.recv(65_536), b""))
    assert answers.count(b"HTTP/1.1 200 OK") == 3


def test_a_head_without_end_is_given_up(server: Served) -> None:
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as client:
        started = time.monotonic()
        with suppress(ConnectionError):
            client.sendall(b"GET /healthz HTTP/1.1\r\n" + b"A: a\r\n" * 50_000)
            assert client.recv(1) == b""
        assert time.monotonic() - started < PROMPT


def test_slow_clients_do_not_delay_the_end(database_url: str, tmp_path: Path) -> None:
    with serving(database_url, tmp_path / "log") as server, clients(server.port, b"GET /heal"):
        assert server.get("/healthz")[0] == 200
        server.process.terminate()
        started = time.monotonic()
        assert server.process.wait(timeout=30) == 0
        assert time.monotonic() - started < 8
