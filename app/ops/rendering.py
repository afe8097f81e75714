"""How pages and error pages are made from templates."""

from __future__ import annotations

from typing import Any

from flask import Flask, Response, g, make_response, render_template, request
from markupsafe import Markup, escape

from alerts.cleaning import clean_line
from alerts.words import capital
from app.current import business_now, settings
from app.ops import asking, charts, guard, words
from app.ops.files import file_address
from app.ops.moments import Moments, lasting, took

_TITLES = {
    401: "Sign in",
    403: "Not allowed",
    404: "Nothing here",
    405: "Not that way",
    503: "Not available",
}
# Statuses after which the page keeps trying by itself.
_PASSING = ("database_unavailable", "migrations_pending")
TRY_AGAIN_SECONDS = 10


def prepare(app: Flask) -> None:
    """What all templates use."""
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.globals.update(
        to=asking.address, file=file_address, words=words, charts=charts, lasting=lasting,
        channels=tuple(words.CHANNELS),
    )  # fmt: skip
    app.jinja_env.filters.update(
        safe_line=safe_line, took=took, n=words.number, begin=capital, middle=words.cut_middle
    )


def page(name: str, **values: Any) -> str:
    """A page for somebody who is signed in."""
    session = guard.signed_in()
    return render_template(
        f"ops/{name}.html",
        session=session,
        may_write=session is not None and session.may_write,
        here=request.path,
        moments=moments(),
        **values,
    )


def moments() -> Moments:
    """The request's."""
    if "ops_moments" not in g:
        utc = request.args.get(asking.UTC) == "1"
        g.ops_moments = Moments(settings().timezone, business_now(), utc=utc)
    found: Moments = g.ops_moments
    return found


def safe_line(text: object) -> Markup:
    """Somebody else's text: one line without marks that turn the rest of the page around."""
    return Markup("<bdi>{}</bdi>").format(clean_line(str(text)))


def error_page(status: int, code: str, message: str) -> Response:
    """The API's error as a page; without a session it is the sign-in page."""
    if status == 401:
        first = guard.is_read() and request.endpoint != "ops.sign_in"
        return make_response(sign_in_page("" if first else message))
    text = render_template(
        "ops/error.html",
        title=_TITLES.get(status, "That did not work"),
        status=status,
        code=code,
        message=escape(message),
        passing=code in _PASSING,
        again=TRY_AGAIN_SECONDS,
        address=request.full_path.rstrip("?") if guard.is_read() else request.path,
        here=request.path,
        moments=moments(),
        session=None,
    )
    return make_response(text)


def sign_in_page(message: str = "") -> str:
    """The sign-in page, which leads on to the page that was asked for."""
    wanted = request.full_path.rstrip("?") if guard.is_read() else request.path
    return render_template(
        "ops/sign_in.html",
        wanted="/ops" if request.endpoint == "ops.sign_in" else wanted,
        message=message,
        here=request.path,
        moments=moments(),
        session=None,
    )
