"""JSON for programs and curl, behind the admin token: every route in one place."""

from __future__ import annotations

from flask import Blueprint

from app.admin import deliveries, health, repair, runs
from app.admin.token import check_token


def admin_blueprint() -> Blueprint:
    """The routes under ``/internal/alerts/engine``; the token is checked before anything else."""
    admin = Blueprint("admin", __name__, url_prefix="/internal/alerts/engine")
    admin.before_request(check_token)
    admin.get("/runs")(runs.list_runs)
    admin.get("/runs/<run_id>")(runs.get_run)
    admin.get("/health")(health.health)
    admin.get("/deliveries")(deliveries.list_deliveries)
    admin.get("/deliveries/<int:delivery_id>")(deliveries.get_delivery)
    admin.get("/digests")(deliveries.list_digests)
    admin.get("/digests/<int:digest_id>")(deliveries.get_digest)
    admin.get("/explain")(deliveries.explain_decision)
    admin.get("/actions")(repair.list_actions)
    admin.post("/retry_failed")(repair.retry_failed)
    admin.post("/pause")(repair.pause)
    admin.post("/resume")(repair.resume)
    return admin
