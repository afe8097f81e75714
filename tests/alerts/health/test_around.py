"""Who keeps runs from being recorded."""

from contextlib import closing

import psycopg2
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.health.around import RECORDS_LOCKED
from tests.support.databases import TestServer
from tests.support.world import value

NUMBER = "SELECT 'alerts_engine_runs'::regclass::oid"
LOCK = "BEGIN; LOCK TABLE alerts_engine_runs IN SHARE MODE"


def test_lock_in_a_copy_of_the_database_locks_nothing_here(
    conn: Connection, database_url: str, test_server: TestServer
) -> None:
    copy = test_server.create(migrated=True)
    with closing(psycopg2.connect(test_server.url(copy))) as other:
        assert value(conn, NUMBER) == value(other, NUMBER)  # where they were copied from one
        db.execute(other, LOCK)
        assert db.fetch_all(conn, RECORDS_LOCKED) == []
        with closing(psycopg2.connect(database_url, application_name="pgAdmin")) as own:
            db.execute(own, LOCK)
            (holder,) = db.fetch_all(conn, RECORDS_LOCKED)
            assert holder["application_name"] == "pgAdmin"
    test_server.drop(copy)
