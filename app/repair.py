"""The admin endpoints that change something."""

from __future__ import annotations

from typing import Any

from flask import g

from alerts import requeue
from app.database import database
from app.errors import ApiError
from app.internal import blueprint, business_now, settings
from app.params import Params


@blueprint.post("/retry_failed")
def retry_failed() -> dict[str, Any]:
    """Put failed rows back into the queue."""
    params = Params("kind", "since_hours", "dry_run", "limit", "include")
    kind = params.choice("kind", tuple(requeue.KINDS))
    if kind is None:
        raise ApiError(400, "bad_parameter", "Parameter kind is missing: deliveries or digests.")
    most = settings().max_send_per_run
    asked = requeue.RetryRequest(
        kind=kind,
        since_hours=params.integer(
            "since_hours", requeue.DEFAULT_SINCE_HOURS, 1, requeue.MAX_SINCE_HOURS
        ),
        limit=params.integer("limit", most, 1, most),
        include=params.parsed("include", (), requeue.parse_include, _INCLUDE_TAKES),
        dry_run=params.boolean("dry_run"),
    )
    with database().transaction(read_only=False) as conn:
        return requeue.retry_failed(
            conn, settings(), asked, now=business_now(), token_key_id=g.token_key_id
        )


_INCLUDE_TAKES = f"a comma list of {', '.join(requeue.INCLUDES)}"
