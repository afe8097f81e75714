"""Pages for the operator, made by the server from the answers of the JSON endpoints."""

from __future__ import annotations

from flask import Blueprint, Flask, Response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from app.errors import is_below, show_as_pages
from app.ops import acting, files, guard, messages, overview, rendering, runs, setup, signing

PREFIX = "/ops"
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

PAGES = (
    ("", overview.overview, ("GET",)),
    ("/runs", runs.runs, ("GET",)),
    ("/runs/<id>", runs.run, ("GET",)),
    ("/failures", overview.failures, ("GET",)),
    ("/messages", messages.messages, ("GET",)),
    ("/messages/<id>", messages.message, ("GET",)),
    ("/digests/<id>", messages.digest, ("GET",)),
    ("/explain", messages.explain, ("GET",)),
    ("/retry", acting.retry, ("GET", "POST")),
    ("/pause", acting.pause, ("GET", "POST")),
    ("/audit", acting.audit, ("GET",)),
    ("/setup", setup.setup, ("GET", "POST")),
    ("/sign-out", signing.sign_out, ("POST",)),
)


def install(app: Flask) -> None:
    """Add the pages, their error pages and headers, and the way there from ``/``."""
    ops = Blueprint("ops", __name__, url_prefix=PREFIX, template_folder="templates")
    ops.before_request(_guarded)
    for path, view, methods in PAGES:
        ops.add_url_rule(path, view.__name__, view, methods=list(methods))
    ops.add_url_rule("/login", "sign_in", signing.sign_in, methods=["GET", "POST"])
    ops.add_url_rule("/static/<name>", "static", files.send_file)
    app.register_blueprint(ops)
    app.before_request(_to_pages)
    rendering.prepare(app)
    show_as_pages(app, PREFIX, rendering.error_page)
    app.after_request(_with_headers)


def _guarded() -> Response | None:
    if request.endpoint == "ops.static":
        return None
    if request.endpoint == "ops.sign_in":
        return guard.check_origin()
    return guard.check()


def _with_headers(response: Response) -> Response:
    if is_below(request.path, PREFIX):
        response.headers.update(_HEADERS)
    return response


def _to_pages() -> AnyResponse | None:
    """Redirect people at ``/``; programs still get the JSON 404."""
    for_people = "text/html" in request.headers.get("Accept", "")
    if request.path == "/" and for_people and request.method in ("GET", "HEAD"):
        return redirect(PREFIX, 303)
    return None
