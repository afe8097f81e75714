"""The counts of health are what a recount of all rows gives, at each level."""

from __future__ import annotations

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from alerts import db, migrations
from tests.support.health_counts import fill, kept, recounted, stale, statements
from tests.support.migrating import connected
from tests.support.world import query, value


def test_each_level_counts_every_row_after_each_write(conn: Connection) -> None:
    fill(conn)
    for text in statements():
        db.execute(conn, text)
        assert kept(conn) == recounted(conn), text
    assert {row["level"] for row in query(conn, "SELECT DISTINCT level FROM alerts_health_counts")}
    totals = query(
        conn,
        "SELECT level, sum(amount)::bigint AS total FROM alerts_health_counts"
        " WHERE source = 'deliveries' GROUP BY level ORDER BY level",
    )
    rows = value(conn, "SELECT count(*) FROM user_alert_deliveries")
    assert [(row["level"], row["total"]) for row in totals] == [
        ("hour", rows), ("minute", rows), ("six_hours", rows), ("ten_minutes", rows),
    ]  # fmt: skip
    assert not stale(conn)


def test_a_write_that_changes_no_figure_appends_nothing(conn: Connection) -> None:
    fill(conn)
    for text in statements():
        db.execute(conn, text)
    kept(conn)
    db.execute(conn, "UPDATE user_alert_deliveries SET last_error = 'timeout'")
    db.execute(conn, "UPDATE user_alert_digests SET last_error = 'timeout'")
    assert value(conn, "SELECT count(*) FROM alerts_health_changes") == 0


def test_a_recount_finds_what_is_not_folded_yet_as_counted(conn: Connection) -> None:
    fill(conn)
    for text in statements():
        db.execute(conn, text)
    assert value(conn, "SELECT count(*) FROM alerts_health_differences()") == 0


@pytest.mark.parametrize("count", ["rows were there before", "counts were lost"])
def test_rebuilding_counts_every_row(conn: Connection, count: str) -> None:
    fill(conn)
    off = count == "rows were there before"
    db.execute(conn, f"SET session_replication_role = {'replica' if off else 'origin'}")
    for text in statements():
        db.execute(conn, text)
    db.execute(conn, "RESET session_replication_role")
    if not off:
        kept(conn)
        db.execute(conn, "DELETE FROM alerts_health_counts WHERE level <> 'hour'")
    wrong = value(conn, "SELECT count(*) FROM alerts_health_differences()")
    assert wrong > 0
    assert value(conn, "SELECT alerts_health_rebuild()") == wrong
    assert kept(conn) == recounted(conn)
    assert value(conn, "SELECT alerts_health_rebuild()") == 0


def test_counts_that_were_restored_twice_are_mended(conn: Connection) -> None:
    fill(conn)
    for text in statements():
        db.execute(conn, text)
    kept(conn)
    db.execute(conn, "UPDATE alerts_health_counts SET amount = 2 * amount")
    db.execute(conn, "INSERT INTO alerts_health_changes SELECT 'digests', now(), 'email',"
                     " 'digest', 'sent', '', FALSE, 7, -1, 3")  # fmt: skip
    assert value(conn, "SELECT alerts_health_rebuild()") > 0
    assert kept(conn) == recounted(conn)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_counts_are_not_rebuilt_from_a_snapshot_that_may_be_old(
    conn: Connection, level: str
) -> None:
    db.execute(conn, f"BEGIN ISOLATION LEVEL {level}")
    with pytest.raises(psycopg2.errors.InvalidTransactionState, match="READ COMMITTED"):
        db.execute(conn, "SELECT alerts_health_rebuild()")
    db.execute(conn, "ROLLBACK")


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "4000-01-01", "0001-01-01"])
def test_a_time_far_off_is_counted_like_any_other(conn: Connection, moment: str) -> None:
    fill(conn, events=2)
    for column in ("created_at", "sent_at"):
        db.execute(
            conn,
            f"INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, status, sent_at,"
            f" created_at) SELECT u.id, max(e.id), 'email', 'sent', now(), now() FROM users AS u,"
            f" alert_events AS e GROUP BY u.id; UPDATE user_alert_deliveries SET {column} = %s",
            (moment,),
        )
        assert not stale(conn)
        assert value(conn, "SELECT count(*) FROM alerts_health_differences()") == 0
        total = "SELECT sum(amount) FROM alerts_health_recent WHERE source = 'deliveries'"
        assert value(conn, total) == 1
        db.execute(conn, "DELETE FROM user_alert_deliveries")


def test_migrating_counts_the_rows_of_a_deployment_that_has_some(
    old_url: str, old: Connection
) -> None:
    migrations.migrate(old_url)
    found = recounted_known(old)
    assert found
    assert kept(old) == found
    with connected(old_url) as session, session.cursor() as cursor:
        cursor.execute("SET TimeZone = 'America/New_York'")
        cursor.execute("UPDATE user_alert_deliveries SET attempts = 3 WHERE status = 'queued'")
        cursor.execute("SELECT alerts_health_rebuild()")
        assert cursor.fetchone() == (0,)
    assert kept(old) == recounted_known(old)


def recounted_known(conn: Connection) -> object:
    """A recount of rows as an old deployment has them: some sent ones without a time."""
    db.execute(conn, "UPDATE user_alert_deliveries SET sent_at = created_at"
                     " WHERE status = 'sent' AND sent_at IS NULL")  # fmt: skip
    return recounted(conn)
