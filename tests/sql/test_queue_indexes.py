"""The queues' statements cost what is due, however long the history."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.health.report import get_health
from alerts.phases.send import claims, leases
from alerts.phases.send.statements import Session
from tests.support.world import NOW, add_alert, query, run, settings_for, value


@pytest.fixture
def busy(conn: Connection, database_url: str) -> Iterator[Connection]:
    """30,000 deliveries that are done with, and a few of everything that is under way.

    Seen through a session of its own: what filled the tables must not show in its statistics.
    """
    event = add_alert(conn)
    db.execute(
        conn,
        """
        INSERT INTO users (email) SELECT n || '@example.com' FROM generate_series(1, 30000) AS n;
        INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, status, sent_at,
            created_at)
        SELECT id, %(event)s, 'email', 'sent', %(now)s,
            %(now)s::timestamptz - id * interval '90 seconds'
        FROM users;
        INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, status, created_at,
            next_retry_at)
        SELECT id, %(event)s, 'telegram', 'queued', %(now)s::timestamptz - interval '1 hour',
            CASE WHEN id %% 2 = 0 THEN %(now)s::timestamptz - interval '5 minutes' END
        FROM users ORDER BY id LIMIT 200;
        INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, created_at)
        SELECT id, %(event)s, 'sms', %(now)s FROM users ORDER BY id LIMIT 50;
        WITH taken AS (DELETE FROM alerts_send_queue WHERE channel = 'sms' RETURNING id)
        INSERT INTO alerts_leases (run_id, source, until, ids)
        SELECT 'lost', 'deliveries', %(now)s, array_agg(id) FROM taken;
        INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, status, created_at,
            failed_at, failure_code)
        SELECT id, %(event)s, 'account', 'failed', %(now)s, %(now)s, 'network'
        FROM users ORDER BY id LIMIT 50;
        INSERT INTO user_alert_digests (user_id, channel, period, window_start, window_end,
            digest_key, status, sent_at, created_at)
        SELECT id, 'email', 'daily', %(now)s::timestamptz - interval '2 days',
            %(now)s::timestamptz - interval '1 day', id, 'sent', %(now)s, %(now)s
        FROM users;
        INSERT INTO user_channel_prefs (user_id, channel, enabled)
        SELECT id, 'telegram', id %% 3 <> 0 FROM users;
        ANALYZE;
        """,
        {"event": event, "now": NOW},
    )
    reader = db.open_session(database_url, application_name="reader")
    yield reader
    reader.close()


def whole_tables_read(conn: Connection) -> list[str]:
    """The tables that the current transaction has read from end to end."""
    rows = query(
        conn,
        "SELECT relname FROM pg_stat_xact_user_tables WHERE seq_scan > 0"
        " AND relname IN ('user_alert_deliveries', 'user_alert_digests', 'users')",
    )
    return sorted(row["relname"] for row in rows)


def claim(conn: Connection, queue: claims.Queue, rows: int = 16) -> claims.Claimed:
    db.execute(conn, "DEALLOCATE ALL")
    return claims.claim_due(
        Session(conn),
        queue,
        run_id="run",
        now=NOW,
        rooms={"email": rows, "telegram": rows},
        limit=2 * rows,
        unconfigured=["sms"],
        max_age_hours=72,
        allowlist=None,
    )


def looks_at_preferences(conn: Connection) -> tuple[int, int]:
    """Reads of all preferences, and of one by its key, in the current transaction."""
    (row,) = query(
        conn,
        "SELECT seq_scan, idx_scan FROM pg_stat_xact_user_tables"
        " WHERE relname = 'user_channel_prefs'",
    )
    return row["seq_scan"], row["idx_scan"]


@pytest.mark.parametrize("rows", [16, 150])
def test_claiming_looks_once_for_each_row_whether_its_user_still_wants_it(
    busy: Connection, rows: int
) -> None:
    db.execute(busy, "BEGIN")
    claimed = claim(busy, claims.DELIVERIES, rows)
    assert claimed.by_channel.total() == rows
    assert claimed.skipped["channel_disabled"] > 0
    assert looks_at_preferences(busy) == (0, rows)
    db.execute(busy, "ROLLBACK")


def rows_claiming_reads(conn: Connection) -> int:
    """How many rows of deliveries and the queue a claim of 16 reads, by whatever way."""
    read = (
        "SELECT sum(seq_tup_read + idx_tup_fetch)::bigint FROM pg_stat_xact_user_tables"
        " WHERE relname IN ('user_alert_deliveries', 'alerts_send_queue')"
    )
    db.execute(conn, "BEGIN")
    before: int = value(conn, read)  # of transactions whose figures are not reported yet
    assert claim(conn, claims.DELIVERIES).by_channel.total() == 16
    after: int = value(conn, read)
    db.execute(conn, "ROLLBACK")
    return after - before


def test_claiming_reads_what_it_takes_however_long_the_queue(
    busy: Connection, conn: Connection
) -> None:
    short = rows_claiming_reads(busy)
    db.execute(
        conn,
        "INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, status, created_at)"
        " SELECT id, (SELECT max(id) FROM alert_events), 'telegram', 'queued', %s FROM users"
        " ORDER BY id DESC LIMIT 20000; ANALYZE user_alert_deliveries",
        (NOW - timedelta(minutes=30),),
    )
    assert rows_claiming_reads(busy) <= short


@pytest.mark.parametrize("queue", claims.QUEUES, ids=lambda queue: queue.name)
def test_claiming_reads_the_queue_and_not_the_history(
    busy: Connection, queue: claims.Queue
) -> None:
    db.execute(busy, "BEGIN")
    claimed = claim(busy, queue)
    assert claimed.by_channel.total() == (16 if queue is claims.DELIVERIES else 0)
    assert whole_tables_read(busy) == []
    db.execute(busy, "ROLLBACK")


def test_rescue_reads_claims_only(busy: Connection) -> None:
    db.execute(busy, "BEGIN")
    adopted = leases.adopt_lapsed(busy, "run")
    assert adopted is not None
    assert adopted[0] is claims.DELIVERIES
    assert len(leases.lost_rows(busy, claims.DELIVERIES, "run", adopted[1], 1000)) == 50
    assert not leases.let_go(busy, claims.DELIVERIES, "run", adopted[1])
    assert leases.adopt_lapsed(busy, "run") is None
    assert whole_tables_read(busy) == []
    db.execute(busy, "SELECT sum(attempts) FROM user_alert_deliveries")
    assert whole_tables_read(busy) == ["user_alert_deliveries"]  # it would have been seen
    db.execute(busy, "ROLLBACK")


def test_health_is_found_without_reading_the_history(busy: Connection) -> None:
    db.execute(busy, "BEGIN")
    health = get_health(busy, settings_for("postgresql://unused"), NOW)
    assert health["oldest_queued_delivery_minutes"] == 60
    assert health["in_doubt"] == 50
    assert whole_tables_read(busy) == []
    db.execute(busy, "ROLLBACK")


def test_health_reads_a_few_rows_of_the_queue_however_long_it_is(
    busy: Connection, conn: Connection
) -> None:
    """One channel's rows behind all of another's: what is due there must not be looked for."""
    for channel, rows in (("email", 20_000), ("sms", 100)):
        db.execute(
            conn,
            "INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, created_at)"
            " SELECT id, %s, %s, %s FROM users ORDER BY id DESC LIMIT %s",
            (add_alert(conn), channel, NOW - timedelta(minutes=30), rows),
        )
    db.execute(conn, "ANALYZE")
    read = (
        "SELECT sum(seq_tup_read + idx_tup_fetch)::bigint FROM pg_stat_xact_user_tables"
        " WHERE relname IN ('user_alert_deliveries', 'alerts_send_queue')"
    )
    db.execute(busy, "BEGIN")
    before = value(busy, read)
    get_health(busy, settings_for("postgresql://unused"), NOW)
    assert value(busy, read) - before < 5_000
    db.execute(busy, "ROLLBACK")


def test_a_whole_run_with_nothing_to_do_reads_no_history(
    database_url: str, busy: Connection, conn: Connection
) -> None:
    if conn.info.server_version < 150_000:
        pytest.skip("PostgreSQL 14 gathers statistics in the background, at its own pace")
    conn.close()
    db.execute(busy, "DELETE FROM user_alert_deliveries WHERE status <> 'sent'; ANALYZE")
    db.execute(busy, "UPDATE alert_events SET fanout_completed_at = created_at")
    before = rows_read_by_scans(busy)
    assert run(database_url).record.status == "success"
    assert rows_read_by_scans(busy) == before


def rows_read_by_scans(conn: Connection) -> int:
    """How many rows of the queues all sessions have read from end to end."""
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()" \
        " AND pid <> pg_backend_pid()"  # fmt: skip
    ends = time.monotonic() + 10
    while value(conn, others):  # a session's figures are there once it has ended
        assert time.monotonic() < ends
    db.execute(conn, "SELECT pg_stat_force_next_flush()")
    read: int = value(
        conn,
        "SELECT sum(seq_tup_read)::bigint FROM pg_stat_user_tables"
        " WHERE relname IN ('user_alert_deliveries', 'user_alert_digests')",
    )
    return read
