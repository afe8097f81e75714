"""Sockets that keep one deadline over a whole step, however slowly the other side drips.

A socket's own timeout starts anew with every byte received. These count down to a moment.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable
from typing import Any

from alerts.channels.transport.clock import CallClock

SocketOption = tuple[int, int, int | bytes]
# What OpenSSL says to bytes that are no TLS: a greeting, an HTTP answer.
_NO_TLS = frozenset(
    {
        "WRONG_VERSION_NUMBER",
        "RECORD_LAYER_FAILURE",
        "PACKET_LENGTH_TOO_LONG",
        "UNKNOWN_PROTOCOL",
        "HTTP_REQUEST",
        "HTTPS_PROXY_REQUEST",
    }
)


class DeadlineSocket(socket.socket):
    """A connected socket on which every operation ends by the deadline of :attr:`clock`."""

    clock: CallClock

    def recv_into(self, *args: Any) -> int:
        """As the base's, by the deadline."""
        self.settimeout(self.clock.seconds_left())
        return super().recv_into(*args)

    def sendall(self, *args: Any) -> None:
        """As the base's, by the deadline."""
        self.settimeout(self.clock.seconds_left())
        super().sendall(*args)


class DeadlineTlsSocket(ssl.SSLSocket):
    """The same over TLS."""

    clock: CallClock

    def recv_into(self, *args: Any) -> int:
        """As the base's, by the deadline."""
        self.settimeout(self.clock.seconds_left())
        return super().recv_into(*args)

    def send(self, *args: Any) -> int:
        """As the base's, by the deadline; ``sendall`` comes through here too."""
        self.settimeout(self.clock.seconds_left())
        return super().send(*args)


def use_clock(connection: object, clock: CallClock) -> None:
    """From now on the connection keeps the deadlines of this call."""
    if isinstance(connection, DeadlineSocket | DeadlineTlsSocket):
        connection.clock = clock


def tls_context(*, verify: bool = True) -> ssl.SSLContext:
    """TLS with the system's certificate authorities, for sockets with a deadline."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.sslsocket_class = DeadlineTlsSocket
    return context


def causes(error: BaseException | None) -> Iterable[BaseException]:
    """The error and those it wraps: libraries hand the cause on as an argument."""
    for _ in range(5):
        if error is None:
            return
        yield error
        error = next((arg for arg in error.args if isinstance(arg, BaseException)), None)


def untrusted(error: BaseException) -> str | None:
    """OpenSSL's verification code, where the server's certificate was refused."""
    for cause in causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"code {cause.verify_code}"
    return None


def met_no_tls(error: BaseException) -> bool:
    """Whether the other side answered a TLS handshake with something that is no TLS."""
    return any(isinstance(c, ssl.SSLError) and c.reason in _NO_TLS for c in causes(error))


def connect(
    host: str, port: int, clock: CallClock, options: Iterable[SocketOption] = ()
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
            connection.settimeout(clock.seconds_left() / share)
            connection.connect(address)
            connection.settimeout(clock.seconds_left())
        except OSError as error:
            connection.close()
            failure = error
        else:
            connection.clock = clock
            return connection
    raise failure or OSError("the name has no addresses")
