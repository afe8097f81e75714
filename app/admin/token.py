"""Who may call the admin endpoints: callers that know a token."""

from __future__ import annotations

from flask import g, request

from app.current import wrong_tokens
from app.errors import ApiError
from app.tokens import SAFE_METHODS, holder_of, read_only

_MISSING = "No token was sent: the header x-internal-token takes that of INTERNAL_RUNNER_TOKEN."
_REFUSED = (
    "The token that was sent is none of those that the web app was started with: the right one is "
    "in its variable INTERNAL_RUNNER_TOKEN, or for reading alone in INTERNAL_READ_TOKEN. After a "
    "change there the web app has to be started anew."
)


def check_token() -> None:
    """Let only callers with a token pass: 503 where none is set that opens anything, 401 without
    it, 403 where one that may read is to write."""
    sent = _sent()
    holder = holder_of(sent)
    if holder is None:
        if sent:
            wrong_tokens().slow_down(request.remote_addr or "")
        raise ApiError(401, "unauthorized", _REFUSED if sent else _MISSING)
    if not holder.may_write and request.method not in SAFE_METHODS:
        raise read_only()
    g.token_key_id = holder.key_id


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
