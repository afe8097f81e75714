"""The pages behind the links of emails: leaving, and undoing that.

Whoever has a link needs no session and no cookie: mail providers post to it on behalf of their
users (RFC 8058). Following it changes nothing, since mail scanners do that too. No body is read:
which form a client gives to its one field does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import psycopg2
from flask import Blueprint, Response, current_app
from werkzeug.exceptions import HTTPException

from alerts import db
from alerts.leaving import links, unsubscribe
from alerts.leaving.links import Leaver
from alerts.leaving.unsubscribe import Standing
from app.client_address import client_address
from app.current import business_now, database
from app.errors import log_bug, log_database_error
from app.unsubscribe import pages
from app.unsubscribe.gate import Gate

# act(conn, leaver) answers how things are then.
Act = Callable[[db.Connection, Leaver], Standing]


def unsubscribe_blueprint() -> Blueprint:
    """The routes of the links; every answer under them is a page."""
    blueprint = Blueprint("unsubscribe", __name__, template_folder="templates")
    blueprint.record_once(lambda state: state.app.extensions.update(alerts_unsubscribe=Gate()))
    routes = {"<path:signed>": leave, "<signed>/undo": undo}
    for path, act in routes.items():
        blueprint.get(links.PATH + path)(look)  # also for whoever loads the page of a POST again
        blueprint.post(links.PATH + path)(act)
    nothing = {"signed": ""}
    blueprint.add_url_rule(links.PATH, "cut", look, methods=["GET", "POST"], defaults=nothing)
    blueprint.register_error_handler(psycopg2.Error, _database_failed)
    blueprint.register_error_handler(Exception, _failed)
    blueprint.after_request(pages.protect)
    return blueprint


def look(signed: str) -> Response:
    """How things are, with a button to change it."""
    return _answer(signed, unsubscribe.standing, read_only=True)


def leave(signed: str) -> Response:
    """Switch the channel off: from a mail provider's server, or by the button."""
    return _answer(signed, lambda conn, who: unsubscribe.unsubscribe(conn, who, business_now()))


def undo(signed: str) -> Response:
    """Switch it on again, as it was."""
    return _answer(signed, lambda conn, who: unsubscribe.resubscribe(conn, who, business_now()))


def _answer(signed: str, act: Act, *, read_only: bool = False) -> Response:
    gate: Gate = current_app.extensions["alerts_unsubscribe"]
    address = client_address()
    leaver = gate.leaver(signed)
    if leaver is None:
        wait = gate.wrong.wait(address)
        return _too_many(wait) if wait else pages.broken_link()
    wait = gate.by_link.wait(signed) or gate.by_address.wait(address)
    if wait:
        return _too_many(wait)
    with database().transaction(read_only=read_only) as conn:
        standing = act(conn, leaver)
    return pages.standing(signed, standing, just_now=not read_only)


def _too_many(wait: float) -> Response:
    return pages.try_later(429, math.ceil(wait))


def _database_failed(error: psycopg2.Error) -> Response:
    log_database_error(error)
    return pages.try_later(503, 30)


def _failed(error: Exception) -> Response | HTTPException:
    if isinstance(error, HTTPException):
        return error
    log_bug(error)
    return pages.try_later(500, 30)
