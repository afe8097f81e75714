"""``GET /openapi.json``: what programs can ask this app, as OpenAPI 3.1, written by hand."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from flask import Response

from app.params import read_query

DOCUMENT = Path(__file__).with_name("openapi.json")


def openapi() -> Response:
    """The document."""
    read_query()
    return Response(_document(), mimetype="application/json")


@cache
def _document() -> bytes:
    return DOCUMENT.read_bytes()
