"""Applying migrations to a real PostgreSQL: order, bookkeeping, locks, status."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from alerts import migrations
from alerts.migrations import MIGRATIONS_DIR, MigrationError, Timeouts, records
from alerts.migrations.apply import LOCK_KEY
from alerts.migrations.files import load_migrations
from tests.support.migrating import CATALOGUE, Write, connected, query, recorded, refusal, writer

OURS = (
    "version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, "
    "applied_at TIMESTAMPTZ NOT NULL"
)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes migration files into a folder of the test."""
    return writer(tmp_path)


# Order, bookkeeping, tables that are not ours


def test_files_are_applied_in_order_once(empty_database_url: str, write: Write) -> None:
    directory = write(
        _0002_second="INSERT INTO t VALUES (2)", _0001_first="CREATE TABLE t (n INT);"
    )
    lines: list[str] = []
    applied = migrations.migrate(empty_database_url, directory, report=lines.append)
    assert applied == ["0001_first", "0002_second"] == recorded(empty_database_url)
    assert [line.split()[0] for line in lines] == ["0001_first.sql", "0002_second.sql"]
    assert migrations.migrate(empty_database_url, directory) == []
    assert query(empty_database_url, "SELECT n FROM t") == [(2,)]


def test_a_later_file_joins_those_already_applied(empty_database_url: str, write: Write) -> None:
    migrations.migrate(empty_database_url, write(_0001_first="CREATE TABLE t (n INT)"))
    directory = write(_0002_second="ALTER TABLE t ADD COLUMN m INT")
    assert migrations.migrate(empty_database_url, directory) == ["0002_second"]


def test_the_projects_own_migrations_apply(empty_database_url: str) -> None:
    applied = migrations.migrate(empty_database_url)
    assert applied == sorted(path.stem for path in MIGRATIONS_DIR.glob("*.sql"))
    with connected(empty_database_url) as conn:
        assert migrations.status(conn).ok


def test_other_line_endings_and_a_byte_order_mark_are_the_same_migration(
    empty_database_url: str, write: Write
) -> None:
    migrations.migrate(empty_database_url, write(_0001_first="SELECT 1;\nSELECT 2;\n"))
    directory = write(_0001_first="\ufeffSELECT 1;\r\nSELECT 2;\r\n")
    assert migrations.migrate(empty_database_url, directory) == []


def test_a_changed_file_is_refused(empty_database_url: str, write: Write) -> None:
    migrations.migrate(empty_database_url, write(_0001_first="SELECT 1"))
    directory = write(_0001_first="SELECT 2", _0002_next="CREATE TABLE t ()")
    assert "0001_first.sql was changed after" in refusal(empty_database_url, directory)
    assert recorded(empty_database_url) == ["0001_first"]


def test_an_applied_migration_without_its_file_is_refused(
    empty_database_url: str, write: Write
) -> None:
    directory = write(_0001_first="SELECT 1", _0002_second="SELECT 2")
    migrations.migrate(empty_database_url, directory)
    (directory / "0002_second.sql").unlink()
    message = refusal(empty_database_url, directory)
    assert "0002_second is applied in this database, but its file is missing" in message


@pytest.mark.parametrize(
    ("found", "named"),
    [
        ("TABLE schema_migrations (version INTEGER PRIMARY KEY)", "version integer NOT NULL"),
        ("TABLE schema_migrations (version BIGINT NOT NULL, dirty BOOLEAN)", "dirty boolean"),
        ("TABLE schema_migrations (version VARCHAR NOT NULL)", "version character varying"),
        ("TABLE schema_migrations (version TEXT, applied_at TIMESTAMP, by TEXT)", "by text"),
        (f"TABLE schema_migrations ({OURS}, dirty BOOLEAN)", "dirty boolean"),
        (f"TABLE schema_migrations ({OURS.replace('INTEGER', 'TEXT')})", "version text"),
        (f"TABLE schema_migrations ({OURS.replace('checksum TEXT NOT NULL', 'checksum TEXT')})",
         "checksum text,"),
        ("TABLE schema_migrations ()", "(no columns)"),
        ("VIEW schema_migrations AS SELECT 1 AS version", "not even a table"),
        ("SEQUENCE schema_migrations", "not even a table"),
        ("MATERIALIZED VIEW schema_migrations AS SELECT 1 AS version", "not even a table"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_table_of_another_tool_is_refused_and_left_as_it_is(
    empty_database_url: str, write: Write, found: str, named: str, dry_run: bool
) -> None:
    query(empty_database_url, f"CREATE {found}")
    before = query(empty_database_url, CATALOGUE)
    directory = write(_0001_first="CREATE TABLE t ()")
    message = refusal(empty_database_url, directory, dry_run=dry_run)
    assert message.startswith("schema_migrations of this database belongs to another tool")
    assert named in message
    assert message.endswith("then migrate again.")
    with pytest.raises(MigrationError, match="belongs to another tool"):
        migrations.status_of(empty_database_url, directory)
    assert query(empty_database_url, CATALOGUE) == before


def test_a_table_whose_other_columns_were_dropped_is_ours(
    empty_database_url: str, write: Write
) -> None:
    query(empty_database_url, f"CREATE TABLE schema_migrations (dirty BOOLEAN, {OURS})")
    query(empty_database_url, "ALTER TABLE schema_migrations DROP COLUMN dirty")
    assert migrations.migrate(empty_database_url, write(_0001_a="SELECT 1")) == ["0001_a"]


@pytest.mark.parametrize("deleted", [(1, 2, 3, 4), (2,), (1,), (2, 4)])
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_gap_in_the_recorded_versions_is_refused(
    empty_database_url: str, write: Write, deleted: tuple[int, ...], dry_run: bool
) -> None:
    directory = write(**{f"_000{number}_m": "SELECT 1" for number in range(1, 6)})
    migrations.migrate(empty_database_url, directory)
    numbers = ", ".join(map(str, deleted))
    query(empty_database_url, f"DELETE FROM schema_migrations WHERE version IN ({numbers})")
    before = recorded(empty_database_url)
    message = refusal(empty_database_url, directory, dry_run=dry_run)
    names = ", ".join(f"000{number}_m" for number in deleted)
    assert message.startswith(f"schema_migrations has a gap ({names} not recorded")
    assert message.endswith("then migrate again.")
    found = migrations.status_of(empty_database_url, directory)
    assert (found.skipped, found.consistent) == (found.pending, False)
    assert recorded(empty_database_url) == before


def test_another_tools_row_in_a_table_like_ours_is_refused_as_a_gap(
    empty_database_url: str, write: Write
) -> None:
    query(empty_database_url, f"CREATE TABLE schema_migrations ({OURS})")
    query(empty_database_url, "INSERT INTO schema_migrations VALUES (5, 'five', 'x', now())")
    message = refusal(empty_database_url, write(_0001_first="SELECT 1"))
    assert message.startswith("schema_migrations has a gap (0001_first not recorded")
    assert "\n" not in message


# Locks and settings


def test_a_table_in_use_ends_the_wait_with_the_mend(empty_database_url: str, write: Write) -> None:
    query(empty_database_url, "CREATE TABLE busy ()")
    directory = write(_0001_a="SELECT 1;\nALTER TABLE busy ADD COLUMN n INT")
    quick = Timeouts(table_lock=0.2)
    with connected(empty_database_url, "some-report") as other:
        other.cursor().execute("BEGIN; LOCK TABLE busy IN ACCESS SHARE MODE")
        message = refusal(empty_database_url, directory, timeouts=quick)
        assert message.startswith("0001_a.sql, line 2: ")
        assert "Run again" in message
        assert f"pid {other.info.backend_pid} (some-report, idle in transaction)" in message
    assert migrations.migrate(empty_database_url, directory, timeouts=quick) == ["0001_a"]


def test_another_run_is_waited_for_and_named(empty_database_url: str, write: Write) -> None:
    directory = write(_0001_a="CREATE TABLE t ()")
    lines: list[str] = []
    with connected(empty_database_url, "other-deploy") as other:
        other.cursor().execute("BEGIN; SELECT pg_advisory_xact_lock(%s)", (LOCK_KEY,))
        message = refusal(
            empty_database_url, directory, timeouts=Timeouts(other_run=0.2), report=lines.append
        )
        holder = f"pid {other.info.backend_pid} (other-deploy, idle in transaction)"
    assert message.startswith("another migration run has held the lock for more than 0.2 s")
    assert holder in message
    assert lines[0].startswith("waiting up to 0.2 s")
    assert migrations.migrate(empty_database_url, directory) == ["0001_a"]


def test_what_another_run_applied_meanwhile_is_not_applied_again(
    empty_database_url: str, write: Write
) -> None:
    directory = write(_0001_a="CREATE TABLE t ()", _0002_b="CREATE TABLE u ()")
    (first, second) = load_migrations(directory)
    with connected(empty_database_url) as other:
        cur = other.cursor()
        cur.execute("BEGIN; SELECT pg_advisory_xact_lock(%s)", (LOCK_KEY,))

        def finish_other_run(line: str) -> None:
            if line.startswith("waiting"):
                records.read_records(cur, create=True)
                records.add_record(cur, first)
                cur.execute("COMMIT")

        applied = migrations.migrate(empty_database_url, directory, report=finish_other_run)
    assert applied == [second.name]


def test_settings_of_the_database_do_not_decide(empty_database_url: str, write: Write) -> None:
    query(
        empty_database_url,
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET statement_timeout = 500', "
        "current_database()); EXECUTE format('ALTER DATABASE %I SET TimeZone = ''Asia/Tokyo''', "
        "current_database()); EXECUTE format('ALTER DATABASE %I SET "
        "default_transaction_isolation = ''serializable''', current_database()); END $$",
    )
    sql = "SELECT pg_sleep(0.7); CREATE TABLE t AS SELECT current_setting('TimeZone') AS zone"
    migrations.migrate(empty_database_url, write(_0001_a=sql))
    assert query(empty_database_url, "SELECT zone FROM t") == [("UTC",)]


@pytest.mark.parametrize("default", ["on", "off"])
def test_a_backslash_is_a_backslash_whatever_the_database_says(
    empty_database_url: str, write: Write, default: str
) -> None:
    query(
        empty_database_url,
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET standard_conforming_strings = "
        f"{default}', current_database()); END $$",
    )
    directory = write(_0001_a=r"CREATE TABLE t AS SELECT 'a\' AS x, E';\';' AS y;" "\nSELECT ';'")
    migrations.migrate(empty_database_url, directory)
    assert query(empty_database_url, "SELECT x, y FROM t") == [("a\\", ";';")]


def test_files_are_utf8_whatever_the_environment_says(
    empty_database_url: str, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    migrations.migrate(empty_database_url, write(_0001_a="CREATE TABLE t AS SELECT 'ü – €' AS x"))
    monkeypatch.delenv("PGCLIENTENCODING")
    assert query(empty_database_url, "SELECT x FROM t") == [("ü – €",)]


def test_a_lost_connection_is_told_and_leaves_nothing(
    empty_database_url: str, write: Write
) -> None:
    sql = "CREATE TABLE t ();\nSELECT pg_terminate_backend(pg_backend_pid());"
    message = refusal(empty_database_url, write(_0001_a=sql))
    assert message.startswith("0001_a.sql, line 2: ")
    assert "connection" in message
    assert query(empty_database_url, "SELECT to_regclass('t')") == [(None,)]


@pytest.fixture
def role(empty_database_url: str) -> Iterator[str]:
    """A role without any right; roles belong to the server, so it is dropped again."""
    name = f"role_{uuid.uuid4().hex}"
    query(empty_database_url, f"CREATE ROLE {name}")
    yield name
    query(empty_database_url, f"DROP ROLE {name}")


def test_a_role_without_rights_is_told(empty_database_url: str, write: Write, role: str) -> None:
    query(empty_database_url, f"CREATE TABLE schema_migrations ({OURS})")
    separator = "&" if "?" in empty_database_url else "?"
    url = f"{empty_database_url}{separator}options=-c%20role%3D{role}"
    directory = write(_0001_a="SELECT 1")
    expected = "permission denied for table schema_migrations"
    assert expected in refusal(url, directory)
    with pytest.raises(MigrationError, match=expected):
        migrations.status_of(url, directory)


# Status and rehearsal


def test_status_works_on_a_read_only_connection_and_creates_nothing(
    empty_database_url: str, write: Write
) -> None:
    directory = write(_0001_a="CREATE TABLE t ()")
    with connected(empty_database_url) as conn:
        conn.cursor().execute("SET default_transaction_read_only = on")
        found = migrations.status(conn, directory)
    assert (found.pending, found.applied, found.ok, found.consistent) == (
        ("0001_a",),
        (),
        False,
        True,
    )
    assert query(empty_database_url, "SELECT to_regclass('schema_migrations')") == [(None,)]


def test_status_tells_applied_pending_changed_and_missing_apart(
    empty_database_url: str, write: Write
) -> None:
    directory = write(_0001_a="SELECT 1", _0002_b="SELECT 2", _0003_c="SELECT 3")
    migrations.migrate(empty_database_url, directory)
    query(empty_database_url, "INSERT INTO schema_migrations VALUES (9, '0009_gone', 'x', now())")
    write(_0002_b="SELECT 20", _0004_d="SELECT 4")
    with connected(empty_database_url) as conn:
        found = migrations.status(conn, directory)
    assert found.applied == ("0001_a", "0003_c")
    assert found.pending == ("0004_d",)
    assert found.changed == ("0002_b",)
    assert found.missing == ("0009_gone",)
    assert not found.ok
    assert all((row.applied_at is None) == (row.state == "pending") for row in found.rows)


def test_a_dry_run_finds_errors_and_changes_nothing(empty_database_url: str, write: Write) -> None:
    directory = write(_0001_a="CREATE TABLE t ()", _0002_b="ALTER TABLE t ADD COLUMN n INT")
    before = query(empty_database_url, CATALOGUE)
    lines: list[str] = []
    applied = migrations.migrate(empty_database_url, directory, dry_run=True, report=lines.append)
    assert applied == ["0001_a", "0002_b"]
    assert "0002_b.sql  would be applied" in lines[1]
    write(_0003_c="SELECT 1;\nSELECT nope")
    assert "0003_c.sql, line 2: " in refusal(empty_database_url, directory, dry_run=True)
    assert query(empty_database_url, CATALOGUE) == before


def test_every_form_of_statement_reaches_the_server_whole(
    empty_database_url: str, write: Write
) -> None:
    sql = """
CREATE TABLE t (n INT, note TEXT DEFAULT 'a;b');  -- a comment; with a semicolon
CREATE FUNCTION one() RETURNS INT LANGUAGE sql
BEGIN ATOMIC
    SELECT 1;
    SELECT CASE WHEN true THEN 2 END;
END;
CREATE FUNCTION two() RETURNS INT LANGUAGE plpgsql AS $body$ BEGIN RETURN 3; END $body$;
CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2);
/* a; /* nested; */ comment; */ INSERT INTO t VALUES (one() + two(), E'\\';' || '100 %s');
"""
    migrations.migrate(empty_database_url, write(_0001_a=sql))
    assert query(empty_database_url, "SELECT n, note FROM t") == [(5, "';100 %s")]
