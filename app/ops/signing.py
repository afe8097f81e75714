"""Signing in and out."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import redirect, request
from werkzeug.wrappers import Response as AnyResponse

from app.current import wrong_tokens
from app.errors import ApiError, is_below
from app.ops import guard, session
from app.ops.rendering import sign_in_page
from app.tokens import holder_of, holders


def sign_in() -> str | AnyResponse:
    """Exchange the token for a cookie. Wrong tokens are answered ever more slowly, counted together
    with those of the JSON endpoints."""
    holders()
    if guard.is_read():
        return redirect("/ops", 303) if guard.signed_in() else sign_in_page()
    sent = request.form.get("token", "").strip().encode("utf-8", "surrogateescape")
    holder = holder_of(sent)
    if holder is None:
        if sent:
            wrong_tokens().slow_down(request.remote_addr or "")
        raise ApiError(401, "unauthorized", "That is none of the tokens that are set here.")
    answer = redirect(_wanted(request.form.get("wanted", "")), 303)
    session.begin(answer, holder)  # type: ignore[arg-type]
    return answer


def sign_out() -> AnyResponse:
    """Forget the session in this browser."""
    answer = redirect("/ops/login", 303)
    session.end(answer)  # type: ignore[arg-type]
    return answer


def _wanted(address: str) -> str:
    """Where to go next: always one of our own pages, whatever the form says."""
    parts = urlsplit(address)
    ours = not parts.scheme and not parts.netloc and is_below(parts.path, "/ops")
    return address if ours and address.isascii() and address.isprintable() else "/ops"
