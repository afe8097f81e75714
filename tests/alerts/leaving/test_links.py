"""Signed links: they hold a user and a channel, and nobody but us makes one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.leaving import links
from alerts.leaving.links import Leaver

KEY = bytes(range(32))
KEYS = st.binary(min_size=32, max_size=32)
IDS = st.integers(1, 2**63 - 1)
SIGNED_42 = links.sign(KEY, 42, "email")


@given(KEYS, IDS, st.sampled_from(links.LINKED_CHANNELS))
def test_signed_is_read_again_and_is_safe_in_a_url(key: bytes, user_id: int, channel: str) -> None:
    text = links.sign(key, user_id, channel)
    assert links.read(key, text) == Leaver(user_id, channel)
    assert links.looks_signed(text)
    assert re.fullmatch(r"[a-z0-9-]{1,64}", text)


@given(IDS, IDS, KEYS)
def test_one_users_signature_is_of_no_use_for_another_or_with_another_key(
    mine: int, other: int, key: bytes
) -> None:
    text = links.sign(KEY, mine, "email")
    if mine != other:
        moved = text.replace(f"-{mine}-", f"-{other}-")
        assert links.looks_signed(moved)
        assert links.read(KEY, moved) is None
    if key != KEY:
        assert links.read(key, text) is None


@given(st.integers(0, len(SIGNED_42) - 1), st.characters())
def test_one_changed_character_makes_it_invalid(place: int, character: str) -> None:
    changed = SIGNED_42[:place] + character + SIGNED_42[place + 1 :]
    if changed != SIGNED_42:
        assert links.read(KEY, changed) is None


@given(st.text(st.characters(codec=None), max_size=80))
def test_anything_else_is_invalid_and_no_error(text: str) -> None:
    assert links.read(KEY, text) is None


@pytest.mark.parametrize(
    "text",
    [
        SIGNED_42[:-1],
        SIGNED_42 + "0",
        SIGNED_42 + "\n",
        " " + SIGNED_42,
        SIGNED_42.upper(),
        SIGNED_42.replace("-42-", "-042-"),
        SIGNED_42.replace("-42-", "-٤٢-"),
        SIGNED_42.replace("email", "sms"),
        SIGNED_42.replace("-", "", 1),
        "email-42-",
        "",
    ],
)
def test_another_spelling_of_it_is_invalid(text: str) -> None:
    assert links.read(KEY, text) is None


@pytest.mark.parametrize(
    ("address", "base"),
    [
        ("https://app.example.com", "https://app.example.com/alerts/unsubscribe/"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000/alerts/unsubscribe/"),
        ("https://example.com/app", "https://example.com/app/alerts/unsubscribe/"),
        ("https://example.com/ä<b>", "https://example.com/%C3%A4%3Cb%3E/alerts/unsubscribe/"),
        ("https://example.com/a%20b", "https://example.com/a%20b/alerts/unsubscribe/"),
        ("https://bücher.example", "https://xn--bcher-kva.example/alerts/unsubscribe/"),
        ("https://bücher.example:8443", "https://xn--bcher-kva.example:8443/alerts/unsubscribe/"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443/alerts/unsubscribe/"),
        ("https://a>b.example", None),
        ("https://a\x01b.example", None),
        ("https://ä\x01.example", None),
        (None, None),
    ],
)
def test_base_is_ascii_that_a_header_can_hold(address: str | None, base: str | None) -> None:
    assert links.base_of(address) == base
