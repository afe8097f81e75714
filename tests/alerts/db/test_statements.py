"""Statements and transactions."""

from __future__ import annotations

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from tests.support.world import query, value

COUNT = "SELECT count(*) FROM made"


@pytest.fixture
def made(conn: Connection) -> Connection:
    """A connection to a database with an empty table."""
    db.execute(conn, "CREATE TABLE made (n INT)")
    return conn


def insert(conn: Connection, number: int) -> None:
    db.execute(conn, "INSERT INTO made VALUES (%s)", (number,))


def test_transaction_is_all_or_nothing(made: Connection) -> None:
    with db.transaction(made):
        insert(made, 1)
    with pytest.raises(ZeroDivisionError), db.transaction(made):
        insert(made, 2)
        raise ZeroDivisionError
    assert query(made, "SELECT n FROM made") == [{"n": 1}]


def test_failed_statement_leaves_the_connection_usable(made: Connection) -> None:
    with pytest.raises(psycopg2.Error), db.transaction(made):
        db.execute(made, "SELECT 1 / 0")
    assert value(made, COUNT) == 0


def test_transaction_inside_a_transaction_is_a_savepoint(made: Connection) -> None:
    db.execute(made, "BEGIN")
    with db.transaction(made):
        insert(made, 1)
        with pytest.raises(psycopg2.Error), db.transaction(made):
            insert(made, 2)
            db.execute(made, "SELECT 1 / 0")
        insert(made, 3)
    assert value(made, COUNT) == 2
    db.execute(made, "ROLLBACK")
    assert value(made, COUNT) == 0


def test_error_of_a_dead_connection_is_the_one_that_is_seen(made: Connection) -> None:
    with pytest.raises(psycopg2.OperationalError), db.transaction(made):
        db.execute(made, "SELECT pg_terminate_backend(pg_backend_pid())")


def test_web_transaction_brings_its_settings_and_leaves_none(made: Connection) -> None:
    db.execute(made, "SET TimeZone = 'Asia/Tokyo'")
    with db.web_transaction(made, read_only=True, statement_timeout_ms=4321):
        assert value(made, "SHOW TimeZone") == "UTC"
        assert value(made, "SHOW statement_timeout") == "4321ms"
        assert value(made, "SHOW transaction_isolation") == "repeatable read"
    assert value(made, "SHOW TimeZone") == "Asia/Tokyo"
    assert value(made, "SHOW statement_timeout") == "0"


def test_read_only_transaction_cannot_write(made: Connection) -> None:
    with (
        pytest.raises(psycopg2.errors.ReadOnlySqlTransaction),
        db.web_transaction(made, read_only=True, statement_timeout_ms=1000),
    ):
        insert(made, 1)


def test_writing_web_transaction_is_all_or_nothing(made: Connection) -> None:
    with db.web_transaction(made, read_only=False, statement_timeout_ms=1000):
        insert(made, 1)
    with (
        pytest.raises(ZeroDivisionError),
        db.web_transaction(made, read_only=False, statement_timeout_ms=1000),
    ):
        insert(made, 2)
        raise ZeroDivisionError
    assert value(made, COUNT) == 1


def test_one_row_or_none(made: Connection) -> None:
    assert db.fetch_one(made, "SELECT n FROM made") is None
    insert(made, 7)
    assert db.fetch_one(made, "SELECT n FROM made") == {"n": 7}
