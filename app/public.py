"""The public routes: is the service up, and the newest global events."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, current_app

from alerts.clock import Clock
from alerts.lookup.events import latest_events
from app.database import database
from app.errors import ApiError
from app.params import Params

blueprint = Blueprint("public", __name__)


@blueprint.get("/healthz")
def healthz() -> dict[str, str]:
    """For load balancers and uptime monitors."""
    if not database().answers():
        raise ApiError(503, "database_unavailable", "The database does not answer.")
    return {"status": "ok"}


@blueprint.get("/alerts/events/latest")
def latest() -> dict[str, Any]:
    """Global events, newest first."""
    limit = Params("limit").integer("limit", 20, 1, 100)
    clock = Clock(current_app.extensions["alerts_settings"].clock)
    with database().transaction() as conn:
        return latest_events(conn, limit=limit, now=clock.now())
