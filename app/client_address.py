"""Whom a request is counted to where requests are limited."""

from __future__ import annotations

import ipaddress

from flask import request

_IPv6_BITS = 64  # what one customer of a network is usually given


def client_address() -> str:
    """The client's address as it is for limits; of IPv6 its network. Empty if there is none.

    Behind a proxy, which has an address of an inner network, it is the last one that the proxy
    names in X-Forwarded-For: those before it are the client's own words. Where several proxies
    stand in a row many clients may share one, so limits by address are to be generous.
    """
    peer = _parse(request.remote_addr or "")
    if peer is not None and not peer.is_global:
        peer = _parse(request.headers.get("X-Forwarded-For", "").rpartition(",")[2]) or peer
    if peer is None:
        return ""
    if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped is None:
        return str(ipaddress.ip_network((peer, _IPv6_BITS), strict=False))
    return str(getattr(peer, "ipv4_mapped", None) or peer)


def _parse(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text.strip())
    except ValueError:
        return None
