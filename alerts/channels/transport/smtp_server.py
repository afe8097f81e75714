"""A mail server's address, and the EHLO name that we use with it.

Many relays refuse a name that cannot be valid: one without a dot, or a loopback address.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass

from alerts.channels.transport.addresses import ascii_domain
from alerts.settings.env import Secret

# Top-level names without public DNS (RFC 6761, RFC 6762, RFC 8375, and common use).
_NOT_PUBLIC = frozenset(
    {"local", "localdomain", "localhost", "internal", "intranet", "lan", "home", "arpa", "corp"}
    | {"test", "example", "invalid", "onion"}
)
_LITERAL = re.compile(r"\[(IPv6:)?([0-9A-Fa-f:.]+)\]", re.IGNORECASE)


@dataclass(frozen=True)
class SmtpServer:
    """A mail server: ``tls_from_start`` for smtps, STARTTLS otherwise (optional on loopback).

    ``ehlo_name``: the configured EHLO name, if any.
    """

    host: str
    port: int
    user: str | None
    password: Secret | None
    tls_from_start: bool
    ehlo_name: str | None = None


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine, without a DNS lookup."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def parse_ehlo_name(text: str) -> str | None:
    """Parse a host name with a dot, or an address literal. Raises ValueError."""
    if literal := _LITERAL.fullmatch(text):
        return _literal(literal[2])
    domain = ascii_domain(text)
    if "." not in domain or domain.rpartition(".")[2].isdigit():
        raise ValueError("no full host name")
    return domain


def own_name(connection: socket.socket) -> str:
    """Return this host's name if it can be public, else the connection's own address literal.

    The name is not looked up, because DNS could take minutes.
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
