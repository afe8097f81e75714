"""The app over a fresh database, and a caller that holds the token."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from tests.support.web import Admin, app_for


@pytest.fixture
def client(database_url: str) -> FlaskClient:
    """Calls the app without any header."""
    return app_for(database_url).test_client()


@pytest.fixture
def admin(client: FlaskClient) -> Admin:
    """Calls admin routes with the token."""
    return Admin(client)
