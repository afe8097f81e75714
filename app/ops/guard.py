"""What a request must be before any page sees it: from our own pages, signed in, allowed."""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from flask import Response, g, make_response, render_template, request

from app.errors import ApiError
from app.ops import session
from app.ops.session import Session
from app.tokens import SAFE_METHODS, holders, read_only

LARGEST_FORM = 16_384  # bytes; the worker waits for one that is not longer
# Set while a browser that follows a link from another site loads the page once more.
AGAIN = "__Host-alerts_ops_again"
FORM = "application/x-www-form-urlencoded"


def check() -> Response | None:
    """Before every page but the sign-in: the session in ``g.session``, or an answer in its place.

    A read-only session may ask and change nothing. Raises :class:`ApiError`.
    """
    if (answer := check_origin()) is not None:
        return answer
    holders()  # 503 where no token is set
    g.session = signed_in()
    if g.session is None:
        raise ApiError(401, "unauthorized", _SIGN_IN if is_read() else _SIGN_IN_AGAIN)
    if not is_read():
        sent = request.form.get("csrf", "")
        if not hmac.compare_digest(sent.encode(), g.session.csrf.encode()):
            text = "This form is out of date. Nothing was done; load the page and try again."
            raise ApiError(403, "form_expired", text)
        if not g.session.may_write and request.endpoint != "ops.sign_out":
            raise read_only()
    return None


_SIGN_IN = "Sign in with the token."
_SIGN_IN_AGAIN = "Your session has ended, and nothing was done. Sign in and try again."


def check_origin() -> Response | None:
    """Refuse what another site sends. A link from elsewhere comes without the Strict cookie: it
    is answered once by a page that loads itself again, then as one of our own pages' links."""
    site = request.headers.get("Sec-Fetch-Site")
    if is_read():
        if site != "cross-site" or signed_in() or AGAIN in request.cookies:
            return None
        if request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate":
            raise _foreign()
        answer = make_response(render_template("ops/again.html"))
        answer.set_cookie(
            AGAIN, "1", max_age=10, path="/", secure=True, httponly=True, samesite="Lax"
        )
        return answer
    origin = request.headers.get("Origin")
    if site is None and origin and urlsplit(origin).netloc != request.host:
        raise _foreign()  # a browser of before Sec-Fetch-Site
    if site not in (None, "same-origin"):
        raise _foreign()
    check_form()
    return None


def check_form() -> None:
    """Refuse, before reading it, any body that is not a small form."""
    if "Transfer-Encoding" in request.headers:
        raise ApiError(411, "length_required", "A form says how long it is.")
    if (request.content_length or 0) > LARGEST_FORM:
        raise ApiError(413, "request_entity_too_large", "No form of these pages is that long.")
    if request.content_length and request.mimetype != FORM:
        raise ApiError(415, "unsupported_media_type", "These pages take their own forms only.")


def signed_in() -> Session | None:
    """The request's session."""
    if "found_session" not in g:
        g.found_session = session.current()
    found: Session | None = g.found_session
    return found


def is_read() -> bool:
    """Whether the request changes nothing."""
    return request.method in SAFE_METHODS


def _foreign() -> ApiError:
    text = "Another site sent this request. Nothing was done; open the page itself."
    return ApiError(403, "cross_site", text)
