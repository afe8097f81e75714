"""Canaries: secrets and personal data that tests send through failures, then search for."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from functools import cache
from urllib.parse import quote, quote_plus

from tests.support.providers import BOT_TOKEN, BREVO_KEY, RESEND_KEY, TWILIO_SID
from tests.support.providers import TWILIO_TOKEN as TWILIO

DATABASE_PASSWORD = "Kakapo db/pa?ss&wörd"
PRODUCTION_PASSWORD = "Dodo db/pa?ss&wort"
ADMIN_TOKEN = "kookaburra-admin-token"
MAIL_PASSWORD = "Kiwi mail/pass+word%"
READ_TOKEN = "currawong-read-token-of-30"
PING_PATH = "potoo-3f6c-ping-9d1e"
SECRETS = (
    DATABASE_PASSWORD,
    ADMIN_TOKEN,
    MAIL_PASSWORD,
    BREVO_KEY,
    RESEND_KEY,
    BOT_TOKEN,
    TWILIO,
    TWILIO_SID,
    READ_TOKEN,
    PING_PATH,
    PRODUCTION_PASSWORD,
)

EMAIL = "zebrafinch.jane@canary-mail.example"  # stands behind "<id>." in the table
PHONE = "+31655501234"
CHAT = "7700155522"
HEADLINE = 'Zanzibar\'s "quetzal" terminal halts'
BODY = "Two ibis compressors & a toucan valve failed."
OWNER_EMAIL = "numbat.owner@canary-owner.example"
OWNER_CHAT = "8811266633"
PERSONAL = (EMAIL, PHONE, CHAT, HEADLINE, BODY, OWNER_EMAIL, OWNER_CHAT)
# Fragments that occur only in canaries, so that half a canary is found as well.
FRAGMENTS = {
    DATABASE_PASSWORD: ("Kakapo",),
    PRODUCTION_PASSWORD: ("Dodo",),
    ADMIN_TOKEN: ("kookaburra",),
    MAIL_PASSWORD: ("Kiwi mail",),
    BREVO_KEY: ("xkeysib-canary",),
    RESEND_KEY: ("re_canary",),
    BOT_TOKEN: ("AAcanary", "123456789:"),
    TWILIO: ("canary-token",),
    READ_TOKEN: ("currawong",),
    PING_PATH: ("potoo",),
    OWNER_EMAIL: ("numbat", "canary-owner"),
    OWNER_CHAT: (OWNER_CHAT,),
    EMAIL: ("zebrafinch", "canary-mail"),
    PHONE: ("31655501234",),
    CHAT: (CHAT,),
    HEADLINE: ("Zanzibar", "quetzal"),
    BODY: ("ibis compressors", "toucan valve"),
}


@cache
def forms(canary: str | bytes) -> frozenset[str]:
    """The canary and its fragments, plain, JSON- and URL-encoded; the whole also in base64. Bytes:
    in hex, in base64 and as Python shows them."""
    raw = canary if isinstance(canary, bytes) else canary.encode()
    found = {raw.hex(), raw.hex().upper(), repr(raw)[2:-1]} if raw is canary else set()
    for text in () if isinstance(canary, bytes) else (canary, *FRAGMENTS.get(canary, ())):
        found |= {text, json.dumps(text)[1:-1], quote(text), quote(text, safe="")}
        found |= {quote_plus(text), quote(text, safe="").lower()}
    for padding in (b"", b"x", b"xx"):
        # The part that stays the same whatever surrounds it.
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(padding + raw).decode()
            found.add(text[4 if padding else 0 : -4])
    return frozenset(found)


def encodings(canaries: Iterable[str]) -> str:
    """Return every canary plain, URL-encoded and in base64, as one text."""
    parts = []
    for canary in canaries:
        parts += [canary, quote(canary, safe=""), base64.b64encode(canary.encode()).decode()]
    return " ".join(parts)


def assert_clean(
    where: str, text: str, canaries: Iterable[str | bytes] = (*SECRETS, *PERSONAL)
) -> None:
    """Assert that ``text`` contains no canary in any form."""
    for canary in canaries:
        for needle in forms(canary):
            place = text.find(needle)
            if place >= 0:
                around = text[max(0, place - 150) : place + 100]
                raise AssertionError(f"{where} holds {needle!r} of {canary!r}: ...{around}...")
