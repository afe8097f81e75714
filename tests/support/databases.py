"""Databases for tests: one server and one template per run, one clone per test."""

from __future__ import annotations

import fcntl
import itertools
import os
import time
from contextlib import suppress
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from scripts.dev.database import Cluster
from scripts.dev.place import DevDbError
from tests.support import CHECKOUT

CLUSTER = "test"
# How long dropping a database waits for its connections to end before it is forced.
LEAVE_SECONDS = 2.0

_reservation: int | None = None


def reserve_server() -> None:
    """Marks that a test run of this checkout is in progress; held by its main process."""
    global _reservation
    if os.environ["ALERTS_TEST_SERVER_URL"]:
        return
    state = CHECKOUT / ".dev" / "db"
    state.mkdir(parents=True, exist_ok=True)
    _reservation = os.open(state / "test.users", os.O_RDONLY | os.O_CREAT, 0o644)
    fcntl.flock(_reservation, fcntl.LOCK_SH)


def release_server() -> None:
    """Stop the embedded server or, if another run uses it, drop what this run created."""
    if _reservation is not None:
        with suppress(BlockingIOError):
            fcntl.flock(_reservation, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.environ.get("DEVDB_KEEP"):
                Cluster(CLUSTER).stop()
            return
    server_url = _running_server_url()
    with suppress(psycopg2.OperationalError):
        if server_url:
            TestServer(server_url).drop_all()


def _running_server_url() -> str | None:
    """Return this run's server without starting one."""
    external = os.environ["ALERTS_TEST_SERVER_URL"]
    info = None if external else Cluster(CLUSTER).running()
    return external or (info.url() if info else None)


class TestServer:
    """Creates and drops databases named after this run; one instance per process."""

    __test__ = False  # not a test class, whatever pytest makes of its name

    def __init__(self, server_url: str) -> None:
        self._server_url = server_url
        self._run = f"alerts_test_{os.environ['ALERTS_TEST_RUN_ID']}"
        self._template = f"{self._run}_template"
        self._numbers = itertools.count(1)
        self._admin = _connect(server_url)
        self._strategy = self._quickest_copy()

    @classmethod
    def open(cls) -> TestServer:
        """Connect to this run's server, started if necessary; on failure, fail the test."""
        try:
            url = os.environ["ALERTS_TEST_SERVER_URL"] or Cluster(CLUSTER).ensure().url()
            return cls(url)
        except DevDbError as error:
            pytest.fail(f"no database server for the tests: {error}", pytrace=False)
        except psycopg2.Error as error:
            pytest.fail(
                f"no database server for the tests: cannot connect to DATABASE_URL: {error}"
                "Unset it to use the embedded PostgreSQL.",
                pytrace=False,
            )

    def close(self) -> None:
        self._admin.close()

    def url(self, database: str) -> str:
        return urlunsplit(urlsplit(self._server_url)._replace(path=f"/{database}"))

    def create(self, migrated: bool) -> str:
        """Create a clone of the migrated template, or an empty database; returns its name."""
        if migrated:
            self._ensure_template()
        name = self._next_name()
        self._create(name, self._template if migrated else "template0")
        return name

    def _next_name(self) -> str:
        worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
        return f"{self._run}_{worker}_{next(self._numbers)}"

    def create_encoded(self, encoding: str) -> str:
        """Create an empty database with that encoding and C collation; returns its name."""
        name = self._next_name()
        provider = "LOCALE_PROVIDER libc" if self._admin.info.server_version >= 150_000 else ""
        statement = sql.SQL(
            f"CREATE DATABASE {{}} TEMPLATE template0 ENCODING {{}} {provider} LOCALE 'C'"
        )
        self._execute(statement.format(sql.Identifier(name), sql.Literal(encoding)))
        return name

    def drop(self, database: str) -> None:
        self._disconnect(database)
        self._execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database))
        )

    def drop_all(self) -> None:
        """Drop everything left from this run, including the template."""
        with self._admin.cursor() as cursor:
            cursor.execute(
                "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", (self._run,)
            )
            names = [row[0] for row in cursor.fetchall()]
        for name in names:
            self.drop(name)
        self.close()

    def _ensure_template(self) -> None:
        """Create the template in the first worker while the others wait; it is renamed when
        complete, so the final name means that it is complete."""
        if self._exists(self._template):
            return
        self._execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", self._template)
        try:
            if not self._exists(self._template):
                self._make_template()
        finally:
            self._execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", self._template)

    def _make_template(self) -> None:
        # Imported here, because tests of pure modules must not need the migrations.
        from alerts.migrations import migrate

        unfinished = f"{self._template}_new"
        self.drop(unfinished)
        self._create(unfinished, "template0")
        migrate(self.url(unfinished))
        self._disconnect(unfinished)
        rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
        self._execute(rename.format(sql.Identifier(unfinished), sql.Identifier(self._template)))

    def _create(self, name: str, template: str) -> None:
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} ENCODING 'UTF8' {}")
        self._execute(
            statement.format(sql.Identifier(name), sql.Identifier(template), self._strategy)
        )

    def _quickest_copy(self) -> sql.SQL:
        """Copying files takes a third of the time of logging every block, but two checkpoints,
        which are dear where they wait for a disk. Before version 15 there is nothing else."""
        with self._admin.cursor() as cursor:
            cursor.execute("SHOW fsync")
            by_file = cursor.fetchone() == ("off",) and self._admin.info.server_version >= 150_000
        return sql.SQL("STRATEGY FILE_COPY" if by_file else "")

    def _exists(self, name: str) -> bool:
        with self._admin.cursor() as cursor:
            cursor.execute("SELECT FROM pg_database WHERE datname = %s", (name,))
            return cursor.rowcount > 0

    def _disconnect(self, database: str) -> None:
        # DROP DATABASE checks for connections only every 100 ms; checking ourselves is faster.
        deadline = time.monotonic() + LEAVE_SECONDS
        while self._terminate(database) and time.monotonic() < deadline:
            time.sleep(0.001)

    def _terminate(self, database: str) -> int:
        """Terminate every connection to the database and return how many there were."""
        with self._admin.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                (database,),
            )
            return cursor.rowcount

    def _execute(self, statement: str | sql.Composable, *parameters: str) -> None:
        with self._admin.cursor() as cursor:
            cursor.execute(statement, parameters or None)


def _connect(url: str) -> Connection:
    connection = psycopg2.connect(url, connect_timeout=10)
    connection.autocommit = True
    return connection
