"""``/openapi.json``: valid, complete, and true. That each answer fits it is checked by the client
of all web tests (``tests/support/openapi.py``)."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from openapi_spec_validator import validate

from alerts import VERSION, phases
from alerts.channels.names import CHANNELS, SEND_CHANNELS
from alerts.failures import FailureCode
from alerts.health.report import STATUSES
from alerts.readers import Parameter
from alerts.repair import audit, requeue
from alerts.runs import history
from app import admin
from tests.support.openapi import API, PAGES, problem_of, resolved, template, validator
from tests.support.web import CLOSED_PORT, PREFIX, app_for

METHODS = {"get", "post", "put", "patch", "delete"}
SCHEMAS = API["components"]["schemas"]


@pytest.fixture(scope="module")
def app() -> Flask:
    return app_for(CLOSED_PORT)


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    """Method, path and operation of each that is described."""
    return [
        (method, path, item[method])
        for path, item in API["paths"].items()
        for method in METHODS & set(item)
    ]


def test_it_needs_no_token_and_no_database(app: Flask) -> None:
    response = app.test_client().get("/openapi.json")
    assert (response.status_code, response.mimetype) == (200, "application/json")
    assert response.json == API


def test_it_is_valid() -> None:
    validate(API)
    assert API["openapi"].startswith("3.1.")
    assert API["info"]["version"] == VERSION


def test_it_has_every_route_and_no_other(app: Flask) -> None:
    routes = {
        (method.lower(), template(rule.rule))
        for rule in app.url_map.iter_rules()
        if rule.endpoint.partition(".")[0] not in PAGES
        for method in rule.methods or ()
    }
    described = {(method, path) for method, path, _ in operations()}
    assert described == {each for each in routes if each[0] in METHODS}


def test_every_operation_can_be_named_and_told_apart() -> None:
    names = [operation["operationId"] for *_, operation in operations()]
    assert len(names) == len(set(names))
    assert all(operation["summary"] and operation["tags"] for *_, operation in operations())


def test_only_public_routes_are_said_to_need_no_token(app: Flask) -> None:
    client = app.test_client()
    for method, path, operation in operations():
        address = path.replace("{id}", "7")
        needs_token = operation.get("security", API["security"]) != []
        answer = client.open(address, method=method.upper())
        assert (answer.status_code == 401) == needs_token, path


# What is written by hand against what the code has.


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("Channel", CHANNELS),
        ("SendChannel", SEND_CHANNELS),
        ("MessageStatus", STATUSES),
        ("FailureCode", FailureCode),
        ("RunStatus", history.RUN_STATUSES),
        ("PhaseChoice", phases.PHASE_CHOICES),
        ("Trigger", history.TRIGGERS),
        ("ActionName", audit.ACTIONS),
    ],
)
def test_lists_of_words_are_those_of_the_code(name: str, known: Any) -> None:
    assert SCHEMAS[name]["enum"] == [str(word) for word in known]


@pytest.mark.parametrize(("method", "path", "question"), admin.ROUTES)
def test_parameters_are_those_of_the_code(method: str, path: str, question: Any) -> None:
    operation = API["paths"][template(PREFIX + path)][method.lower()]
    described = {p["name"]: p for p in map(resolved, operation.get("parameters", ()))}
    in_query = {name: p for name, p in described.items() if p["in"] == "query"}
    assert set(in_query) == {parameter.name for parameter in question.parameters}
    assert ("id" in described) == (question.subject is not None)
    for parameter in question.parameters:
        check_parameter(in_query[parameter.name], parameter)


def check_parameter(described: dict[str, Any], parameter: Parameter) -> None:
    schema = resolved(described["schema"])
    assert described.get("required", False) == parameter.required
    if parameter.default not in (None, ()):
        assert schema["default"] == parameter.default
    read = parameter.reader.read
    for word in schema.get("enum", ()):
        assert read(word) == word
    for bound in ("minimum", "maximum"):
        if bound in schema:
            assert read(str(schema[bound])) == schema[bound]
            beyond = schema[bound] + (1 if bound == "maximum" else -1)
            with pytest.raises(ValueError):
                read(str(beyond))
    if schema.get("type") == "array":
        assert tuple(schema["items"]["enum"]) == tuple(requeue.INCLUDES)


def test_examples_fit_their_schemas() -> None:
    examples = 0
    for node in nodes(API):
        if "schema" in node and "example" in node:
            examples += 1
            if not isinstance(node["example"], str):
                errors = validator(_text(node["schema"])).iter_errors(node["example"])
                assert [problem_of(error) for error in errors] == []
    assert examples >= len(operations())


def _text(schema: dict[str, Any]) -> str:
    import json

    return json.dumps(schema, sort_keys=True)


def nodes(part: Any) -> list[dict[str, Any]]:
    """Every object of the document."""
    if isinstance(part, list):
        return [node for each in part for node in nodes(each)]
    if not isinstance(part, dict):
        return []
    return [part, *(node for each in part.values() for node in nodes(each))]
