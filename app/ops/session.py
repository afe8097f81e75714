"""Who is signed in: a signed cookie, since a browser cannot send a header of ours.

The key that signs it is made from the token that was given, so there is no further secret and no
table, several processes agree, and a token that is replaced or removed ends its sessions.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from flask import Response, request
from itsdangerous import BadData, URLSafeTimedSerializer

from app.tokens import Holder, holders

COOKIE = "__Host-alerts_ops"
LASTS_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Session:
    """One browser that is signed in; ``csrf`` is what its forms carry."""

    key_id: str
    may_write: bool
    csrf: str


def begin(response: Response, holder: Holder) -> None:
    """Sign a browser in."""
    response.set_cookie(
        COOKIE, new_value(holder), max_age=LASTS_SECONDS, path="/", secure=True, httponly=True,
        samesite="Strict",
    )  # fmt: skip


def new_value(holder: Holder) -> str:
    """What the cookie of a new session holds."""
    return str(_signer(holder).dumps(secrets.token_urlsafe(12)))


def end(response: Response) -> None:
    """Sign a browser out."""
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="Strict")


def current() -> Session | None:
    """The session of the request's cookie, if it is one of ours and not over."""
    value = request.cookies.get(COOKIE, "")
    for holder in holders():
        try:
            _signer(holder).loads(value, max_age=LASTS_SECONDS)
        except BadData:
            continue
        csrf = hmac.new(_key(holder), f"form:{value}".encode(), hashlib.sha256).hexdigest()
        return Session(holder.key_id, holder.may_write, csrf)
    return None


def _signer(holder: Holder) -> URLSafeTimedSerializer:
    options = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    return URLSafeTimedSerializer(_key(holder), salt="session", signer_kwargs=options)


def _key(holder: Holder) -> bytes:
    # The permission is part of the key: a token that becomes read-only ends its sessions.
    purpose = f"alerts-ops-{'write' if holder.may_write else 'read'}"
    return hmac.new(holder.token, purpose.encode(), hashlib.sha256).digest()
