"""All error answers: JSON with a code and a sentence, whatever went wrong; under ``/ops`` the same
as a page."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import psycopg2
from flask import Flask, Response, current_app, jsonify, request
from psycopg2.errors import CharacterNotInRepertoire, UntranslatableCharacter
from werkzeug.exceptions import HTTPException

from alerts import VERSION, db, words
from alerts.health.around import lacking
from alerts.words import Clockface
from app.current import database, settings

# Endpoints that answer plain text to those who prefer it, also when it is an error.
TEXTS = ("admin.get_health",)
log = logging.getLogger("app.errors")


class ApiError(Exception):
    """An error answer: HTTP status, stable code, and a sentence for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def register(app: Flask) -> None:
    """Register the handlers for every error of the app."""
    app.register_error_handler(ApiError, _api_error)
    app.register_error_handler(psycopg2.Error, _database_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _bug)


def show_as_pages(app: Flask, prefix: str, page: Callable[[int, str, str], Response]) -> None:
    """Below ``prefix``, answer errors with ``page(status, code, message)``."""
    app.extensions["alerts_error_pages"] = (prefix, page)


def is_below(path: str, prefix: str) -> bool:
    """Whether the path is the prefix or lies below it."""
    return path == prefix or path.startswith(f"{prefix}/")


def _answer(status: int, code: str, message: str) -> Response:
    prefix, page = current_app.extensions["alerts_error_pages"]
    if is_below(request.path, prefix):
        response: Response = page(status, code, message)
    elif request.endpoint in TEXTS and wants_text():
        response = Response(f"{message}\n", mimetype="text/plain")
    else:
        response = jsonify({"error": {"code": code, "message": message}})
    response.status_code = status
    return response


def wants_text() -> bool:
    """Whether the client prefers plain text; programs that say nothing get JSON."""
    return request.accept_mimetypes.best_match(("application/json", "text/plain")) == "text/plain"


def _api_error(error: ApiError) -> Response:
    response = _answer(error.status, error.code, error.message)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"  # HTTP asks for a scheme with each 401
    return response


def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    code = error.name.lower().replace(" ", "_")
    response = _answer(status, code, _SENTENCES.get(status, f"{error.name}."))
    allow = dict(error.get_headers()).get("Allow")
    if allow:
        response.headers["Allow"] = allow
    return response


_SENTENCES = {
    404: "There is nothing at this address.",
    405: "This address does not support this method.",
}


def log_database_error(error: psycopg2.Error) -> None:
    """Say in the log what the database said."""
    log.error("the database failed: %s", error)  # the handler describes and scrubs it


def log_bug(error: Exception) -> None:
    """Leave a traceback in the log."""
    log.error("a request failed", exc_info=error)


def _database_error(error: psycopg2.Error) -> Response:
    log_database_error(error)
    if db.lacks_migrations(error):
        return _answer(503, "migrations_pending", f"{_lacking()}; {db.MIGRATE}.")
    if isinstance(error, (CharacterNotInRepertoire, UntranslatableCharacter)):
        text = "A parameter contains characters that the database cannot store."
        return _answer(400, "bad_parameter", text)
    if isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError)):
        return _answer(503, "database_unavailable", _unavailable())
    return _answer(500, "internal_error", "The request failed; the log says why.")


def _lacking() -> str:
    """What the database lacks, named where it can be told."""
    with suppress(psycopg2.Error), database().transaction() as conn:
        names = lacking(conn)
        if names:
            which = words.verb(len(names), "migration", "migrations")
            return f"The database lacks the {which} {words.listed(names)} of version {VERSION}"
    return "The database lacks tables that this version needs"


def _unavailable() -> str:
    """That the database is down, since when as far as this process knows, and what to do."""
    since, zone = database().failing_since, settings().timezone
    told = f", since {Clockface(datetime.now(UTC), zone).at(since)}" if since else ""
    return (
        f"The database does not answer{told}. Nothing is lost: messages wait. See whether it runs, "
        "then whether DATABASE_URL still leads to it."
    )


def _bug(error: Exception) -> Response:
    log_bug(error)
    return _answer(500, "internal_error", "The request failed; the log says why.")
