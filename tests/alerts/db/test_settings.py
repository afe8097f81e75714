"""Sessions and transactions bring the settings that their statements rest on."""

from __future__ import annotations

import json
from contextlib import closing
from types import SimpleNamespace
from typing import cast

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.db import settings
from tests.support.world import query, value

# What somebody else may have set, and what it is for us: in a session, in a web transaction.
OTHERS = {
    "TimeZone": ("Asia/Tokyo", "UTC", "UTC"),
    "DateStyle": ("German", "ISO, MDY", "ISO, MDY"),
    "IntervalStyle": ("iso_8601", "postgres", "postgres"),
    "array_nulls": ("off", "on", "on"),
    "standard_conforming_strings": ("off", "on", "on"),
    "transform_null_equals": ("on", "off", "off"),
    "bytea_output": ("escape", "hex", "hex"),
    "extra_float_digits": ("-15", "1", "1"),
    "row_security": ("off", "on", "on"),
    "search_path": ("pg_catalog", "public", "public"),
    "client_encoding": ("LATIN1", "UTF8", "UTF8"),
    "default_transaction_isolation": ("serializable", "read committed", None),
    "transaction_isolation": ("serializable", "read committed", "read committed"),
    "statement_timeout": ("99s", "1234ms", "2345ms"),
    "lock_timeout": ("99s", "0", "2s"),
    "idle_session_timeout": ("99s", "0", None),  # of a kept connection: it is replaced
    "idle_in_transaction_session_timeout": ("99s", "0", "0"),
    "transaction_timeout": ("99s", "0", "0"),
}


@pytest.mark.parametrize("level", ["DATABASE", "ROLE"])
@pytest.mark.parametrize("name", OTHERS)
def test_what_role_and_database_set_does_not_matter(
    conn: Connection, database_url: str, name: str, level: str
) -> None:
    theirs, of_session, of_web = OTHERS[name]
    known = "default_transaction_isolation" if name == "transaction_isolation" else name
    if not query(conn, "SELECT FROM pg_settings WHERE lower(name) = lower(%s)", known):
        pytest.skip(f"this server does not know {name}")
    whose = conn.info.dbname if level == "DATABASE" else conn.info.user
    where = f" IN DATABASE {conn.info.dbname}" if level == "ROLE" else ""
    quoted = theirs if known == "search_path" else f"'{theirs}'"
    db.execute(conn, f"ALTER {level} {whose}{where} SET {known} = {quoted}")
    with closing(
        db.open_session(database_url, application_name="t", statement_timeout_ms=1234)
    ) as session:
        assert value(session, f"SHOW {name}") == of_session
        with db.transaction(session):
            assert value(session, f"SHOW {name}") == of_session
    with closing(db.connect(database_url, application_name="t")) as web:
        before = value(web, f"SHOW {name}")
        with db.web_transaction(web, read_only=False, statement_timeout_ms=2345):
            if of_web is not None:
                assert value(web, f"SHOW {name}") == of_web
        assert value(web, f"SHOW {name}") == before  # nothing is left in a pool


def test_a_server_is_not_asked_for_what_it_does_not_know() -> None:
    def asked(version: int) -> dict[str, str]:
        info = SimpleNamespace(server_version=version)
        conn = cast(Connection, SimpleNamespace(dsn="host=h", info=info))
        found: dict[str, str] = json.loads(settings.of_session(conn, 1, 2))
        return found

    versions = (140_000, 160_000, 170_000, 180_000)
    assert [v for v in versions if "transaction_timeout" in asked(v)] == [170_000, 180_000]
    assert {asked(version)["idle_session_timeout"] for version in versions} == {"0"}
