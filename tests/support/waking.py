"""Servers that are still waking up, to test how clients wait for them."""

from __future__ import annotations

import enum
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from types import TracebackType
from typing import Self

from tests.support.pg_proxy import PgProxy


class HalfAwake(enum.Enum):
    """The answer of a database that is waking up."""

    DROPS = ""
    STARTING = "the database system is starting up"
    RECOVERING = "the database system is in recovery mode"


@contextmanager
def silent_server() -> Iterator[int]:
    """Yield the port of a server that accepts connections and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=50)) as server:
        yield server.getsockname()[1]


class WakingServer:
    """A proxy that answers the first ``refusals`` connections like a database that is waking up."""

    def __init__(self, database_url: str, how: HalfAwake, refusals: int) -> None:
        self._proxy = PgProxy(database_url)
        self._how = how
        self._refusals = refusals
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=50)
        inner = self._proxy.url.partition("@127.0.0.1:")[2].partition("/")[0]
        self.url = self._proxy.url.replace(
            f"@127.0.0.1:{inner}/", f"@127.0.0.1:{self._listener.getsockname()[1]}/"
        )
        self._inner = ("127.0.0.1", int(inner))

    def __enter__(self) -> Self:
        self._proxy.__enter__()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._proxy.__exit__(kind, error, trace)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                if self.connections <= self._refusals:
                    with client, suppress(OSError):
                        self._refuse(client)
                    continue
                server = socket.create_connection(self._inner)
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=_pump, args=(source, target), daemon=True).start()

    def _refuse(self, client: socket.socket) -> None:
        if self._how is HalfAwake.DROPS:
            return
        client.recv(65536)  # the startup message
        fields = f"SFATAL\0VFATAL\0C57P03\0M{self._how.value}\0\0".encode()
        client.sendall(b"E" + struct.pack("!i", len(fields) + 4) + fields)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
