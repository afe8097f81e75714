"""The admin endpoints that look at single deliveries and digests, and explain decisions."""

from __future__ import annotations

from typing import Any

from alerts.channels.names import CHANNELS
from alerts.failures import FailureCode
from alerts.health.report import STATUSES
from alerts.lookup import deliveries
from alerts.lookup.explain import explain
from alerts.paging import checked_cursor
from alerts.settings.env import parse_time
from app.current import business_now, database, settings
from app.errors import ApiError
from app.params import Params

LARGEST_ID = 10**12 - 1
_TIME_TAKES = "an ISO time like 2022-03-08T18:00:00Z"


def list_deliveries() -> dict[str, Any]:
    """A page of deliveries, newest first."""
    return _page(deliveries.DELIVERIES)


def list_digests() -> dict[str, Any]:
    """A page of digests, newest first."""
    return _page(deliveries.DIGESTS)


def get_delivery(delivery_id: int) -> dict[str, Any]:
    """One delivery with its event and its digest."""
    Params()
    with database().transaction() as conn:
        found = deliveries.get_delivery(conn, min(delivery_id, LARGEST_ID))
    if found is None:
        raise ApiError(404, "delivery_not_found", "No delivery has this id.")
    return found


def get_digest(digest_id: int) -> dict[str, Any]:
    """One digest with its items."""
    Params()
    with database().transaction() as conn:
        found = deliveries.get_digest(conn, min(digest_id, LARGEST_ID))
    if found is None:
        raise ApiError(404, "digest_not_found", "No digest has this id.")
    return found


def explain_decision() -> dict[str, Any]:
    """Why a user did or did not get an event."""
    params = Params("event_id", "user_id")
    asked = {name: params.integer(name, 0, 1, LARGEST_ID) for name in ("event_id", "user_id")}
    for name, given in asked.items():
        if not given:
            raise ApiError(400, "bad_parameter", f"Parameter {name} is missing.")
    with database().transaction() as conn:
        found = explain(conn, settings(), now=business_now(), **asked)
    if isinstance(found, str):
        raise ApiError(404, f"{found}_not_found", f"No {found} has this id.")
    return found


def _page(listing: deliveries.Listing) -> dict[str, Any]:
    names = (*listing.indexed, *listing.others)
    params = Params("limit", "since", "before", *names)
    choices: dict[str, tuple[str, ...]] = {
        "status": STATUSES,
        "channel": CHANNELS,
        "failure_code": tuple(FailureCode),
        "period": ("daily", "hourly"),
        "kind": ("instant", "digest"),
    }
    filters = {
        name: params.choice(name, choices[name])
        if name in choices
        else params.integer(name, 0, 1, LARGEST_ID) or None
        for name in names
    }
    since = params.parsed("since", None, parse_time, _TIME_TAKES)
    before = params.parsed("before", None, checked_cursor, "a next_before of an earlier answer")
    limit = params.integer("limit", 50, 1, 200)
    with database().transaction() as conn:
        return deliveries.list_rows(
            conn, listing, limit=limit, since=since, before=before, **filters
        )
