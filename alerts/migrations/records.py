"""The table ``schema_migrations`` and its comparison with the files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from psycopg2.extensions import cursor

from alerts.migrations.files import Migration, MigrationError

_CREATE = """
CREATE TABLE schema_migrations (
    version INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now()
)
"""
_OUR_COLUMNS = {
    "version integer NOT NULL",
    "name text NOT NULL",
    "checksum text NOT NULL",
    "applied_at timestamp with time zone NOT NULL",
}
# The columns of the relation with the table's name, if it is an ordinary table.
_SHAPE = """
SELECT CASE WHEN relkind = 'r' THEN coalesce(string_agg(
    attname || ' ' || format_type(atttypid, atttypmod)
    || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END, ', ' ORDER BY attnum
), 'no columns') ELSE 'not even a table' END
FROM pg_class
LEFT JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
WHERE pg_class.oid = to_regclass('schema_migrations')
GROUP BY relkind
"""
_ADD = """
INSERT INTO schema_migrations (version, name, checksum, applied_at)
VALUES (%s, %s, %s, clock_timestamp())
RETURNING pg_current_xact_id()::text
"""


# In the name of a file that older versions of the engine cannot live with.
INCOMPATIBLE = "_incompatible"


class MigrationState(StrEnum):
    """The state of one migration, from its file, its row or both."""

    APPLIED = "applied"
    PENDING = "pending"
    CHANGED = "CHANGED"  # the file differs from the one that was applied
    MISSING = "MISSING"  # applied, but the file does not exist


class MigrationRow(NamedTuple):
    """One migration; ``applied_at`` is None while it is pending."""

    version: int
    name: str
    state: MigrationState
    applied_at: datetime | None


@dataclass(frozen=True)
class MigrationStatus:
    """All migrations in the files and the database by number, and their names by state.

    ``skipped`` are pending migrations that precede a recorded one.
    """

    rows: tuple[MigrationRow, ...]
    applied: tuple[str, ...]
    pending: tuple[str, ...]
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    skipped: tuple[str, ...]

    @property
    def newer(self) -> tuple[str, ...]:
        """Applied by a later version: beyond the last file there is."""
        newest = max((row.version for row in self.rows if row.name not in self.missing), default=0)
        return tuple(r.name for r in self.rows if r.name in self.missing and r.version > newest)

    @property
    def incompatible(self) -> tuple[str, ...]:
        """Of the newer ones those that an older version cannot live with, as their names say."""
        return tuple(name for name in self.newer if INCOMPATIBLE in name)

    @property
    def usable(self) -> bool:
        """Whether this version can work on the database: what it needs is there."""
        gone = set(self.missing) - set(self.newer)
        return not (self.pending or self.changed or self.skipped or gone or self.incompatible)

    @property
    def consistent(self) -> bool:
        """Whether it is possible to migrate."""
        return not (self.changed or self.missing or self.skipped)

    @property
    def ok(self) -> bool:
        """Whether the database matches the files exactly."""
        return self.consistent and not self.pending

    def refuse_unless_consistent(self) -> None:
        """Raise :class:`MigrationError` naming every inconsistent file and how to fix it."""
        if self.skipped:
            raise MigrationError(
                f"schema_migrations has a gap ({', '.join(self.skipped)} not recorded, but a later "
                "one is): restore the rows if they were deleted, or rename the table if another "
                "tool filled it, then migrate again."
            )
        problems = [
            f"{name}.sql was changed after it was applied: restore it, and put the change "
            "into a new migration."
            for name in self.changed
        ] + [
            f"{name} is applied in this database, but its file is missing: this checkout is older "
            "than the database, or the file was deleted or renumbered. Restore the file."
            for name in self.missing
        ]
        if problems:
            raise MigrationError("\n".join(problems))


class Record(NamedTuple):
    """A row of ``schema_migrations``."""

    version: int
    name: str
    checksum: str
    applied_at: datetime


def read_records(cur: cursor, *, create: bool = False) -> list[Record]:
    """Return the recorded migrations; none if the table does not exist (``create`` creates it).

    Runs at most two statements. Raises :class:`MigrationError` if the table is not ours.
    """
    cur.execute(_SHAPE)
    shape = cur.fetchone()
    if shape is None:
        if create:
            cur.execute(_CREATE)
        return []
    if set(shape[0].split(", ")) != _OUR_COLUMNS:
        raise MigrationError(
            f"schema_migrations of this database belongs to another tool ({shape[0]}): rename it, "
            "or use a separate database for the alerts, then migrate again."
        )
    cur.execute("SELECT version, name, checksum, applied_at FROM schema_migrations")
    return [Record(*row) for row in cur.fetchall()]


def add_record(cur: cursor, migration: Migration) -> str:
    """Record ``migration`` as applied and return the id of the current transaction."""
    cur.execute(_ADD, (migration.version, migration.name, migration.checksum))
    found = cur.fetchone()
    return str(found[0]) if found else ""


def compare(migrations: Sequence[Migration], records: Sequence[Record]) -> MigrationStatus:
    """Return the state of every migration that has a file, a row or both."""
    recorded = {record.version: record for record in records}
    rows = [_row(migration, recorded.get(migration.version)) for migration in migrations]
    rows += [
        MigrationRow(record.version, record.name, MigrationState.MISSING, record.applied_at)
        for record in records
        if record.version not in {migration.version for migration in migrations}
    ]
    rows.sort()
    names = {s: tuple(row.name for row in rows if row.state == s) for s in MigrationState}
    newest = max(recorded, default=0)
    return MigrationStatus(
        tuple(rows),
        applied=names[MigrationState.APPLIED],
        pending=names[MigrationState.PENDING],
        changed=names[MigrationState.CHANGED],
        missing=names[MigrationState.MISSING],
        skipped=tuple(r.name for r in rows if r.version < newest and r.version not in recorded),
    )


def _row(migration: Migration, record: Record | None) -> MigrationRow:
    if record is None:
        return MigrationRow(migration.version, migration.name, MigrationState.PENDING, None)
    same = record.checksum == migration.checksum
    state = MigrationState.APPLIED if same else MigrationState.CHANGED
    return MigrationRow(migration.version, migration.name, state, record.applied_at)
