"""The examples are answers that the product gives today."""

from __future__ import annotations

import json
import re

import pytest

from scripts.dev.examples import AT_ROOT, EXAMPLES, PREFIX, RUNBOOK, TABLE, table_of
from tests.support.openapi import API, resolved, route_of, validator
from tests.support.web import CLOSED_PORT, app_for

TEXT = EXAMPLES.read_text()
FOUND = re.findall(r"^`(GET|POST) (\S+?)`([^\n]*)\n```(\w*)\n(.*?)\n```$", TEXT, re.M | re.S)
APP = app_for(CLOSED_PORT)
# Pages, and the document itself.
NOT_SHOWN = ("/alerts/unsubscribe/", "/openapi.json")


def operation(method: str, path: str) -> tuple[str, str]:
    """The template of the route that answers, as openapi.json names it."""
    address = path.partition("?")[0]
    route = route_of(
        app_for(CLOSED_PORT), address if path.startswith(AT_ROOT) else PREFIX + address, method
    )
    assert route, path
    return method.lower(), route[1]


def test_every_route_has_an_example() -> None:
    shown = {operation(method, path) for method, path, *_ in FOUND}
    there = {
        (method, path)
        for path, methods in API["paths"].items()
        for method in methods
        if method in ("get", "post") and not path.startswith(NOT_SHOWN)
    }
    assert shown == there, "run python -m scripts.dev.examples"


@pytest.mark.parametrize("example", [each for each in FOUND if each[3]], ids=lambda each: each[1])
def test_examples_hold_every_field_and_no_other(example: tuple[str, ...]) -> None:
    method, path = operation(*example[:2])
    answer = resolved(API["paths"][path][method]["responses"]["200"])
    schema = json.dumps(answer["content"]["application/json"]["schema"], sort_keys=True)
    problems = [error.message for error in validator(schema).iter_errors(json.loads(example[4]))]
    assert not problems, "run python -m scripts.dev.examples"


def test_the_table_is_that_of_the_answer() -> None:
    shown = TABLE.search(RUNBOOK.read_text())
    assert shown
    assert shown[0] == table_of(TEXT), "run python -m scripts.dev.examples"
