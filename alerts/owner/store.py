"""What the owner was told, in the database. Wall time throughout."""

from __future__ import annotations

from datetime import datetime

from alerts import db
from alerts.owner.rules import Found, Seen

KEPT = 200  # changes

# One at a time: of two runs that end at once, only one tells.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('alerts_notices', 0))"

# The newest changes, and the current time on the clock that stamped them.
_HISTORY = """
SELECT n.id, n.status, n.code, n.run_id, n.tried_at, n.told_at, c.now
FROM (SELECT clock_timestamp() AS now) AS c
LEFT JOIN (SELECT * FROM alerts_notices ORDER BY id DESC LIMIT %(kept)s) AS n ON TRUE
ORDER BY n.id DESC
"""

_NOTE = """
WITH added AS (
    INSERT INTO alerts_notices (status, code, run_id, seen_at, tried_at)
    SELECT %(status)s, %(code)s, %(run_id)s, c.now, CASE WHEN %(tell)s THEN c.now END
    FROM (SELECT clock_timestamp() AS now) AS c
    RETURNING id
),
gone AS (
    DELETE FROM alerts_notices
    WHERE id IN (SELECT id FROM alerts_notices ORDER BY id DESC OFFSET %(kept)s - 1)
)
SELECT id FROM added
"""

_TRY = "UPDATE alerts_notices SET tried_at = clock_timestamp() WHERE id = %(id)s"

_TOLD = """
UPDATE alerts_notices
SET told_at = clock_timestamp(), told_by = %(channel)s
WHERE id = %(id)s AND told_at IS NULL
"""


def lock(conn: db.Connection) -> None:
    """Keep other runs from deciding until the caller's transaction ends."""
    db.execute(conn, _LOCK)


def history(conn: db.Connection) -> tuple[list[Seen], int | None, datetime]:
    """Return the changes, newest first, the id of the newest, and the current time."""
    rows = db.fetch_all(conn, _HISTORY, {"kept": KEPT})
    seen = [
        Seen(Found(row["status"], row["code"]), row["run_id"], row["tried_at"], row["told_at"])
        for row in rows
        if row["id"] is not None
    ]
    return seen, rows[0]["id"], rows[0]["now"]


def note(conn: db.Connection, found: Found, run_id: str, *, tell: bool) -> int:
    """Store a change and return its id. ``tell``: the caller tells the owner at once."""
    row = {"status": found.status, "code": found.code, "run_id": run_id, "tell": tell, "kept": KEPT}
    notice_id: int = db.fetch_all(conn, _NOTE, row)[0]["id"]
    return notice_id


def note_try(conn: db.Connection, notice_id: int) -> None:
    """Remember that the caller is about to tell it."""
    db.execute(conn, _TRY, {"id": notice_id})


def note_told(conn: db.Connection, notice_id: int, channel: str) -> None:
    """Remember that the owner was told."""
    db.execute(conn, _TOLD, {"id": notice_id, "channel": channel})
