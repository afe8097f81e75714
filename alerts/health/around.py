"""What else the verdict needs from the database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from alerts import db, migrations

# Which migrations are applied, how many messages each run holds, and when the next message of
# each channel that waits for its time is due (business time).
AROUND = """
SELECT
    ARRAY(SELECT name FROM schema_migrations ORDER BY version) AS applied,
    (
        SELECT jsonb_object_agg(held.run_id, held.amount)
        FROM (
            SELECT run_id, sum(cardinality(ids)) AS amount FROM alerts_leases GROUP BY run_id
        ) AS held
    ) AS held_by_run,
    (
        SELECT jsonb_agg(next)
        FROM (
            SELECT
                s.source,
                c.channel,
                (
                    SELECT q.due_at
                    FROM alerts_send_queue AS q
                    WHERE q.source = s.source AND q.channel = c.channel AND q.due_at > %(now)s
                      AND q.due_at < 'infinity'  -- as a time written by hand may be
                    ORDER BY q.due_at, q.id
                    LIMIT 1
                ) AS due_at
            FROM unnest(%(channels)s::text[]) AS c (channel)
            CROSS JOIN unnest(ARRAY['deliveries', 'digests']) AS s (source)
        ) AS next
        WHERE next.due_at IS NOT NULL
    ) AS next_due
"""

APPLIED = "SELECT name FROM schema_migrations"

# Who keeps others from writing to the table of runs, as far as the role may see it. In a copy of
# this database on the same server the table may have the same number.
RECORDS_LOCKED = """
SELECT l.pid, a.application_name, a.backend_start
FROM pg_locks AS l
LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'relation'
  AND l.granted
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.relation = to_regclass('alerts_engine_runs')
  AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
ORDER BY a.backend_start, l.pid
"""


@dataclass(frozen=True)
class Around:
    """``next_due`` is on the business clock."""

    applied: tuple[str, ...]  # migrations
    held_by_run: dict[str, int]
    next_due: dict[tuple[str, str], datetime]  # by source and channel

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Around:
        """The row of :data:`AROUND`."""
        return cls(
            applied=tuple(row["applied"]),
            held_by_run=row["held_by_run"] or {},
            next_due={
                (each["source"], each["channel"]): datetime.fromisoformat(each["due_at"])
                for each in row["next_due"] or ()
            },
        )

    @property
    def lacking(self) -> tuple[str, ...]:
        """Migrations that this version has and the database lacks."""
        return _lacking(self.applied)


def lacking(conn: db.Connection) -> tuple[str, ...]:
    """The same, where health itself cannot be asked. Raises ``psycopg2.Error``."""
    return _lacking(each["name"] for each in db.fetch_all(conn, APPLIED))


def _lacking(applied: Iterable[str]) -> tuple[str, ...]:
    known = set(applied)
    return tuple(name for name in files_at_hand() if name not in known)


@cache
def files_at_hand() -> tuple[str, ...]:
    """The names of the migrations that came with this version; none where they cannot be read."""
    try:
        found = migrations.load_migrations(migrations.MIGRATIONS_DIR)
    except migrations.MigrationError:
        return ()
    return tuple(each.name for each in found)
