"""The admin endpoints: ``/internal/alerts/engine``. The token is checked before anything else.

Runs and health stand here, repair in :mod:`app.admin.repair`; both hang on one blueprint.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime
from typing import Any

from flask import Blueprint, current_app, g, request

from alerts import phases
from alerts.clock import Clock
from alerts.health.report import get_health
from alerts.paging import checked_cursor
from alerts.runs import history
from alerts.settings.config import Settings
from app.database import database
from app.errors import ApiError
from app.params import Params

blueprint = Blueprint("internal", __name__, url_prefix="/internal/alerts/engine")


@blueprint.before_request
def check_token() -> None:
    """Let only callers with the token pass: 503 when none is configured, 401 without it."""
    tokens = settings().internal_tokens
    if not tokens:
        text = "INTERNAL_RUNNER_TOKEN is not set on the server; set it and start again."
        raise ApiError(503, "token_not_configured", text)
    given = request.headers.get("x-internal-token", "")
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if not given and scheme.lower() == "bearer":
        given = credentials.strip()
    # Header values arrive decoded as latin-1; compared are the bytes, all of them each time.
    sent = given.encode("latin-1", "replace")
    matches = [hmac.compare_digest(sent, token.reveal().encode()) for token in tokens]
    if not any(matches):
        raise ApiError(401, "unauthorized", "The header x-internal-token is missing or wrong.")
    g.token_key_id = hashlib.sha256(sent).hexdigest()[:8]


@blueprint.get("/runs")
def list_runs() -> dict[str, Any]:
    """A page of runs, newest first."""
    params = Params("limit", "status", "phase", "triggered_by", "before")
    limit = params.integer("limit", 50, 1, 200)
    filters = {
        "status": params.choice("status", history.RUN_STATUSES),
        "phase": params.choice("phase", phases.PHASE_CHOICES),
        "triggered_by": params.choice("triggered_by", history.TRIGGERS),
        "before": params.parsed(
            "before", None, checked_cursor, "a next_before of an earlier answer"
        ),
    }
    with database().transaction() as conn:
        return history.list_runs(conn, limit=limit, **filters)


@blueprint.get("/runs/<run_id>")
def get_run(run_id: str) -> dict[str, Any]:
    """One run with its phases."""
    Params()
    with database().transaction() as conn:
        found = history.get_run(conn, run_id)
    if found is None:
        raise ApiError(404, "run_not_found", "No run has this id.")
    return found


@blueprint.get("/health")
def health() -> tuple[dict[str, Any], int]:
    """Delivery health; 503 with the same body when it is as bad as ``fail_on`` says, or worse."""
    fail_on = Params("fail_on").choice("fail_on", ("failing", "degraded"))
    with database().transaction() as conn:
        found = get_health(conn, settings(), business_now())
    bad = {"failing": ("failing",), "degraded": ("degraded", "failing")}.get(fail_on or "", ())
    return found, 503 if found["status"] in bad else 200


def settings() -> Settings:
    """The current app's settings."""
    found: Settings = current_app.extensions["alerts_settings"]
    return found


def business_now() -> datetime:
    """What the business clock says."""
    return Clock(settings().clock).now()
