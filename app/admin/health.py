"""Delivery health: ``GET /health``."""

from __future__ import annotations

from typing import Any

from alerts.health.report import get_health
from app.current import business_now, database, settings
from app.params import Params


def health() -> tuple[dict[str, Any], int]:
    """Delivery health; 503 with the same body when it is as bad as ``fail_on`` says, or worse."""
    fail_on = Params("fail_on").choice("fail_on", ("failing", "degraded"))
    with database().transaction() as conn:
        found = get_health(conn, settings(), business_now())
    bad = {"failing": ("failing",), "degraded": ("degraded", "failing")}.get(fail_on or "", ())
    return found, 503 if found["status"] in bad else 200
