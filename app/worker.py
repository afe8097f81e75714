"""Gunicorn's worker for clients as they really are: slow, silent, or gone.

Gunicorn's own threads read from the network, so a dozen clients that send half a head keep
everybody else waiting, and its loop waits for each client that does not hang up. Here the loop
alone waits, for all clients at once, and a thread gets a request whose head is there as a whole.
So it is with a small form for the operator's pages; nothing else of the app reads a body. TLS ends
in front of the app.
"""

from __future__ import annotations

import json
import re
import socket
import time
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn import util  # type: ignore[import-untyped]
from gunicorn.workers.gthread import TConn, ThreadWorker  # type: ignore[import-untyped]

from app.ops.guard import LARGEST_FORM

# How long a client may take to send a head, to send the next one, or to hang up.
PATIENCE_SECONDS = 5.0
# How long a thread may wait to hand an answer over to a client that does not read it.
ANSWER_SECONDS = 5.0
# A body that came with its head is read and thrown away; one that is still under way ends the
# connection.
BODY_SECONDS = 0.05
LARGEST_HEAD = 65_536
_CHUNK = 65_536
_END_OF_HEAD = b"\r\n\r\n"
# A form of the operator's pages; a larger one is refused unread.
_FORM = re.compile(rb"POST /ops[/? ]")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*0*([0-9]{1,19})[ \t]*\r\n", re.IGNORECASE)


class _Connection(TConn):  # type: ignore[misc]
    """One client; ``head`` is what it has sent of its next request."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.head = b""
        self.answered = False  # and our side closed: nothing that still comes matters
        self.data_ready = True  # there is nothing to wait for in a thread

    def init(self) -> None:
        """In a thread, before each request: give the head to the parser."""
        super().init()
        self.sock.settimeout(ANSWER_SECONDS)
        self.parser.unreader.unread(self.head)
        self.head = b""


class PatientWorker(ThreadWorker):  # type: ignore[misc]
    """Threads that never wait for a client to send something."""

    def accept(self, listener: socket.socket) -> None:
        """Take a new client and wait, in the loop, for what it says."""
        try:
            client, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):  # another worker took it, or it is gone
            return
        self.nr_conns += 1
        self._wait_for(_Connection(self.cfg, client, address, listener.getsockname()))

    def finish_request(self, conn: _Connection, done: Future[bool]) -> None:
        """After an answer: wait for the next request, or for the client to hang up."""
        goes_on = not done.cancelled() and done.exception() is None and done.result()
        try:
            if goes_on:
                conn.head = conn.parser.unreader.take_buffered()
            else:
                conn.answered, conn.head = True, b""
                conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.setblocking(False)
            self._wait_for(conn)
            self._look_at(conn)
        except OSError:  # the client has gone already
            self._drop(conn)

    def _keepalive_after(self, conn: _Connection, keepalive: bool) -> bool:
        ends = time.monotonic() + BODY_SECONDS
        return keepalive and bool(conn.parser.finish_body(deadline=ends))

    def _wait_for(self, conn: _Connection) -> None:
        conn.timeout = time.monotonic() + PATIENCE_SECONDS
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, EVENT_READ, partial(self._read, conn))

    def _read(self, conn: _Connection, client: socket.socket) -> None:
        try:
            read = client.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            read = b""
        if not conn.answered:
            conn.head += read
        if not read or (len(conn.head) > LARGEST_HEAD and _END_OF_HEAD not in conn.head):
            self._forget(conn)
            self._drop(conn)
        else:
            self._look_at(conn)

    def _look_at(self, conn: _Connection) -> None:
        """Hand a whole head to a thread, and a form with it."""
        if _is_whole(conn.head):
            self._forget(conn)
            self.enqueue_req(conn)

    def _forget(self, conn: _Connection) -> None:
        self.pending_conns.remove(conn)
        self.poller.unregister(conn.sock)

    def _drop(self, conn: _Connection) -> None:
        self.nr_conns -= 1
        with suppress(OSError):
            conn.close()

    def _cap_keepalive(self, deadline: float) -> None:
        """When the worker stops: idle clients are not waited for."""
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)


def _is_whole(read: bytes) -> bool:
    """Whether the request can be answered without waiting for the client."""
    head, end, body = read.partition(_END_OF_HEAD)
    if not end or not _FORM.match(head):
        return bool(end)
    length = _LENGTH.search(head + b"\r\n")
    size = int(length[1]) if length else 0
    return size > LARGEST_FORM or len(body) >= size


def _answer_error(client: socket.socket, status: int, reason: str, _quoting: str) -> None:
    """Answer what never gets to the app, because it is no request, in the shape of the app's
    errors; Gunicorn's own answer is HTML and quotes the client."""
    if status == 501:  # which Gunicorn calls a bad request
        reason = "Not Implemented"
    error = {"code": reason.lower().replace(" ", "_"), "message": f"{reason}."}
    body = json.dumps({"error": error})
    head = (
        f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: application/json\r\n"
        f"Cache-Control: no-store\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    util.write_nonblock(client, (head + body).encode())


util.write_error = _answer_error
