"""Whom a request is counted to: the client, behind a proxy or not, but never what it claims."""

from __future__ import annotations

import pytest
from flask import Flask

from app.client_address import client_address

CLIENT, LIE, PROXY = "203.0.114.7", "198.51.101.1", "10.0.0.3"


@pytest.mark.parametrize(
    ("peer", "forwarded", "counted"),
    [
        (CLIENT, None, CLIENT),
        (CLIENT, LIE, CLIENT),  # who is no proxy of ours is not believed
        (PROXY, CLIENT, CLIENT),
        (PROXY, f"{LIE}, {CLIENT}", CLIENT),
        (PROXY, f"{LIE},{CLIENT}", CLIENT),
        ("127.0.0.1", CLIENT, CLIENT),
        ("100.64.0.9", CLIENT, CLIENT),
        ("::1", "2001:4860:1:2:3:4:5:6", "2001:4860:1:2::/64"),
        ("2001:4860:1:2:aaaa::1", None, "2001:4860:1:2::/64"),
        (f"::ffff:{CLIENT}", None, CLIENT),
        (PROXY, None, PROXY),
        (PROXY, "", PROXY),
        (PROXY, f"{CLIENT}, unknown", PROXY),
        (PROXY, "x" * 10_000, PROXY),
        ("", CLIENT, ""),
        (None, None, ""),
    ],
)
def test_client_is_whom_the_nearest_proxy_names(
    peer: str | None, forwarded: str | None, counted: str
) -> None:
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    with Flask("x").test_request_context(headers=headers, environ_base={"REMOTE_ADDR": peer}):
        assert client_address() == counted
