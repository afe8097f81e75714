"""A run looks at the database's version before it begins, and says what it lacks by name."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db, migrations
from tests.support.run_world import last_run
from tests.support.world import run

NEWER = "INSERT INTO schema_migrations (version, name, checksum) VALUES (%s, %s, 'x')"


def names() -> list[str]:
    return sorted(path.stem for path in migrations.MIGRATIONS_DIR.glob("*.sql"))


@pytest.mark.parametrize("lacking", [slice(-1, None), slice(-3, None), slice(2, 4)])
def test_migrations_that_the_database_lacks_fail_the_run_by_name(
    conn: Connection, database_url: str, lacking: slice
) -> None:
    missing = names()[lacking]
    db.execute(conn, "DELETE FROM schema_migrations WHERE name = ANY (%s)", (missing,))
    report = run(database_url)
    assert (report.record.status, report.record.items, report.recorded) == ("failed", (), True)
    told = f"the database lacks {', '.join(missing)}; run python scripts/migrate.py"
    assert last_run(conn)["error_summary"] == told


@pytest.mark.parametrize("table", ["alerts_pauses", "schema_migrations"])
def test_a_table_that_is_not_there_yet_is_told_by_its_migration(
    conn: Connection, database_url: str, table: str
) -> None:
    db.execute(conn, f"DROP TABLE {table}")
    db.execute(conn, "DELETE FROM schema_migrations WHERE version >= 6"
               if table == "alerts_pauses" else "SELECT 1")  # fmt: skip
    record = run(database_url).record
    assert record.status == "failed"
    assert names()[-1] in str(record.error_summary)
    assert "scripts/migrate.py" in str(record.error_summary)


def test_an_empty_database_lacks_all_of_them(empty_database_url: str, tmp_path: Path) -> None:
    environ = {"ALERTS_RUN_SPOOL": str(tmp_path / "spool.jsonl")}
    record = run(empty_database_url, environ=environ).record
    assert record.status == "failed"
    assert all(name in str(record.error_summary) for name in names())


@pytest.mark.parametrize("newer", [["9000_more"], ["9000_more", "9001_compatible"]])
def test_a_newer_database_is_a_warning(
    conn: Connection, database_url: str, caplog: pytest.LogCaptureFixture, newer: list[str]
) -> None:
    for number, name in enumerate(newer):
        db.execute(conn, NEWER, (9000 + number, name))
    with caplog.at_level(logging.WARNING):
        assert run(database_url).record.status == "success"
    assert "the database is newer than this version" in caplog.text


def test_one_that_is_marked_incompatible_fails_the_run(conn: Connection, database_url: str) -> None:
    for number, name in enumerate(["9000_more", "9001_incompatible_rows"]):
        db.execute(conn, NEWER, (9000 + number, name))
    record = run(database_url).record
    assert (record.status, record.items) == ("failed", ())
    told = "the database has 9001_incompatible_rows of a newer version; run that version"
    assert record.error_summary == told


def test_files_that_cannot_be_read_are_no_reason_not_to_run(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "MIGRATIONS_DIR", tmp_path)
    assert run(database_url).record.status == "success"


def test_what_was_changed_after_it_was_applied_is_for_the_preflight(
    conn: Connection, database_url: str
) -> None:
    db.execute(conn, "UPDATE schema_migrations SET checksum = 'x'")
    assert run(database_url).record.status == "success"
