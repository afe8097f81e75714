"""A TCP proxy for PostgreSQL that records each connection's statements and can go silent."""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from psycopg2.extensions import parse_dsn


@dataclass
class Wire:
    """One client connection: its application name, statements and round trips."""

    application: str = ""
    statements: list[str] = field(default_factory=list)
    round_trips: int = 0  # bursts from the client that the server must answer
    _buffer: bytes = b""
    _asked: bool = False

    def from_client(self, data: bytes) -> None:
        """Record what the client sent."""
        if not self._asked and data[:1] != b"X":  # the goodbye gets no answer
            self.round_trips += 1
        self._asked = True
        self._buffer += data
        while self._take_message():
            pass

    def from_server(self) -> None:
        """Record that the server answered."""
        self._asked = False

    def _take_message(self) -> bool:
        header = 0 if not self.application else 1
        if len(self._buffer) < header + 4:
            return False
        (length,) = struct.unpack_from("!i", self._buffer, header)
        if len(self._buffer) < header + length:
            return False
        kind, body = self._buffer[:header], self._buffer[header + 4 : header + length]
        self._buffer = self._buffer[header + length :]
        if not header:
            words = body[4:].split(b"\0")
            parameters = dict(zip(words[::2], words[1::2], strict=False))
            self.application = parameters.get(b"application_name", b"?").decode()
        elif kind == b"Q":
            self.statements.append(body.rstrip(b"\0").decode())
        return True


class PgProxy:
    """Listens on a free port; `url` reaches the same database through it.

    While `swallow` is true for a connection, nothing passes, as if packets were dropped; with
    `swallow_answers`, the server still receives requests. `refuse` closes new connections at once.
    New connections after `lead_to` go to that server. `delay_seconds` is added to each round trip,
    as if the database were far away.
    """

    def __init__(self, database_url: str, delay_seconds: float = 0.0) -> None:
        self._delay_seconds = delay_seconds
        parts = urlsplit(database_url)
        self.lead_to(database_url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        login = parts.netloc.rpartition("@")[0]
        address = f"{login}@127.0.0.1:{self._listener.getsockname()[1]}"
        query = "sslmode=disable&gssencmode=disable"  # the proxy must be able to read the traffic
        self.url = urlunsplit(parts._replace(netloc=address, query=query))
        self.wires: list[Wire] = []
        self.swallow: Callable[[Wire], bool] = lambda wire: False
        self.swallow_answers: Callable[[Wire], bool] = lambda wire: False
        self.refuse: Callable[[], bool] = lambda: False
        self._closed = False
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def lead_to(self, database_url: str) -> None:
        """Send new connections to that server, as after a failover."""
        parameters = parse_dsn(database_url)
        self._target = (parameters.get("host", "localhost"), int(parameters.get("port", 5432)))

    def of(self, application: str) -> list[Wire]:
        """Return the connections with one application name."""
        return [wire for wire in self.wires if wire.application == application]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            wire = Wire()
            self.wires.append(wire)
            if self.refuse():
                client.close()
                continue
            threading.Thread(target=self._serve, args=(client, wire), daemon=True).start()

    def _serve(self, client: socket.socket, wire: Wire) -> None:
        host, port = self._target
        server = socket.socket(socket.AF_UNIX if host.startswith("/") else socket.AF_INET)
        with client, server, suppress(OSError):
            server.connect(f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port))
            while self._pass_on(client, server, wire):
                pass

    def _pass_on(self, client: socket.socket, server: socket.socket, wire: Wire) -> bool:
        readable, _, _ = select.select([client, server], [], [], 1)
        for source in readable:
            data = source.recv(65536)
            if not data:
                return False
            if source is client:
                known = wire.round_trips
                wire.from_client(data)
                if wire.round_trips > known:
                    time.sleep(self._delay_seconds)
            else:
                wire.from_server()
            lost = source is server and self.swallow_answers(wire)
            if not lost and not self.swallow(wire):
                (server if source is client else client).sendall(data)
        return not self._closed
