"""What pages ask: the same questions as the JSON endpoints, with the same parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from flask import g, request
from werkzeug.datastructures import MultiDict

from alerts import db
from alerts.questions import Answer, Caller, NotFound, Question
from alerts.readers import BadValue, Parameter
from app.current import business_now, settings
from app.errors import ApiError
from app.params import bad_parameter, read_query

# How pages are shown, on top of what they ask.
UTC = "utc"
_OF_PAGES = frozenset({UTC})


def asked(
    parameters: Iterable[Parameter], given: MultiDict[str, str] | None = None
) -> dict[str, Any]:
    """The values of the query (or of ``given``): a form sends every field, so an empty one counts
    as not given, and the ticks of one name make a comma list. Raises :class:`ApiError`."""
    given = request.args if given is None else given
    told: MultiDict[str, str] = MultiDict()
    for name, values in given.lists():
        filled = [value.strip() for value in values if value.strip()]
        if name == "include":
            filled = [",".join(filled)] if filled else []
        if name not in _OF_PAGES:
            for value in filled:
                told.add(name, value)
    return read_query(parameters, told)


def caller() -> Caller:
    """The session as the caller of a question."""
    return Caller(settings(), business_now(), g.session.key_id)


def answer(conn: db.Connection, question: Question, **values: Any) -> Answer:
    """Ask on behalf of the session. Raises the :class:`ApiError` that the endpoint would answer."""
    try:
        return question.ask(conn, caller(), **values)
    except NotFound as error:
        raise ApiError(404, f"{error.what}_not_found", f"No {error.what} has this id.") from None
    except BadValue as error:
        raise bad_parameter(error.name, f"takes {error.takes}") from None


def row_id(question: Question, text: str) -> Any:
    """The id in a path; one that no row can have is one that is not found."""
    assert question.subject is not None  # noqa: S101  (only asked of such)
    try:
        return question.subject.id.read(text)
    except ValueError:
        what = question.subject.what
        raise ApiError(404, f"{what}_not_found", f"No {what} has this id.") from None


def address(path: str, values: Mapping[str, Any] | None = None, /, **more: Any) -> str:
    """A page's address with the values that are set; the choice of UTC goes along."""
    in_utc = request.args.get(UTC) == "1"
    if not values and not more and not in_utc:
        return path
    path, mark, place = path.partition("#")
    path, _, query = path.partition("?")
    told = {name: _text(value) for name, value in {**(values or {}), **more}.items()}
    told = {name: text for name, text in told.items() if text}
    if in_utc:
        told.setdefault(UTC, "1")
    query = "&".join(filter(None, (query, urlencode(told))))
    return "?".join(filter(None, (path, query))) + mark + place


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
