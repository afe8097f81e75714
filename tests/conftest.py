"""Fixtures shared by all tests: real PostgreSQL databases, each test its own.

The server is started by the first test that asks for a database: the embedded one, or the one
that DATABASE_URL names, on which databases of our own are made and dropped; the content of the
database named there is never touched. Migrations run once a test run, into a template of which
every test gets a clone.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from hypothesis import settings as hypothesis_settings
from psycopg2.extensions import connection as Connection

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from tests.support.browser import Browsing, launched, missing_browser  # noqa: E402
from tests.support.databases import TestServer, release_server, reserve_server  # noqa: E402

# Whoever runs the tests may hold real credentials, or stand in a CI job whose summary file the
# runner would write to. Tests set what they need and see nothing else.
FOREIGN_VARIABLES = re.compile(
    r"(PRODUCTION_)?DATABASE_URL|CI|INTERNAL_RUNNER_TOKEN|SMTP_URL"
    r"|(ALERTS|EMAIL|BREVO|RESEND|TELEGRAM|TWILIO|GITHUB|GUNICORN)_\w+|PG[A-Z]+"
)
OWN_VARIABLES = "ALERTS_TEST_"


def pytest_configure(config: pytest.Config) -> None:
    if not _is_worker(config):
        _prepare_run()
    for name in list(os.environ):
        if FOREIGN_VARIABLES.fullmatch(name) and not name.startswith(OWN_VARIABLES):
            del os.environ[name]
    # The same examples every time on CI, so that a red run can be repeated; no deadline, since
    # a loaded machine is no failure.
    hypothesis_settings.register_profile("ci", derandomize=True, deadline=None, database=None)
    hypothesis_settings.register_profile("dev", deadline=None)
    hypothesis_settings.load_profile("ci" if "ALERTS_TEST_ON_CI" in os.environ else "dev")


def pytest_unconfigure(config: pytest.Config) -> None:
    if not _is_worker(config):
        release_server()
        shutil.rmtree(os.environ["ALERTS_TEST_SPOOLS"], ignore_errors=True)


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _prepare_run() -> None:
    """What is done once a run, by the process that starts the workers: they inherit the
    environment that it leaves."""
    for name in [name for name in os.environ if name.startswith(OWN_VARIABLES)]:
        del os.environ[name]
    os.environ["ALERTS_TEST_RUN_ID"] = secrets.token_hex(4)
    os.environ["ALERTS_TEST_SPOOLS"] = tempfile.mkdtemp(prefix="alerts-test-spools-")
    os.environ["ALERTS_TEST_SERVER_URL"] = os.environ.get("DATABASE_URL", "")
    if os.environ.get("CI"):
        os.environ["ALERTS_TEST_ON_CI"] = "1"
    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(CHECKOUT / ".dev" / "hypothesis"))
    reserve_server()
    # A run that is told to end still has to stop its server. SIGINT is set too since a shell
    # starts its background jobs with it ignored, which the processes of tests would inherit.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


@pytest.fixture(scope="session")
def test_server() -> Iterator[TestServer]:
    """The server on which this run makes its databases."""
    server = TestServer.open()
    yield server
    server.close()


@pytest.fixture
def database_url(test_server: TestServer) -> Iterator[str]:
    """A fresh database with all migrations applied; dropped afterwards, whoever is connected."""
    name = test_server.create(migrated=True)
    yield test_server.url(name)
    test_server.drop(name)


@pytest.fixture
def empty_database_url(test_server: TestServer) -> Iterator[str]:
    """A fresh database without anything in it; dropped afterwards, whoever is connected."""
    name = test_server.create(migrated=False)
    yield test_server.url(name)
    test_server.drop(name)


@pytest.fixture
def sql_ascii_url(test_server: TestServer) -> Iterator[str]:
    """A fresh database of an encoding that is none, with nothing in it."""
    name = test_server.create_encoded("SQL_ASCII")
    yield test_server.url(name)
    test_server.drop(name)


@pytest.fixture
def conn(database_url: str) -> Iterator[Connection]:
    """A connection to `database_url`: autocommit, time zone UTC."""
    connection = psycopg2.connect(database_url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SET TimeZone = 'UTC'")
    yield connection
    connection.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A Chromium, started by the first test of a process that asks for one."""
    if reason := missing_browser():
        pytest.skip(reason)
    with launched() as chromium:
        yield chromium


@pytest.fixture
def browsing(browser: Any) -> Iterator[Browsing]:
    """Pages of one test in the shared browser."""
    pages = Browsing(browser)
    yield pages
    pages.close()
