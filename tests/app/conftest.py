"""The app over a fresh database, and a caller that holds the token."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from tests.support.databases import TestServer
from tests.support.gunicorn import Served, serving
from tests.support.web import Admin, app_for


@pytest.fixture
def client(database_url: str) -> FlaskClient:
    """Calls the app without any header."""
    return app_for(database_url).test_client()


@pytest.fixture
def admin(client: FlaskClient) -> Admin:
    """Calls admin routes with the token."""
    return Admin(client)


@pytest.fixture(scope="module")
def web_database(test_server: TestServer) -> Iterator[str]:
    """A migrated database for the tests of a module; its URL."""
    name = test_server.create(migrated=True)
    yield test_server.url(name)
    test_server.drop(name)


@pytest.fixture(scope="module")
def server(web_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The app under gunicorn on that database."""
    with serving(web_database, tmp_path_factory.mktemp("web") / "log") as served:
        yield served
