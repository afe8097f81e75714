"""What one migration does to its session reaches neither the next file nor anybody else."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alerts import db, migrations
from alerts.db import Connection
from tests.support.migrating import Write, query, writer
from tests.support.poolers import pgbouncer, transaction_pooler


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes migration files into a folder of the test."""
    return writer(tmp_path)


@pytest.fixture
def role(empty_database_url: str) -> Iterator[str]:
    """A role without any right; roles belong to the server, so it is dropped again."""
    name = f"role_{uuid.uuid4().hex}"
    query(empty_database_url, f"CREATE ROLE {name}")
    yield name
    query(empty_database_url, f"DROP ROLE {name}")


# A statement of the first file, and what must hold when the second begins.
LEAKS = {
    "search path of a dump": (
        "SELECT pg_catalog.set_config('search_path', '', false)",
        "current_setting('search_path') = 'public'",
    ),
    "setting of the transaction": (
        "SET LOCAL search_path = pg_catalog",
        "current_setting('search_path') = 'public'",
    ),
    "setting of its own": (
        "SELECT set_config('alerts.leak', 'x', false)",
        "coalesce(current_setting('alerts.leak', true), '') = ''",
    ),
    "timeouts": (
        "SELECT set_config(name, '1h', false) FROM (VALUES ('lock_timeout'), "
        "('statement_timeout'), ('idle_in_transaction_session_timeout')) AS v (name)",
        "(current_setting('lock_timeout'), current_setting('statement_timeout'), "
        "current_setting('idle_in_transaction_session_timeout')) = ('5s', '0', '0')",
    ),
    "strings": (
        "SELECT set_config('standard_conforming_strings', 'off', false)",
        r"'\' = chr(92)",
    ),
    "time zone": (
        "SELECT set_config('TimeZone', 'Asia/Tokyo', false)",
        "current_setting('TimeZone') = 'UTC'",
    ),
    "characteristics of transactions": (
        "SELECT set_config('default_transaction_read_only', 'on', false), "
        "set_config('default_transaction_isolation', 'serializable', false)",
        "current_setting('transaction_read_only') = 'off' "
        "AND current_setting('default_transaction_read_only') = 'off' "
        "AND current_setting('transaction_isolation') = 'read committed'",
    ),
    "role": ("SELECT set_config('role', '{role}', false)", "current_user = session_user"),
    "session authorization": (
        "SELECT set_config('session_authorization', '{role}', false)",
        "session_user <> '{role}' AND current_user = session_user",
    ),
    "temporary table": (
        "CREATE TEMP TABLE leaked (n INT); INSERT INTO leaked VALUES (1)",
        "to_regclass('leaked') IS NULL",
    ),
    "temporary table of the transaction": (
        "CREATE TEMP TABLE leaked (n INT) ON COMMIT DROP",
        "to_regclass('leaked') IS NULL",
    ),
    "prepared statement": (
        "PREPARE leaked AS SELECT 1",
        "NOT EXISTS (SELECT FROM pg_prepared_statements)",
    ),
    "cursor": (
        "DECLARE leaked CURSOR WITH HOLD FOR SELECT 1; DECLARE other CURSOR FOR SELECT 1",
        "NOT EXISTS (SELECT FROM pg_cursors WHERE name IN ('leaked', 'other'))",
    ),
    "listening": ("LISTEN leaked", "NOT EXISTS (SELECT pg_listening_channels())"),
    "advisory lock": (
        "SELECT pg_advisory_lock(4711)",
        "NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 "
        "AND pid = pg_backend_pid())",
    ),
}


@pytest.mark.parametrize(("leak", "clean"), LEAKS.values(), ids=LEAKS)
@pytest.mark.parametrize("dry_run", [False, True])
def test_nothing_leaks_from_one_file_to_the_next(
    empty_database_url: str, write: Write, role: str, leak: str, clean: str, dry_run: bool
) -> None:
    directory = write(
        _0001_a=leak.replace("{role}", role),
        _0002_b="DO $$ BEGIN ASSERT " + clean.replace("{role}", role) + "; END $$",
    )
    applied = migrations.migrate(empty_database_url, directory, dry_run=dry_run)
    assert applied == ["0001_a", "0002_b"]


def test_the_last_value_of_a_sequence_is_not_known_to_the_next_file(
    empty_database_url: str, write: Write
) -> None:
    sql = (
        "DO $$ BEGIN PERFORM lastval(); ASSERT false, 'leaked'; "
        "EXCEPTION WHEN object_not_in_prerequisite_state THEN NULL; END $$"
    )
    directory = write(_0001_a="CREATE SEQUENCE s; SELECT nextval('s')", _0002_b=sql)
    assert len(migrations.migrate(empty_database_url, directory)) == 2


def test_a_file_that_releases_every_advisory_lock_keeps_the_migrations_lock(
    empty_database_url: str, write: Write
) -> None:
    held = "EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())"
    sql = f"SELECT pg_advisory_unlock_all(); DO $$ BEGIN ASSERT {held}; END $$"
    assert migrations.migrate(empty_database_url, write(_0001_a=sql, _0002_b=sql))


def test_the_role_that_the_address_asks_for_holds_for_every_file(
    empty_database_url: str, write: Write, role: str
) -> None:
    query(empty_database_url, f"GRANT ALL ON SCHEMA public TO {role}")
    separator = "&" if "?" in empty_database_url else "?"
    directory = write(
        _0001_a="CREATE TABLE a (); SELECT set_config('role', 'none', false)",
        _0002_b="CREATE TABLE b ()",
    )
    migrations.migrate(f"{empty_database_url}{separator}options=-c%20role%3D{role}", directory)
    owners = "SELECT relname, pg_get_userbyid(relowner) FROM pg_class WHERE relname IN ('a', 'b')"
    assert query(empty_database_url, f"{owners} ORDER BY 1") == [("a", role), ("b", role)]
    query(empty_database_url, f"DROP OWNED BY {role}")


def test_what_others_left_in_a_pooled_session_reaches_no_file(
    empty_database_url: str, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(url: str, **options: Any) -> Connection:
        conn = real_connect(url, **options)
        db.execute(conn, "SET search_path = pg_catalog; SET default_transaction_read_only = on")
        return conn

    real_connect = db.connect
    monkeypatch.setattr(db, "connect", connect)
    migrations.migrate(empty_database_url, write(_0001_a="CREATE TABLE t ()"))
    assert query(empty_database_url, "SELECT to_regclass('public.t')::text") == [("t",)]


@pytest.mark.skipif(pgbouncer() is None, reason="pgbouncer is not installed")
def test_behind_a_pooler_nobody_gets_what_a_file_left(
    empty_database_url: str, write: Write, tmp_path: Path
) -> None:
    directory = write(
        _0001_a="SELECT set_config('search_path', '', false), pg_advisory_lock(4711)",
        _0002_b="CREATE TEMP TABLE leaked (); SELECT set_config('alerts.leak', 'x', false)",
    )
    for parent in [tmp_path, *tmp_path.parents][:3]:  # pgbouncer may run as another user
        parent.chmod(parent.stat().st_mode | 0o055)
    with transaction_pooler(pgbouncer() or "", empty_database_url, tmp_path) as url:
        assert migrations.migrate(url, directory) == ["0001_a", "0002_b"]
        left = query(
            url,
            "SELECT current_setting('search_path'), to_regclass('leaked'), "
            "coalesce(current_setting('alerts.leak', true), ''), current_setting('lock_timeout'), "
            "(SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database"
            " WHERE l.locktype = 'advisory' AND d.datname = current_database())",
        )
    assert left == [('"$user", public', None, "", "0", 0)]


@pytest.mark.parametrize("of", ["ROLE CURRENT_USER IN DATABASE", "DATABASE"])
def test_tables_go_where_the_engine_looks_whatever_a_default_says(
    empty_database_url: str, write: Write, of: str
) -> None:
    name = query(empty_database_url, "SELECT current_database()")[0][0]
    query(empty_database_url, "CREATE SCHEMA elsewhere")
    query(empty_database_url, f'ALTER {of} "{name}" SET search_path = elsewhere, public')
    directory = write(_0001_a="CREATE TABLE made ()")
    assert migrations.migrate(empty_database_url, directory) == ["0001_a"]
    assert migrations.migrate(empty_database_url, directory) == []
    assert migrations.status_of(empty_database_url, directory).ok
    found = query(empty_database_url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert {row[0] for row in found} == {"made", "schema_migrations"}
