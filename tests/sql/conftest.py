"""Databases as an old deployment has them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from tests.support.databases import TestServer
from tests.support.old_deployment import OLD_DEPLOYMENT, connect


@pytest.fixture
def old_url(empty_database_url: str) -> str:
    """A database as an old deployment has it, not yet migrated."""
    with closing(connect(empty_database_url)) as conn:
        db.execute(conn, OLD_DEPLOYMENT)
    return empty_database_url


@pytest.fixture
def fresh_url(test_server: TestServer) -> Iterator[str]:
    """A second database, with today's schema from the start."""
    name = test_server.create(migrated=True)
    yield test_server.url(name)
    test_server.drop(name)


@pytest.fixture
def old(old_url: str) -> Iterator[Connection]:
    with closing(connect(old_url)) as conn:
        yield conn
