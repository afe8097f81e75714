"""Listing deliveries and digests: ids, states, times and codes; no addresses, no text."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg2 import sql

from alerts import db
from alerts.paging import cursor, json_row, parse_cursor

# A page scans at most this many rows, so a filter that matches almost nothing costs milliseconds
# even on years of history; the page then says where to continue.
ROWS_LOOKED_AT = 20_000
MOST_ITEMS = 200

DELIVERY_COLUMNS = """
    q.id, q.user_id, q.alert_event_id AS event_id, q.channel, q.delivery_kind AS kind,
    CASE WHEN lease.until IS NULL THEN q.status ELSE 'sending' END AS status, q.attempts,
    q.failure_code, q.next_retry_at::timestamptz AS next_retry_at,
    q.created_at::timestamptz AS created_at, q.sent_at::timestamptz AS sent_at,
    q.failed_at::timestamptz AS failed_at, lease.run_id AS claimed_by,
    lease.until AS claimed_until,
    (SELECT i.digest_id FROM user_alert_digest_items AS i WHERE i.delivery_id = q.id) AS digest_id
"""
DIGEST_COLUMNS = """
    q.id, q.user_id, q.channel, q.period, q.window_start::timestamptz AS window_start,
    q.window_end::timestamptz AS window_end,
    CASE WHEN lease.until IS NULL THEN q.status ELSE 'sending' END AS status, q.attempts,
    q.failure_code, q.next_retry_at::timestamptz AS next_retry_at,
    q.created_at::timestamptz AS created_at, q.sent_at::timestamptz AS sent_at,
    q.failed_at::timestamptz AS failed_at,
    lease.run_id AS claimed_by, lease.until AS claimed_until
"""
# The lease that holds a queued row q, if there is one: it is being sent then.
LEASE = sql.SQL("""
LEFT JOIN LATERAL (
    SELECT l.run_id, l.until
    FROM alerts_leases AS l
    WHERE q.status = 'queued' AND l.source = {} AND q.id = ANY (l.ids)
    LIMIT 1
) AS lease ON TRUE
""")
_HELD = "(q.id IN (SELECT l.id FROM alerts_leased AS l WHERE l.source = %(source)s))"
# What a status asked for is in the table. IS TRUE keeps what leases hold a hashed set.
_STATUSES = {
    "sending": sql.SQL(f"q.status = 'queued' AND {_HELD} IS TRUE"),
    "queued": sql.SQL(f"q.status = 'queued' AND {_HELD} IS NOT TRUE"),
}

# Newest first: a bounded number of rows found by an index, then filtered by the other conditions;
# leases are looked through for what is shown only.
_PAGE = """
SELECT {columns}
FROM (
    SELECT q.*
    FROM (
        SELECT *
        FROM {table}
        WHERE {found_by_index}
        ORDER BY created_at DESC, id DESC
        LIMIT %(looked_at)s
    ) AS q
    WHERE {matches}
    ORDER BY q.created_at DESC, q.id DESC
    LIMIT %(limit)s + 1
) AS q
{lease}
ORDER BY q.created_at DESC, q.id DESC
"""

# Where a page ended that scanned as many rows as allowed.
_ENDED = """
SELECT created_at::timestamptz AS created_at, id
FROM {table}
WHERE {found_by_index}
ORDER BY created_at DESC, id DESC
OFFSET %(looked_at)s - 1
LIMIT 1
"""

_ONE = "SELECT {columns}, q.last_error FROM {table} AS q {lease} WHERE q.id = %(id)s"

_EVENT = """
SELECT id, alert_type, scope_region AS region, severity, created_at::timestamptz AS created_at
FROM alert_events
WHERE id = %(id)s
"""

_ITEMS = """
SELECT i.delivery_id, d.alert_event_id AS event_id, count(*) OVER () AS total
FROM user_alert_digest_items AS i
JOIN user_alert_deliveries AS d ON d.id = i.delivery_id
WHERE i.digest_id = %(id)s
ORDER BY i.delivery_id
LIMIT %(most)s
"""


@dataclass(frozen=True)
class Listing:
    """One of the two tables to look at. Of its filters (name: column) some an index finds; besides
    these there is ``status``."""

    name: str
    table: str
    columns: str
    indexed: dict[str, str]
    others: dict[str, str]


DELIVERIES = Listing(
    "deliveries",
    "user_alert_deliveries",
    DELIVERY_COLUMNS,
    {"user_id": "user_id", "event_id": "alert_event_id"},
    {"channel": "channel", "kind": "delivery_kind", "failure_code": "failure_code"},
)  # fmt: skip
DIGESTS = Listing(
    "digests",
    "user_alert_digests",
    DIGEST_COLUMNS,
    {"user_id": "user_id"},
    {"channel": "channel", "period": "period", "failure_code": "failure_code"},
)  # fmt: skip


def list_rows(
    conn: db.Connection,
    listing: Listing,
    *,
    limit: int = 50,
    since: datetime | None = None,
    before: str | None = None,
    **filters: Any,
) -> dict[str, Any]:
    """Return a page, newest first: ``count``, ``next_before`` (None at the end) and the rows.

    ``filters`` are those of the listing, with None for any; ``since`` applies to ``created_at``. A
    page may have fewer than ``limit`` rows, even none, although ``next_before`` shows that there
    are more to scan. Raises ValueError if ``before`` is not a cursor.
    """
    before_time, before_id = parse_cursor(before) if before else (None, None)
    parameters = {
        **filters, "limit": limit, "looked_at": ROWS_LOOKED_AT, "since": since,
        "before_time": before_time, "before_id": before_id, "source": listing.name,
    }  # fmt: skip
    found_by_index = [sql.SQL("TRUE")]
    if since is not None:
        found_by_index.append(sql.SQL("created_at >= %(since)s"))
    if before is not None:
        found_by_index.append(
            sql.SQL(
                "created_at <= %(before_time)s"
                " AND (created_at, id) < (%(before_time)s, %(before_id)s::bigint)"
            )
        )
    matches = [sql.SQL("TRUE"), *_equal(listing.others, filters, "q.")]
    if (status := filters.get("status")) is not None:
        matches.append(_STATUSES.get(status, sql.SQL("q.status = %(status)s")))
    parts = {
        "lease": LEASE.format(sql.Literal(listing.name)),
        "columns": sql.SQL(listing.columns),
        "table": sql.Identifier(listing.table),
        "found_by_index": _all([*found_by_index, *_equal(listing.indexed, filters, "")]),
        "matches": _all(matches),
    }
    rows = db.fetch_all(conn, sql.SQL(_PAGE).format(**parts), parameters)
    page, last = rows[:limit], rows[limit - 1] if len(rows) > limit else None
    if last is None:
        last = db.fetch_one(conn, sql.SQL(_ENDED).format(**parts), parameters)
    return {
        "count": len(page),
        "next_before": cursor(last["created_at"], last["id"]) if last else None,
        listing.name: [json_row(row) for row in page],
    }


def get_delivery(conn: db.Connection, delivery_id: int) -> dict[str, Any] | None:
    """A delivery with its event and its digest, if any; None for an unknown id."""
    delivery = _one(conn, DELIVERIES, delivery_id)
    if delivery is None:
        return None
    event = db.fetch_one(conn, _EVENT, {"id": delivery["event_id"]})
    digest = delivery["digest_id"] and _one(conn, DIGESTS, delivery["digest_id"])
    return {"delivery": delivery, "event": event and json_row(event), "digest": digest}


def get_digest(conn: db.Connection, digest_id: int) -> dict[str, Any] | None:
    """A digest with at most 200 of its ``items_total`` deliveries; None for an unknown id."""
    digest = _one(conn, DIGESTS, digest_id)
    if digest is None:
        return None
    items = db.fetch_all(conn, _ITEMS, {"id": digest_id, "most": MOST_ITEMS})
    total = items[0]["total"] if items else 0
    shown = [{"delivery_id": i["delivery_id"], "event_id": i["event_id"]} for i in items]
    return {"digest": digest, "items_total": total, "items": shown}


def _one(conn: db.Connection, listing: Listing, row_id: int) -> dict[str, Any] | None:
    query = sql.SQL(_ONE).format(
        columns=sql.SQL(listing.columns),
        table=sql.Identifier(listing.table),
        lease=LEASE.format(sql.Literal(listing.name)),
    )
    row = db.fetch_one(conn, query, {"id": row_id})
    return row and json_row(row)


def _equal(names: dict[str, str], filters: dict[str, Any], prefix: str) -> list[sql.SQL]:
    """One condition for each filter that is set."""
    return [
        sql.SQL(f"{prefix}{column} = %({name})s")
        for name, column in names.items()
        if filters.get(name) is not None
    ]


def _all(conditions: list[sql.SQL]) -> sql.Composed:
    return sql.SQL(" AND ").join(conditions)
