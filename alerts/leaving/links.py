"""The links for unsubscribing: a user's id and a channel, signed.

They do not expire, since a mail may be old, and hold no address. Whoever holds one may switch that
channel off and on for that user, and do nothing else.
"""

from __future__ import annotations

import hmac
import re
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import idna

PATH = "/alerts/unsubscribe/"
LINKED_CHANNELS = ("email",)  # whose messages carry a link
KEY_PURPOSE = "unsubscribe"  # of the key in alerts_keys

# 128 bits of HMAC-SHA256. Letters, digits and hyphens only, and no hyphen at the end: programs
# that look for links in plain text may leave out what follows the last of them.
_MAC_BYTES = 16
_SIGNED = re.compile(rf"({'|'.join(LINKED_CHANNELS)})-([1-9][0-9]{{0,18}})-([0-9a-f]{{32}})")
_URI = re.compile(r"[!#-;=?-\[\]_a-z~]+")  # nothing that would end it within < and >


class Leaver(NamedTuple):
    """Whom a link is for, and what it switches off."""

    user_id: int
    channel: str


def sign(key: bytes, user_id: int, channel: str) -> str:
    """The end of the link, such as ``email-42-`` and 32 hex digits."""
    claim = f"{channel}-{user_id}"
    return f"{claim}-{hmac.digest(key, claim.encode(), 'sha256')[:_MAC_BYTES].hex()}"


def looks_signed(text: str) -> bool:
    """Whether the text has the form of a signed one, so that checking it is worthwhile."""
    return _SIGNED.fullmatch(text) is not None


def read(key: bytes, text: str) -> Leaver | None:
    """Whom a signed text is for; None where we did not sign it."""
    match = _SIGNED.fullmatch(text)
    if match is None:
        return None
    found = Leaver(int(match[2]), match[1])
    return found if hmac.compare_digest(text, sign(key, *found)) else None


def base_of(app_base_url: str | None) -> str | None:
    """What a signed text is put behind, as plain ASCII; None where there is no usable address."""
    if app_base_url is None:
        return None
    parts = urlsplit(app_base_url)
    host = parts.netloc
    if not host.isascii():
        try:
            name = idna.encode(parts.hostname or "", uts46=True).decode()
        except idna.IDNAError:
            return None
        host = name if parts.port is None else f"{name}:{parts.port}"
    path = quote(parts.path, safe="/%:@!$&'()*+,;=~")
    base = f"{parts.scheme}://{host}{path}{PATH}"
    return base if _URI.fullmatch(base) else None


def is_one_click(base: str) -> bool:
    """Whether mail programs may be told of it: RFC 8058 asks for HTTPS."""
    return base.startswith("https://")
