"""The audit of every write that was asked for: who (by the token's key id; ``link`` for a user with
a signed link), when, what, with what result."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from alerts import db
from alerts.paging import json_row

ACTIONS = (
    "retry_failed",
    "pause",
    "resume",
    "prune",
    "rebuild",
    "unsubscribe",
    "resubscribe",
    "erase_user",
    "test_message",
)

_RECORD = """
INSERT INTO alerts_admin_actions (action, token_key_id, parameters, result, created_at)
VALUES (%(action)s, %(token_key_id)s, %(parameters)s, %(result)s, %(now)s)
RETURNING id
"""

_UPDATE = "UPDATE alerts_admin_actions SET result = %(result)s WHERE id = %(id)s"

# Newest first; the id is the cursor.
_LIST = """
SELECT id, created_at, action, token_key_id, parameters, result
FROM alerts_admin_actions
WHERE (%(before)s::bigint IS NULL OR id < %(before)s::bigint)
  AND (%(action)s::text IS NULL OR action = %(action)s)
ORDER BY id DESC
LIMIT %(limit)s + 1
"""


def record_action(
    conn: db.Connection,
    *,
    action: str,
    token_key_id: str,
    parameters: Mapping[str, Any],
    result: Mapping[str, Any],
    now: datetime,
) -> int:
    """Write one row, in the caller's transaction; its id."""
    row = {
        "action": action,
        "token_key_id": token_key_id,
        "parameters": db.json_text(parameters),
        "result": db.json_text(result),
        "now": now,
    }
    action_id: int = db.fetch_all(conn, _RECORD, row)[0]["id"]
    return action_id


def update_result(conn: db.Connection, action_id: int, result: Mapping[str, Any]) -> None:
    """What has come of an action that goes on for longer than one transaction."""
    db.execute(conn, _UPDATE, {"id": action_id, "result": db.json_text(result)})


def list_actions(
    conn: db.Connection, *, limit: int = 50, before: int | None = None, action: str | None = None
) -> dict[str, Any]:
    """A page of the audit, newest first; ``next_before`` asks for the next one."""
    rows = db.fetch_all(conn, _LIST, {"limit": limit, "before": before, "action": action})
    page = rows[:limit]
    return {
        "count": len(page),
        "next_before": page[-1]["id"] if len(rows) > limit else None,
        "actions": [json_row(row) for row in page],
    }
