"""Token authentication for the admin endpoints."""

from __future__ import annotations

import hashlib
import hmac

from flask import g, request

from app.current import settings
from app.errors import ApiError


def check_token() -> None:
    """Reject callers without the token: 503 if none is configured, otherwise 401."""
    tokens = settings().internal_tokens
    if not tokens:
        text = "INTERNAL_RUNNER_TOKEN is not set on the server; set it and start again."
        raise ApiError(503, "token_not_configured", text)
    given = request.headers.get("x-internal-token", "")
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if not given and scheme.lower() == "bearer":
        given = credentials.strip()
    # Header values arrive decoded as latin-1. Compare the bytes with every token, in constant time.
    sent = given.encode("latin-1", "replace")
    matches = [hmac.compare_digest(sent, token.reveal().encode()) for token in tokens]
    if not any(matches):
        raise ApiError(401, "unauthorized", "The header x-internal-token is missing or wrong.")
    g.token_key_id = hashlib.sha256(sent).hexdigest()[:8]
