"""Sockets that keep one deadline over a whole call, however slowly the other side drips.

A socket's own timeout starts anew with every byte received. These count down to a moment.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterable
from typing import Any

SocketOption = tuple[int, int, int | bytes]


def seconds_until(deadline: float) -> float:
    """Seconds left until ``deadline`` (monotonic); raises TimeoutError when there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline of the call has passed")
    return left


class DeadlineSocket(socket.socket):
    """A connected socket on which every operation ends by :attr:`deadline` (monotonic)."""

    deadline: float = 0.0

    def recv_into(self, *args: Any) -> int:
        """As the base's, by the deadline."""
        self.settimeout(seconds_until(self.deadline))
        return super().recv_into(*args)

    def sendall(self, *args: Any) -> None:
        """As the base's, by the deadline."""
        self.settimeout(seconds_until(self.deadline))
        super().sendall(*args)


class DeadlineTlsSocket(ssl.SSLSocket):
    """The same over TLS."""

    deadline: float = 0.0

    def recv_into(self, *args: Any) -> int:
        """As the base's, by the deadline."""
        self.settimeout(seconds_until(self.deadline))
        return super().recv_into(*args)

    def send(self, *args: Any) -> int:
        """As the base's, by the deadline; ``sendall`` comes through here too."""
        self.settimeout(seconds_until(self.deadline))
        return super().send(*args)


def tls_context(*, verify: bool = True) -> ssl.SSLContext:
    """TLS with the system's certificate authorities, for sockets with a deadline."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.sslsocket_class = DeadlineTlsSocket
    return context


def connect(
    host: str, port: int, deadline: float, options: Iterable[SocketOption] = ()
) -> DeadlineSocket:
    """A connection to the first address of ``host`` that answers; raises OSError.

    All addresses share the deadline. Looking the name up is not covered by it: nothing in the
    standard library can interrupt the resolver.
    """
    failure: OSError | None = None
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for place, (family, kind, protocol, _, address) in enumerate(addresses):
        connection = DeadlineSocket(family, kind, protocol)
        try:
            for option in options:
                connection.setsockopt(*option)
            # An address that swallows packets must leave time for those behind it.
            share = 2 if place + 1 < len(addresses) else 1
            connection.settimeout(seconds_until(deadline) / share)
            connection.connect(address)
            connection.settimeout(seconds_until(deadline))
        except OSError as error:
            connection.close()
            failure = error
        else:
            connection.deadline = deadline
            return connection
    raise failure or OSError("the name has no addresses")
