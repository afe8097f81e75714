"""A fake transaction pooler in front of PostgreSQL."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress


class Pooler:
    """Reports a different backend id, as a pooler does, and passes everything else on."""

    BACKEND_KEY_DATA = b"K"

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                server = socket.create_connection(self._target)
                for work in (self._upstream, self._downstream):
                    threading.Thread(target=work, args=(client, server), daemon=True).start()

    def _upstream(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _downstream(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError, struct.error), server.makefile("rb") as answers, client:
            while head := answers.read(5):
                (length,) = struct.unpack("!I", head[1:])
                body = answers.read(length - 4)
                if head[:1] == self.BACKEND_KEY_DATA:
                    body = struct.pack("!I", 4711) + body[4:]
                client.sendall(head + body)
