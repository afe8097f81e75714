"""The table ``schema_migrations``, and how it compares with the files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from psycopg2.extensions import connection, cursor

from alerts.migrations.files import Migration, MigrationError

_EXISTS = "SELECT to_regclass('schema_migrations') IS NOT NULL"
# Through jsonb, so that a table of an older tool that lacks some of the columns reads as well.
_READ = """
SELECT row ->> 'version', row ->> 'name', row ->> 'checksum', row ->> 'applied_at'
FROM (SELECT to_jsonb(recorded) AS row FROM schema_migrations AS recorded) AS rows
"""
_CREATE = """
CREATE TABLE schema_migrations (
    version INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now()
)
"""
_COLUMNS = """
SELECT attname FROM pg_attribute
WHERE attrelid = to_regclass('schema_migrations') AND attnum > 0 AND NOT attisdropped
"""
# Without defaults: when an old row was applied is not known. IF NOT EXISTS would lock the table
# against its readers even where nothing is missing, hence one statement for each.
_ADD_COLUMN = {
    "version": "ALTER TABLE schema_migrations ADD COLUMN version INTEGER",
    "name": "ALTER TABLE schema_migrations ADD COLUMN name TEXT",
    "checksum": "ALTER TABLE schema_migrations ADD COLUMN checksum TEXT",
    "applied_at": "ALTER TABLE schema_migrations ADD COLUMN applied_at TIMESTAMPTZ",
}
_ADD = """
INSERT INTO schema_migrations (version, name, checksum, applied_at)
VALUES (%s, %s, %s, clock_timestamp())
RETURNING pg_current_xact_id()::text
"""
_ADOPT = """
UPDATE schema_migrations SET name = coalesce(name, %s), checksum = %s
WHERE version::text = %s AND checksum IS NULL
"""


class MigrationState(StrEnum):
    """How one migration stands: of the file, the row or both."""

    APPLIED = "applied"
    PENDING = "pending"
    CHANGED = "CHANGED"  # the file is not the one that was applied
    MISSING = "MISSING"  # applied, but there is no such file


@dataclass(frozen=True)
class MigrationRow:
    """One migration; ``applied_at`` is None when it is pending or its time is not known."""

    version: str
    name: str
    state: MigrationState
    applied_at: datetime | None


@dataclass(frozen=True)
class MigrationStatus:
    """Every migration of the files and the database, by number.

    ``unchecked`` names applied ones whose row has no checksum, left by an older tool; the next
    migrating run records it.
    """

    rows: tuple[MigrationRow, ...]
    unchecked: tuple[str, ...] = ()

    @property
    def applied(self) -> tuple[str, ...]:
        """Names of the migrations that are applied as their files say."""
        return self._names(MigrationState.APPLIED)

    @property
    def pending(self) -> tuple[str, ...]:
        """Names of the migrations to apply, in order."""
        return self._names(MigrationState.PENDING)

    @property
    def changed(self) -> tuple[str, ...]:
        """Names of the migrations whose file is not the one that was applied."""
        return self._names(MigrationState.CHANGED)

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the applied migrations without a file."""
        return self._names(MigrationState.MISSING)

    @property
    def consistent(self) -> bool:
        """Whether migrating is possible: nothing is changed or missing."""
        return not self.changed and not self.missing

    @property
    def ok(self) -> bool:
        """Whether the database is exactly what the files say."""
        return self.consistent and not self.pending

    def _names(self, state: MigrationState) -> tuple[str, ...]:
        return tuple(row.name for row in self.rows if row.state is state)

    def refuse_unless_consistent(self) -> None:
        """Raise :class:`MigrationError` naming every changed and missing file, with the mend."""
        problems = [
            f"{name}.sql was changed after it had been applied: restore it, and put the change "
            "into a new migration."
            for name in self.changed
        ] + [
            f"{name} is applied in this database, but its file is missing: this checkout is older "
            "than the database, or the file was deleted or renumbered. Bring the file back."
            for name in self.missing
        ]
        if problems:
            raise MigrationError("\n".join(problems))


@dataclass(frozen=True)
class Record:
    """A row of ``schema_migrations``; of an older tool all but the version may be None."""

    version: str
    name: str | None
    checksum: str | None
    applied_at: datetime | None

    @property
    def number(self) -> int | None:
        """The version as a number; None when it is none."""
        return int(self.version) if self.version.isascii() and self.version.isdigit() else None


def read_records(conn: connection) -> list[Record]:
    """The recorded migrations; empty when the table does not exist. At most two statements."""
    with conn.cursor() as cur:
        cur.execute(_EXISTS)
        found = cur.fetchone()
        return select_records(cur) if found and found[0] else []


def select_records(cur: cursor) -> list[Record]:
    """The recorded migrations of an existing table. Raises :class:`MigrationError`."""
    cur.execute(_READ)
    records = []
    for version, name, checksum, applied_at in cur.fetchall():
        if version is None:
            raise MigrationError(
                "schema_migrations holds a row without a version: it is another tool's table. "
                "Rename it, then migrate again."
            )
        records.append(Record(version, name, checksum, _time(applied_at)))
    return records


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:  # an older tool's idea of a time
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def ensure_table(cur: cursor) -> None:
    """Create ``schema_migrations``, or add what an existing one lacks; drops nothing."""
    cur.execute(_COLUMNS)
    columns = {name for (name,) in cur.fetchall()}
    if not columns:
        cur.execute(_CREATE)
        return
    for name, statement in _ADD_COLUMN.items():
        if name not in columns:
            cur.execute(statement)


def add_record(cur: cursor, migration: Migration) -> str:
    """Record ``migration`` as applied; the id of the transaction that does so."""
    cur.execute(_ADD, (migration.version, migration.name, migration.checksum))
    found = cur.fetchone()
    return str(found[0]) if found else ""


def adopt_records(
    cur: cursor, migrations: Sequence[Migration], records: Sequence[Record]
) -> list[Migration]:
    """Give rows without a checksum that of their file, so that later changes are noticed.

    The migrations concerned: recorded by an older tool, they count as applied.
    """
    by_number = {migration.version: migration for migration in migrations}
    adopted = []
    for record in records:
        migration = by_number.get(record.number or 0)
        if record.checksum is None and migration:
            cur.execute(_ADOPT, (migration.name, migration.checksum, record.version))
            adopted.append(migration)
    return adopted


def compare(migrations: Sequence[Migration], records: Sequence[Record]) -> MigrationStatus:
    """The state of every migration, known from its file, its row or both."""
    recorded = {record.number: record for record in records if record.number is not None}
    rows = [_row(migration, recorded.get(migration.version)) for migration in migrations]
    numbers = {migration.version for migration in migrations}
    rows += [
        MigrationRow(
            record.version,
            record.name or record.version.zfill(4),
            MigrationState.MISSING,
            record.applied_at,
        )
        for record in sorted(records, key=lambda r: (r.number or 0, r.version))
        if record.number not in numbers
    ]
    unchecked = tuple(
        migration.name
        for migration in migrations
        if (record := recorded.get(migration.version)) and record.checksum is None
    )
    return MigrationStatus(tuple(rows), unchecked)


def _row(migration: Migration, record: Record | None) -> MigrationRow:
    if record is None:
        state = MigrationState.PENDING
    elif record.checksum is None or record.checksum == migration.checksum:
        state = MigrationState.APPLIED
    else:
        state = MigrationState.CHANGED
    applied_at = record.applied_at if record else None
    return MigrationRow(f"{migration.version:04}", migration.name, state, applied_at)
