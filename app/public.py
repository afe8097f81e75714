"""The public routes: whether the service is up, the newest global events, and what to ask."""

from __future__ import annotations

from typing import Any

from flask import Blueprint

from alerts.lookup.events import latest_events
from alerts.readers import Parameter, integer
from app.current import business_now, database
from app.errors import ApiError
from app.openapi import openapi
from app.params import read_query


def public_blueprint() -> Blueprint:
    """The routes without a token."""
    public = Blueprint("public", __name__)
    public.get("/healthz")(healthz)
    public.get("/alerts/events/latest")(latest)
    public.get("/openapi.json")(openapi)
    return public


def healthz() -> dict[str, str]:
    """For load balancers and uptime monitors."""
    if not database().answers():
        raise ApiError(503, "database_unavailable", "The database does not answer.")
    return {"status": "ok"}


def latest() -> dict[str, Any]:
    """Global events, newest first."""
    asked = read_query((Parameter("limit", integer(1, 100), default=20),))
    with database().transaction() as conn:
        return latest_events(conn, now=business_now(), **asked)
