"""Who may call the admin endpoints: callers that know a token."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable

from flask import g, request

from alerts.settings.env import Secret
from alerts.settings.tokens import LEAST_TOKEN, MAKE_TOKEN, usable_tokens
from app.current import settings, wrong_tokens
from app.errors import ApiError


def check_token() -> None:
    """Let only callers with a token pass: 503 where none is set that opens anything, 401 without
    it, 403 where one that may read is to write."""
    ours = settings()
    if not ours.internal_tokens and not ours.read_tokens:
        text = "INTERNAL_RUNNER_TOKEN is not set on the server; set it and start again."
        raise ApiError(503, "token_not_configured", text)
    admins = usable_tokens(ours, ours.internal_tokens)
    readers = usable_tokens(ours, ours.read_tokens)
    if not admins and not readers:
        # Whatever was sent: else the answer would tell which guess was right.
        text = f"The token on the server has fewer than {LEAST_TOKEN} characters: {MAKE_TOKEN}"
        raise ApiError(503, "token_too_short", text)
    sent = _sent()
    may_write, may_read = _is_one_of(sent, admins), _is_one_of(sent, readers)
    if not (may_write or may_read):
        if sent:
            wrong_tokens().slow_down(request.remote_addr or "")
        raise ApiError(401, "unauthorized", "The header x-internal-token is missing or wrong.")
    if not may_write and request.method not in ("GET", "HEAD", "OPTIONS"):
        raise ApiError(403, "read_only_token", "This token may read and change nothing.")
    g.token_key_id = hashlib.sha256(sent).hexdigest()[:8]


def refuse_body() -> None:
    """Parameters stand in the query: one that a body holds would be left out without a word."""
    if (
        request.headers.get("Content-Length", "0").strip("0")
        or "Transfer-Encoding" in request.headers
    ):
        text = "Parameters go into the query, not into a body; nothing was done."
        raise ApiError(400, "body_not_taken", text)


def _sent() -> bytes:
    given = request.headers.get("x-internal-token", "")
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if not given and scheme.lower() == "bearer":
        given = credentials.strip()
    return given.encode("latin-1", "replace")  # as which header values arrive decoded


def _is_one_of(sent: bytes, tokens: Iterable[Secret]) -> bool:
    """Compared are the bytes, all of them each time, also those that no encoding has."""
    matches = [hmac.compare_digest(sent, os.fsencode(token.reveal())) for token in tokens]
    return any(matches)
