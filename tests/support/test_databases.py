"""The guarantees of the database fixtures, on which every other test relies."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import psycopg2
from psycopg2.extensions import connection as Connection

from tests.support import CHECKOUT
from tests.support.databases import TestServer

FOREIGN = {
    "DATABASE_URL": "postgresql://127.0.0.1:1/none",
    "BREVO_API_KEY": "secret",
    "ALERTS_CLOCK": "2022-01-01T00:00:00Z",
    "GITHUB_STEP_SUMMARY": "/dev/null",
    "CI": "true",
}


def query(url: str, statement: str) -> list[object]:
    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return [row[0] for row in cursor.fetchall()] if cursor.description else []
    finally:
        connection.close()


def run_of_its_own(test: Callable[..., None], **more: str) -> subprocess.CompletedProcess[str]:
    """Run one test of this file as a complete pytest run."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    node = f"{__file__}::{test.__name__}"
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-s", "-p", "no:cacheprovider", node],
        env={**kept, **more},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_test_gets_all_migrations_and_its_own_rows(conn: Connection, database_url: str) -> None:
    print("inner run", os.environ["ALERTS_TEST_RUN_ID"])  # read by the test that runs this one
    with conn.cursor() as cursor:
        cursor.execute("SELECT max(version) FROM schema_migrations")
        (version,) = cursor.fetchone()
        cursor.execute("SHOW TimeZone")
        assert cursor.fetchone() == ("UTC",)
        cursor.execute("CREATE TABLE mine ()")
    assert int(version) == len(list((CHECKOUT / "sql").glob("*.sql")))
    assert query(database_url, "SELECT to_regclass('mine')::text") == ["mine"]


def test_an_empty_database_is_empty(empty_database_url: str) -> None:
    statement = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    assert query(empty_database_url, statement) == [0]


def test_a_database_is_dropped_however_many_connections_linger(test_server: TestServer) -> None:
    name = test_server.create(migrated=False)
    lingering = [psycopg2.connect(test_server.url(name)) for _ in range(3)]
    test_server.drop(name)
    found = query(
        test_server.url("postgres"), f"SELECT datname FROM pg_database WHERE datname = '{name}'"
    )
    assert found == []
    for connection in lingering:
        connection.close()


def test_a_run_on_the_server_of_the_caller_keeps_to_databases_of_its_own(
    empty_database_url: str,
) -> None:
    query(empty_database_url, "CREATE TABLE precious AS SELECT 1 AS kept")
    done = run_of_its_own(
        test_a_test_gets_all_migrations_and_its_own_rows, DATABASE_URL=empty_database_url
    )
    assert done.returncode == 0, done.stdout
    assert query(empty_database_url, "SELECT kept FROM precious") == [1]
    names = map(str, query(empty_database_url, "SELECT datname FROM pg_database"))
    inner = done.stdout.split("inner run ")[1].split()[0]
    assert [name for name in names if inner in name] == []


def test_tests_see_neither_credentials_nor_the_ci_job() -> None:
    done = run_of_its_own(test_inner_environment, **FOREIGN)
    assert done.returncode == 0, done.stdout


def test_inner_environment() -> None:
    assert FOREIGN.keys().isdisjoint(os.environ)


def test_a_server_that_cannot_be_had_is_said_clearly() -> None:
    url = "postgresql://nobody:hidden@127.0.0.1:1/none"
    done = run_of_its_own(test_an_empty_database_is_empty, DATABASE_URL=url)
    assert done.returncode == 1
    assert "no database server for the tests: cannot connect to DATABASE_URL" in done.stdout
    assert "hidden" not in done.stdout
