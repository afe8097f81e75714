"""Phase D: deliveries that come after their window, and senders at work meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from tests.support.digests import (
    HOUR,
    SECOND,
    TODAY,
    TOMORROW,
    YESTERDAY,
    add_waiting,
    batched,
    daily,
    digests,
    items,
)
from tests.support.phases import counts
from tests.support.world import (
    NOW,
    RememberingChannel,
    add_user,
    all_channels,
    lease,
    query,
    run,
    value,
    wait_until,
)

# What a digest needs to be in each of the states that it takes after the queue.
LEFT_QUEUE = {
    "sending": "",
    "sent": "sent_at = now()",
    "failed": "failed_at = now(), failure_code = 'payload_invalid'",
    "skipped": "failure_code = 'missing_destination'",
}


def leave_queue(conn: Connection, status: str) -> None:
    """Moves every digest to the status."""
    if status == "sending":
        lease(
            conn,
            [row["id"] for row in query(conn, "SELECT id FROM user_alert_digests")],
            source="digests",
            claimed_until=datetime.now(UTC) + HOUR,
        )
        return
    db.execute(conn, f"UPDATE user_alert_digests SET status = '{status}', {LEFT_QUEUE[status]}")


def send(database_url: str, now: datetime) -> list[str]:
    """The keys of what phase C sends at `now`."""
    mail = RememberingChannel()
    report = run(database_url, "c", now=now, channels=all_channels(email=mail))
    assert report.record.status == "success"
    return [message.key for message in mail.sent]


def test_late_item_joins_its_own_digest_while_that_is_queued(
    database_url: str, conn: Connection
) -> None:
    user = add_user(conn)
    first = add_waiting(conn, user, YESTERDAY)
    counts(database_url, "d")
    late = add_waiting(conn, user, YESTERDAY + HOUR, created_at=NOW)
    assert counts(database_url, "d") == {
        "windows_built": 1,
        "digests_created": 0,
        "digest_items_attached": 1,
        "deliveries_marked_batched": 1,
    }
    assert items(conn) == {daily(user, "2022-03-06"): [first, late]}
    assert batched(conn) == {first, late}


@pytest.mark.parametrize("status", LEFT_QUEUE)
def test_late_item_goes_to_the_open_windows_digest_when_its_own_has_left_the_queue(
    database_url: str, conn: Connection, status: str
) -> None:
    user = add_user(conn)
    first = add_waiting(conn, user, YESTERDAY)
    counts(database_url, "d")
    leave_queue(conn, status)
    late = add_waiting(conn, user, YESTERDAY + HOUR, created_at=NOW)
    counted = counts(database_url, "d")
    assert (counted["digests_created"], counted["digest_items_attached"]) == (1, 1)
    current = daily(user, "2022-03-07")
    assert items(conn) == {daily(user, "2022-03-06"): [first], current: [late]}
    made = digests(conn)[current]
    assert (made["status"], made["window_start"], made["window_end"]) == ("queued", TODAY, TOMORROW)
    assert batched(conn) == {first, late}


def test_early_made_digest_leaves_when_its_window_has_closed_with_all_of_it(
    database_url: str, conn: Connection
) -> None:
    user = add_user(conn)
    add_waiting(conn, user, YESTERDAY)
    counts(database_url, "d")
    (sent,) = send(database_url, NOW)
    late = add_waiting(conn, user, YESTERDAY + HOUR, created_at=NOW)
    counts(database_url, "d")
    own = add_waiting(conn, user, NOW, created_at=NOW)
    assert send(database_url, TOMORROW - SECOND) == []
    counted = counts(database_url, "d", now=TOMORROW)
    assert (counted["digests_created"], counted["digest_items_attached"]) == (0, 1)
    assert items(conn)[daily(user, "2022-03-07")] == [late, own]
    (second,) = send(database_url, TOMORROW)
    assert second != sent
    assert send(database_url, TOMORROW + HOUR) == []


def test_late_items_of_two_sent_windows_share_the_open_windows_digest(
    database_url: str, conn: Connection
) -> None:
    user, earlier = add_user(conn), YESTERDAY - HOUR
    for at in (YESTERDAY, earlier):
        add_waiting(conn, user, at)
    counts(database_url, "d")
    leave_queue(conn, "sent")
    late = [add_waiting(conn, user, at) for at in (YESTERDAY, earlier)]
    counted = counts(database_url, "d")
    assert (counted["digests_created"], counted["digest_items_attached"]) == (1, 2)
    later = add_waiting(conn, user, YESTERDAY)
    assert counts(database_url, "d", now=NOW + HOUR)["digests_created"] == 0
    assert items(conn)[daily(user, "2022-03-07")] == [*late, later]


def test_sent_digest_of_another_user_or_channel_puts_nothing_off(
    database_url: str, conn: Connection
) -> None:
    user, other = add_user(conn), add_user(conn)
    add_waiting(conn, other, YESTERDAY)
    add_waiting(conn, user, YESTERDAY, "telegram")
    counts(database_url, "d")
    leave_queue(conn, "sent")
    delivery = add_waiting(conn, user, YESTERDAY)
    counts(database_url, "d")
    assert items(conn)[daily(user, "2022-03-06")] == [delivery]


@contextmanager
def another_connection(database_url: str) -> Iterator[Connection]:
    """One with a transaction open, rolled back at the end."""
    conn = psycopg2.connect(database_url)
    try:
        yield conn
    finally:
        conn.close()


@contextmanager
def digest_phase_waiting(database_url: str, conn: Connection) -> Iterator[dict[str, Any]]:
    """Phase D running beside the test, waiting for a row that another connection holds; at the
    end it is waited for and its counts stand in what is given."""
    counted: dict[str, Any] = {}
    thread = threading.Thread(target=lambda: counted.update(counts(database_url, "d")))
    thread.start()
    waits = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event_type = 'Lock'"
    )
    try:
        wait_until(lambda: value(conn, waits) == 1)
        yield counted
    finally:
        thread.join(30)
        assert not thread.is_alive()


def test_nothing_is_attached_to_a_digest_that_a_sender_takes_meanwhile(
    database_url: str, conn: Connection
) -> None:
    user = add_user(conn)
    first = add_waiting(conn, user, YESTERDAY)
    counts(database_url, "d")
    late = add_waiting(conn, user, YESTERDAY + HOUR, created_at=NOW)
    with another_connection(database_url) as sender:
        db.execute(sender, "SELECT 1 FROM alerts_send_queue FOR UPDATE")
        with digest_phase_waiting(database_url, conn) as counted:
            leave_queue(sender, "sending")
            sender.commit()
    assert counted["digest_items_attached"] == 1  # it sees the other one gone
    own, current = daily(user, "2022-03-06"), daily(user, "2022-03-07")
    assert items(conn) == {own: [first], current: [late]}
    assert batched(conn) == {first, late}


def test_sender_that_lets_go_of_a_digest_costs_nothing(database_url: str, conn: Connection) -> None:
    user = add_user(conn)
    first = add_waiting(conn, user, YESTERDAY)
    counts(database_url, "d")
    late = add_waiting(conn, user, YESTERDAY + HOUR, created_at=NOW)
    with another_connection(database_url) as sender:
        db.execute(sender, "SELECT 1 FROM alerts_send_queue FOR UPDATE")
        with digest_phase_waiting(database_url, conn) as counted:
            sender.rollback()
    assert counted["digest_items_attached"] == 1
    assert items(conn) == {daily(user, "2022-03-06"): [first, late]}


def test_sender_cannot_take_a_digest_while_items_are_being_attached(
    database_url: str, conn: Connection
) -> None:
    """Phase D is held up after it has taken the digest, before it commits."""
    user = add_user(conn)
    first = add_waiting(conn, user, YESTERDAY)
    counts(database_url, "d")
    late = add_waiting(conn, user, YESTERDAY + HOUR, created_at=NOW)
    with another_connection(database_url) as holder:
        db.execute(
            holder, "SELECT 1 FROM user_alert_deliveries WHERE id = %s FOR NO KEY UPDATE", (late,)
        )
        with digest_phase_waiting(database_url, conn):
            assert send(database_url, NOW) == []
            holder.rollback()
    assert len(send(database_url, NOW)) == 1
    assert items(conn) == {daily(user, "2022-03-06"): [first, late]}
