"""What keeps a run from its phases: a pause of the engine, or a database of another version."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg2

from alerts import db, migrations
from alerts.migrations.records import INCOMPATIBLE
from alerts.repair.pauses import ENGINE, Pause

# In one round trip.
_BEFORE_RUN = """
SELECT
    (
        SELECT coalesce(jsonb_agg(p ORDER BY p.channel <> 'all', p.channel), '[]')
        FROM (SELECT channel, reason, paused_at FROM alerts_pauses) AS p
    ) AS pauses,
    ARRAY(SELECT name FROM schema_migrations) AS applied,
    ARRAY(SELECT channel FROM alerts_test_messages WHERE done_at IS NULL) AS asked
"""


@dataclass(frozen=True)
class BeforeRun:
    """``status`` is how the run ends without a phase, ``summary`` why; None where it may run.

    ``asked``: the channels by which the owner waits for a test message.
    """

    pauses: list[Pause]
    status: str | None = None
    summary: str | None = None
    asked: tuple[str, ...] = ()


def look(conn: db.Connection, log: logging.LoggerAdapter[Any]) -> BeforeRun:
    """Whether a run may begin. Raises ``psycopg2.Error``."""
    try:
        row = db.fetch_all(conn, _BEFORE_RUN)[0]
    except psycopg2.Error as error:
        if not db.lacks_migrations(error):
            raise
        pending = migrations.status(conn).pending
        if not pending:  # somebody dropped what was there
            raise
        return BeforeRun([], "failed", f"{error.pgcode}: {_lacking(pending)}")
    found = [
        Pause(each["channel"], each["reason"], datetime.fromisoformat(each["paused_at"]))
        for each in row["pauses"]
    ]
    asked = tuple(row["asked"])
    wrong = _wrong_version(row["applied"], log)
    if wrong:
        return BeforeRun(found, "failed", wrong, asked)
    if any(each.channel == ENGINE for each in found):
        return BeforeRun(found, "skipped", str(found[0]), asked)
    return BeforeRun(found, asked=asked)


def _wrong_version(applied: list[str], log: logging.LoggerAdapter[Any]) -> str | None:
    """Why this version of the engine must leave the database alone; None where it need not."""
    try:
        files = [each.name for each in migrations.load_migrations(migrations.MIGRATIONS_DIR)]
    except migrations.MigrationError:
        log.warning("the migrations of this version cannot be read: see the preflight")
        return None
    lacking = [name for name in files if name not in applied]
    if lacking:
        return _lacking(lacking)
    newer = sorted(name for name in applied if name > files[-1])
    incompatible = [name for name in newer if INCOMPATIBLE in name]
    if incompatible:
        told = ", ".join(incompatible)
        return f"the database has {told} of a newer version; run that version"
    if newer:
        text = "the database is newer than this version"
        log.warning(text, extra={"migrations": ", ".join(newer)})
    return None


def _lacking(names: list[str] | tuple[str, ...]) -> str:
    return f"the database lacks {', '.join(names)}; {db.MIGRATE}"
