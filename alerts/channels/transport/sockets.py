"""Sockets with one deadline for a whole step, however slowly the other side sends.

A plain socket timeout restarts with every byte received; these sockets have a fixed deadline.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable
from typing import Any

from alerts.channels.transport.clock import CallClock

SocketOption = tuple[int, int, int | bytes]
# OpenSSL's reasons for bytes that are not TLS, such as an SMTP greeting or an HTTP answer.
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
        """Like the base method, with the deadline."""
        self.settimeout(self.clock.seconds_left())
        return super().recv_into(*args)

    def sendall(self, *args: Any) -> None:
        """Like the base method, with the deadline."""
        self.settimeout(self.clock.seconds_left())
        super().sendall(*args)


class DeadlineTlsSocket(ssl.SSLSocket):
    """The same over TLS."""

    clock: CallClock

    def recv_into(self, *args: Any) -> int:
        """Like the base method, with the deadline."""
        self.settimeout(self.clock.seconds_left())
        return super().recv_into(*args)

    def send(self, *args: Any) -> int:
        """Like the base method, with the deadline; ``sendall`` calls this too."""
        self.settimeout(self.clock.seconds_left())
        return super().send(*args)


def use_clock(connection: object, clock: CallClock) -> None:
    """Apply the deadlines of this call to the connection from now on."""
    if isinstance(connection, DeadlineSocket | DeadlineTlsSocket):
        connection.clock = clock


def tls_context(*, verify: bool = True) -> ssl.SSLContext:
    """Return a TLS context with the system's certificate authorities and deadline sockets."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.sslsocket_class = DeadlineTlsSocket
    return context


def causes(error: BaseException | None) -> Iterable[BaseException]:
    """Yield the error and those it wraps; libraries pass the cause as an argument."""
    for _ in range(5):
        if error is None:
            return
        yield error
        error = next((arg for arg in error.args if isinstance(arg, BaseException)), None)


def untrusted(error: BaseException) -> str | None:
    """Return OpenSSL's verification code if the server's certificate was refused."""
    for cause in causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"code {cause.verify_code}"
    return None


def met_no_tls(error: BaseException) -> bool:
    """Whether the other side answered a TLS handshake with something other than TLS."""
    return any(isinstance(c, ssl.SSLError) and c.reason in _NO_TLS for c in causes(error))


def connect(
    host: str, port: int, clock: CallClock, options: Iterable[SocketOption] = ()
) -> DeadlineSocket:
    """Connect to the first address of ``host`` that answers; raises OSError.

    All addresses share the deadline. The DNS lookup is not covered by it, since nothing in the
    standard library can interrupt the resolver.
    """
    failure: OSError | None = None
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for place, (family, kind, protocol, _, address) in enumerate(addresses):
        connection = DeadlineSocket(family, kind, protocol)
        try:
            for option in options:
                connection.setsockopt(*option)
            # An address that drops packets must leave time for the remaining ones.
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
