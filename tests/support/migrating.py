"""Shared by the migration tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection

from alerts import migrations
from alerts.migrations import MigrationError

Write = Callable[..., Path]

# Everything that a migration could leave behind in an empty database, listed by name.
CATALOGUE = """
SELECT 'relation', oid::text, relname::text, relkind::text FROM pg_class
UNION ALL SELECT 'column', attrelid::text, attname::text, atttypid::text FROM pg_attribute
UNION ALL SELECT 'function', oid::text, proname::text, prosrc FROM pg_proc
UNION ALL SELECT 'constraint', oid::text, conname::text, contype::text FROM pg_constraint
ORDER BY 1, 2, 3
"""


@contextmanager
def connected(url: str, name: str = "") -> Iterator[connection]:
    """A connection in autocommit, closed at the end."""
    with closing(psycopg2.connect(url, application_name=name)) as conn:
        conn.autocommit = True
        yield conn


def query(url: str, sql: str) -> list[tuple[Any, ...]]:
    """Run one statement on a new connection and return its rows, if any."""
    with connected(url) as conn, conn.cursor() as cur:
        cur.execute(sql)
        return cur.fetchall() if cur.description else []


def recorded(url: str) -> list[str]:
    """The names in schema_migrations."""
    return [name for (name,) in query(url, "SELECT name FROM schema_migrations ORDER BY version")]


def writer(directory: Path) -> Write:
    """Writes migration files, as in ``write(_0001_first="SELECT 1")``, and returns their folder."""

    def write_files(**files: str) -> Path:
        for name, sql in files.items():
            (directory / f"{name.lstrip('_')}.sql").write_bytes(sql.encode())
        return directory

    return write_files


def refusal(url: str, directory: Path, **options: Any) -> str:
    """Run a migration that must fail and return its MigrationError's text."""
    with pytest.raises(MigrationError) as caught:
        migrations.migrate(url, directory, **options)
    return str(caught.value)
