"""Where a mail server is, and the name that we introduce ourselves with to it.

Many relays refuse a name that cannot be one: without a dot, or the loopback address of somebody
else's machine.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass

from alerts.channels.transport.addresses import ascii_domain
from alerts.settings.env import Secret

# Names that no name server outside knows (RFC 6761, RFC 6762, RFC 8375, and habit).
_NOT_PUBLIC = frozenset(
    {"local", "localdomain", "localhost", "internal", "intranet", "lan", "home", "arpa", "corp"}
    | {"test", "example", "invalid", "onion"}
)
_LITERAL = re.compile(r"\[(IPv6:)?([0-9A-Fa-f:.]+)\]", re.IGNORECASE)


@dataclass(frozen=True)
class SmtpServer:
    """A mail server: ``tls_from_start`` for smtps, STARTTLS otherwise (optional on loopback).

    ``ehlo_name``: what to introduce ourselves as, where that is set.
    """

    host: str
    port: int
    user: str | None
    password: Secret | None
    tls_from_start: bool
    ehlo_name: str | None = None


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine, without asking a name server."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def parse_ehlo_name(text: str) -> str | None:
    """A host name with a dot, or an address literal. Raises ValueError."""
    if literal := _LITERAL.fullmatch(text):
        return _literal(literal[2])
    domain = ascii_domain(text)
    if "." not in domain or domain.rpartition(".")[2].isdigit():
        raise ValueError("no full host name")
    return domain


def own_name(connection: socket.socket) -> str:
    """This host's name if others can know it, else our end of the connection as a literal.

    Asking DNS for the name could take minutes.
    """
    name = socket.gethostname()
    try:
        domain = parse_ehlo_name(name)
    except ValueError:
        domain = None
    if domain and not domain.startswith("[") and not _is_private(domain):
        return domain
    return _literal(connection.getsockname()[0])


def _is_private(domain: str) -> bool:
    return domain.rpartition(".")[2].lower() in _NOT_PUBLIC


def _literal(text: str) -> str:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return f"[IPv6:{address}]"
        address = address.ipv4_mapped
    return f"[{address}]"
