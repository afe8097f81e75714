"""The admin routes, all in one table: JSON for programs and curl, protected by a token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flask import Blueprint, Response, g

from alerts import questions
from alerts.questions import Caller, NotFound, Question, Subject
from alerts.readers import BadValue
from app.admin.token import check_token, refuse_body
from app.current import business_now, database, settings
from app.errors import ApiError, wants_text
from app.params import bad_parameter, read_query

ROUTES = (
    ("GET", "/runs", questions.RUNS),
    ("GET", "/runs/<id>", questions.RUN),
    ("GET", "/health", questions.HEALTH),
    ("GET", "/deliveries", questions.DELIVERIES),
    ("GET", "/deliveries/<id>", questions.DELIVERY),
    ("GET", "/digests", questions.DIGESTS),
    ("GET", "/digests/<id>", questions.DIGEST),
    ("GET", "/explain", questions.EXPLAIN),
    ("GET", "/actions", questions.ACTIONS),
    ("POST", "/retry_failed", questions.RETRY_FAILED),
    ("POST", "/pause", questions.PAUSE),
    ("POST", "/resume", questions.RESUME),
    ("GET", "/test_message", questions.TEST_MESSAGES),
    ("POST", "/test_message", questions.TEST_MESSAGE),
)


def admin_blueprint() -> Blueprint:
    """The routes under ``/internal/alerts/engine``; the token is checked before anything else."""
    admin = Blueprint("admin", __name__, url_prefix="/internal/alerts/engine")
    admin.before_request(check_token)
    admin.before_request(refuse_body)
    for method, path, question in ROUTES:
        name = f"{method.lower()}_{path.strip('/').replace('/', '_')}"
        admin.add_url_rule(path, name, _view(question), methods=[method])
    return admin


def _view(question: Question) -> Callable[..., tuple[Any, int] | Response]:
    def view(**path: str) -> tuple[Any, int] | Response:
        values = read_query(question.parameters)
        caller = Caller(settings(), business_now(), g.token_key_id)
        try:
            answer = _answer(question, caller, {**_row(question.subject, path), **values})
        except NotFound as error:
            text = f"No {error.what} has this id."
            raise ApiError(404, f"{error.what}_not_found", text) from None
        except BadValue as error:
            raise bad_parameter(error.name, f"takes {error.takes}") from None
        status = 503 if question.failed(answer, **values) else 200
        if question.text is not None and wants_text():
            return Response(question.text(answer), status, mimetype="text/plain")
        return answer, status

    return view


def _answer(question: Question, caller: Caller, values: Mapping[str, Any]) -> questions.Answer:
    if question.seconds is not None:
        return database().within(
            question.seconds, lambda conn: question.ask(conn, caller, **values)
        )
    with database().transaction(read_only=not question.writes) as conn:
        return question.ask(conn, caller, **values)


def _row(subject: Subject | None, path: Mapping[str, str]) -> dict[str, Any]:
    """The id from the path; an id that no row can have counts as not found."""
    if subject is None:
        return {}
    try:
        return {"id": subject.id.read(path["id"])}
    except ValueError:
        raise NotFound(subject.what) from None
