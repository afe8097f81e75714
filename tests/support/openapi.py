"""Holds the app's answers against app/openapi.json."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import jsonschema_rs
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.exceptions import HTTPException
from werkzeug.test import TestResponse

from app.errors import is_below
from app.openapi import DOCUMENT

API: dict[str, Any] = json.loads(DOCUMENT.read_text())
PAGES = ("ops",)  # blueprints that are no part of the document
# What any address may answer: nothing of this method, and a fault of ours.
ANYWHERE = (405, 500)


class CheckedClient(FlaskClient):
    """Raises AssertionError where an answer is not as the document says."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        response = super().open(*args, **kwargs)
        check_answer(self.application, response)
        return response


def check_answer(app: Flask, response: TestResponse) -> None:
    """Check status, content type, headers and body of the answer."""
    request, status = response.request, response.status_code
    if request.method == "OPTIONS" and status == 200:
        return  # Flask's own answer
    if is_below(request.path, "/ops") or (request.path == "/" and status == 303):
        return  # the operator's pages, and the way to them
    name = route_of(app, request.path, request.method) if request.method != "OPTIONS" else None
    operation = f"{request.method} {request.path}"
    responses: dict[str, Any] = {}
    if name is not None:
        method = request.method.lower().replace("head", "get")
        responses = API["paths"][name[1]][method]["responses"]
        documented = str(status) in responses or status in ANYWHERE
        assert documented, f"{operation}: {status} is not in openapi.json"
    told = resolved(responses.get(str(status), ERROR))
    for header, wanted in told.get("headers", {}).items():
        if wanted.get("required"):
            assert header in response.headers, f"{operation}: {header} is missing"
    content = told.get("content")
    if content is None or request.method == "HEAD":
        return
    assert response.mimetype in content, f"{operation}: {response.mimetype} of {status}"
    if response.mimetype == "application/json":
        pointer = json.dumps(content[response.mimetype]["schema"], sort_keys=True)
        problems = [problem_of(each) for each in validator(pointer).iter_errors(response.json)]
        assert not problems, f"{operation} {status}: {problems}"


ERROR = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}


def route_of(app: Flask, path: str, method: str) -> tuple[str, str] | None:
    """Blueprint and path template of the route that answers; None where none does."""
    try:
        rule, _ = app.url_map.bind("localhost").match(path, method, return_rule=True)
    except HTTPException:
        return None
    return rule.endpoint.partition(".")[0], template(rule.rule)


def template(rule: str) -> str:
    """A route's address as the document writes it."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule)


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """What a reference stands for."""
    if "$ref" not in part:
        return part
    found: Any = API
    for name in part["$ref"].split("/")[1:]:
        found = found[name]
    return resolved(found)


@cache
def validator(schema: str) -> Any:
    """Checks against a schema of the document, given as JSON."""
    document = {**json.loads(schema), "components": API["components"]}
    return jsonschema_rs.Draft202012Validator(document, validate_formats=True)


def problem_of(error: Any) -> str:
    """Where what is wrong; of alternatives the one that comes closest."""
    context = getattr(error.kind, "context", None)
    if context:
        return "; ".join(map(problem_of, min(context, key=len)))
    return f"{'/'.join(map(str, error.instance_path)) or 'the answer'}: {error.message[:300]}"
