"""``/openapi.json``: valid, complete, and true. That each answer fits it is checked by the client
of all web tests (``tests/support/openapi.py``)."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from flask import Flask
from openapi_spec_validator import validate
from psycopg2.extensions import connection as Connection

from alerts import VERSION, phases
from alerts.channels.names import CHANNELS, SEND_CHANNELS
from alerts.failures import FailureCode
from alerts.health.report import STATUSES
from alerts.readers import Parameter
from alerts.repair import audit, requeue
from alerts.runs import history
from app import admin
from tests.support.openapi import API, PAGES, problem_of, resolved, template, validator
from tests.support.queue_rows import add_digest
from tests.support.web import CLOSED_PORT, PREFIX, Admin, add_item, add_run, app_for
from tests.support.world import NOW, add_alert, add_delivery, add_user, query

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
    found = [(node["schema"], each) for node in nodes(API) for each in examples(node)]
    for schema, example in found:
        if not isinstance(example, str):
            errors = validator(json.dumps(schema)).iter_errors(example)
            assert [problem_of(error) for error in errors] == []
    assert len(found) > 20


def examples(node: dict[str, Any]) -> list[Any]:
    """The example answers that stand beside a schema."""
    if "schema" not in node:
        return []
    several = [each["value"] for each in node.get("examples", {}).values()]
    return [*several, node["example"]] if "example" in node else several


def test_every_json_answer_has_an_example() -> None:
    for method, path, operation in operations():
        content = resolved(operation["responses"].get("200", {})).get("content", {})
        if "application/json" in content and path != "/openapi.json":
            assert examples(content["application/json"]), f"{method} {path}"


def test_answers_hold_no_field_that_is_not_described(admin: Admin, conn: Connection) -> None:
    run = add_run(conn)
    add_item(conn, run, "a", query(conn, "SELECT now()")[0]["now"])
    user, alert = add_user(conn), add_alert(conn)
    delivery = add_delivery(conn, user, alert, created_at=NOW)
    add_digest(conn, user, window_end=NOW)
    (digest,) = query(conn, "SELECT id FROM user_alert_digests")
    admin.post("/pause", reason="for the audit")
    answers = [
        (path.partition("?")[0], admin.ok(path))
        for path in (
            "/runs", f"/runs/{run}", "/health", "/health?view=brief", "/actions", "/deliveries",
            f"/deliveries/{delivery}", "/digests", f"/digests/{digest['id']}",
            f"/explain?event_id={alert}&user_id={user}",
        )
    ]  # fmt: skip
    missing = []
    for path, answer in answers:
        name = re.sub(r"(?<=s)/[^/]+$", "/{id}", path)
        content = API["paths"][PREFIX + name]["get"]["responses"]["200"]["content"]
        missing += undescribed(content["application/json"]["schema"], answer, name)
    assert not missing, f"describe them in app/openapi.json: {missing}"


def undescribed(schema: dict[str, Any], value: Any, place: str) -> list[str]:
    """Where the value has fields that the schema does not have; objects without any described
    field may hold anything."""
    parts = alternatives(schema)
    if isinstance(value, list):
        items = [part["items"] for part in parts if "items" in part]
        return [each for item in items for v in value for each in undescribed(item, v, place)]
    if not isinstance(value, dict):
        return []
    known: dict[str, Any] = {}
    for part in parts:
        known |= part.get("properties", {})
    others = [part["additionalProperties"] for part in parts if part.get("additionalProperties")]
    found = []
    for name, inner in value.items():
        if name in known or others:
            found += undescribed(known.get(name) or others[0], inner, f"{place}: {name}")
        elif known:
            found.append(f"{place}: {name}")
    return found


def alternatives(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The schema and all that it is made of."""
    schema = resolved(schema)
    inner = [*schema.get("allOf", ()), *schema.get("anyOf", ())]
    return [schema, *(part for each in inner for part in alternatives(each))]


def nodes(part: Any) -> list[dict[str, Any]]:
    """Every object of the document."""
    if isinstance(part, list):
        return [node for each in part for node in nodes(each)]
    if not isinstance(part, dict):
        return []
    return [part, *(node for each in part.values() for node in nodes(each))]
