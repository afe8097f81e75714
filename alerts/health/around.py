"""What else the verdict needs to know of the database, in one round trip."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache

from alerts import db, migrations
from alerts.health.input import INPUT, Input

# Which migrations are applied, how many messages each run holds, and when the next message of
# each channel that waits for its time is due; together with the newest input.
AROUND = f"""
SELECT
    ARRAY(SELECT name FROM schema_migrations ORDER BY version) AS applied,
    (
        SELECT jsonb_object_agg(held.run_id, held.amount)
        FROM (
            SELECT run_id, sum(cardinality(ids)) AS amount FROM alerts_leases GROUP BY run_id
        ) AS held
    ) AS held_by_run,
    (
        SELECT jsonb_object_agg(next.channel, next.due_at)
        FROM (
            SELECT
                c.channel,
                (
                    SELECT q.due_at
                    FROM alerts_send_queue AS q
                    WHERE q.source = 'deliveries' AND q.channel = c.channel AND q.due_at > %(now)s
                    ORDER BY q.due_at, q.id
                    LIMIT 1
                ) AS due_at
            FROM unnest(%(channels)s::text[]) AS c (channel)
        ) AS next
        WHERE next.due_at IS NOT NULL
    ) AS next_due,
    {INPUT}
"""  # noqa: S608  (composed of constants)


@dataclass(frozen=True)
class Around:
    """``next_due`` is on the business clock."""

    applied: tuple[str, ...]  # migrations
    held_by_run: dict[str, int]
    next_due: dict[str, datetime]
    input: Input

    @property
    def lacking(self) -> tuple[str, ...]:
        """Migrations that this version has and the database lacks."""
        return tuple(name for name in files_at_hand() if name not in self.applied)


def read_around(conn: db.Connection, channels: tuple[str, ...], now: datetime) -> Around:
    """Read all of it at ``now`` (business time). Raises ``psycopg2.Error``."""
    row = db.fetch_all(conn, AROUND, {"now": now, "channels": list(channels)})[0]
    due = (row["next_due"] or {}).items()
    return Around(
        applied=tuple(row["applied"]),
        held_by_run=row["held_by_run"] or {},
        next_due={name: datetime.fromisoformat(at) for name, at in due},
        input=Input.of(row),
    )


@cache
def files_at_hand() -> tuple[str, ...]:
    """The names of the migrations that came with this version; none where they cannot be read."""
    try:
        found = migrations.load_migrations(migrations.MIGRATIONS_DIR)
    except migrations.MigrationError:
        return ()
    return tuple(each.name for each in found)
