"""Phase B: which events a run takes and in which order, ranges, the allowlist, second runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.locks import LockLost, PhaseLocks
from alerts.phases import Stop, fanout
from tests.support.phases import add_plan, channel_config, counts, deliveries, use_plain_timestamps
from tests.support.world import NOW, add_alert, add_user, query, run, value

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
ALLOWLIST = "ALERTS_SEND_ALLOWLIST_USER_IDS"


def pending(conn: Connection) -> set[int]:
    """The events that wait for fan-out."""
    rows = query(conn, "SELECT id FROM alert_events WHERE fanout_completed_at IS NULL")
    return {row["id"] for row in rows}


def instant_mails(conn: Connection) -> set[int]:
    """The events that went out as instant mails."""
    found = deliveries(conn).items()
    return {
        event for (event, _, channel), (kind, _) in found if (channel, kind) == ("email", "instant")
    }


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "USERS_PER_RANGE", 3)


def test_severest_then_oldest_then_first_events_use_the_quota(
    database_url: str, conn: Connection
) -> None:
    add_user(conn, add_plan(conn, "custom", config=channel_config(email=4)))
    times = {"new": NOW - HOUR, "old": NOW - 2 * HOUR}
    events = [
        add_alert(conn, severity=4, created_at=times["old"] - HOUR),
        add_alert(conn, severity=5, created_at=times["new"]),
        add_alert(conn, severity=4, created_at=times["new"]),
        add_alert(conn, severity=4, created_at=times["new"]),
        add_alert(conn, severity=4, created_at=times["old"]),
        add_alert(conn, severity=5, created_at=times["old"]),
    ]
    order = [events[i] for i in (5, 1, 0, 4, 2, 3)]
    counted = counts(database_url, "b")
    assert instant_mails(conn) == set(order[:4])
    assert counted["overflow_to_digest"] == 2
    rows = query(
        conn,
        "SELECT alert_event_id AS e FROM user_alert_deliveries WHERE channel = 'email' ORDER BY id",
    )
    assert [row["e"] for row in rows] == order


def test_of_equal_severity_and_time_the_first_event_uses_the_quota(
    database_url: str, conn: Connection
) -> None:
    add_user(conn, add_plan(conn, "custom", config=channel_config(email=1)))
    events = [add_alert(conn) for _ in range(3)]
    counts(database_url, "b")
    assert instant_mails(conn) == {events[0]}


@pytest.mark.parametrize("plain", [False, True])
def test_events_past_the_window_are_counted_as_expired(
    database_url: str, conn: Connection, plain: bool
) -> None:
    add_user(conn, "pro")
    recent = add_alert(conn, created_at=NOW - 24 * HOUR + SECOND)
    old = add_alert(conn, created_at=NOW - 25 * HOUR)
    if plain:
        use_plain_timestamps(conn)
    counted = counts(database_url, "b")
    assert (counted["events_processed"], counted["events_expired"]) == (1, 1)
    assert {event for event, _, _ in deliveries(conn)} == {recent}
    assert pending(conn) == {old}
    counted = counts(database_url, "b", since_hours=26)
    assert (counted["events_processed"], counted["events_expired"]) == (1, 0)
    assert pending(conn) == set()


def test_events_from_after_the_clock_do_not_exist(database_url: str, conn: Connection) -> None:
    add_user(conn, "pro")
    later = add_alert(conn, created_at=NOW + SECOND)
    counted = counts(database_url, "b")
    assert (counted["events_processed"], counted["events_expired"]) == (0, 0)
    assert pending(conn) == {later}
    assert counts(database_url, "b", now=NOW + SECOND)["events_processed"] == 1


def test_second_run_finds_nothing_to_do(database_url: str, conn: Connection) -> None:
    add_user(conn, "pro")
    add_alert(conn)
    counts(database_url, "b")
    before = deliveries(conn)
    counted = counts(database_url, "b")
    assert counted.pop("allowlist_active") is False
    assert set(counted.values()) == {0}
    assert deliveries(conn) == before
    assert value(conn, "SELECT fanout_completed_at FROM alert_events") == NOW


def test_event_without_any_user_is_done(database_url: str, conn: Connection) -> None:
    add_alert(conn)
    assert counts(database_url, "b")["events_processed"] == 1
    assert pending(conn) == set()


# The allowlist


def test_lifted_allowlist_gives_everyone_else_the_event_and_nobody_a_second(
    database_url: str, conn: Connection
) -> None:
    listed, other = add_user(conn, "pro"), add_user(conn, "pro")
    event = add_alert(conn)
    for created in (2, 0):
        counted = counts(database_url, "b", environ={ALLOWLIST: str(listed)})
        assert counted["allowlist_active"] is True
        assert (counted["deliveries_considered"], counted["deliveries_created"]) == (4, created)
        assert {user for _, user, _ in deliveries(conn)} == {listed}
        assert pending(conn) == {event}
    counted = counts(database_url, "b", environ={ALLOWLIST: " "})
    assert counted["allowlist_active"] is False
    assert (counted["deliveries_created"], counted["deliveries_skipped_exists"]) == (2, 2)
    assert {user for _, user, _ in deliveries(conn)} == {listed, other}
    assert pending(conn) == set()


# Ranges


@pytest.mark.parametrize("users", [2, 3, 4, 6, 7])
def test_ranges_reach_every_user_once(
    database_url: str, conn: Connection, small_ranges: None, users: int
) -> None:
    ids = [add_user(conn, "pro") for _ in range(users)]
    event = add_alert(conn)
    counted = counts(database_url, "b")
    assert set(deliveries(conn)) == {(event, u, c) for u in ids for c in ("email", "account")}
    assert (counted["deliveries_considered"], counted["events_processed"]) == (users * 4, 1)
    assert counted["deliveries_skipped_exists"] == 0
    assert pending(conn) == set()


def test_ranges_reach_users_whose_ids_lie_far_apart(
    database_url: str, conn: Connection, small_ranges: None
) -> None:
    for first in (1, 5_000_000_000):
        value(conn, "SELECT setval(pg_get_serial_sequence('users', 'id'), %s)", first)
        for _ in range(4):
            add_user(conn, "pro")
    add_alert(conn)
    counts(database_url, "b")
    assert len(deliveries(conn)) == 16


def test_ranges_of_an_allowlist_reach_all_of_it(
    database_url: str, conn: Connection, small_ranges: None
) -> None:
    ids = [add_user(conn, "pro") for _ in range(12)]
    event, listed = add_alert(conn), ids[::2]
    counts(database_url, "b", environ={ALLOWLIST: ",".join(map(str, listed))})
    assert {user for _, user, _ in deliveries(conn)} == set(listed)
    assert pending(conn) == {event}


def lose_lock_at(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Makes the check before the batch of that number find the lock's connection gone."""
    checks = iter(range(1, 1000))

    def ensure_held(self: PhaseLocks) -> None:
        if next(checks) == number:
            raise LockLost

    monkeypatch.setattr(PhaseLocks, "ensure_held", ensure_held)


@pytest.mark.parametrize("range_number", [1, 2, 3])
def test_run_ended_between_two_ranges_is_resumed(
    database_url: str,
    conn: Connection,
    small_ranges: None,
    monkeypatch: pytest.MonkeyPatch,
    range_number: int,
) -> None:
    ids = [add_user(conn, "pro") for _ in range(8)]
    event = add_alert(conn)
    done = 3 * (range_number - 1)
    with monkeypatch.context() as patch:
        lose_lock_at(patch, range_number)
        report = run(database_url, "b")
    assert report.record.status == "failed"
    assert "lock_lost" in (report.record.error_summary or "")
    assert {user for _, user, _ in deliveries(conn)} == set(ids[:done])
    assert pending(conn) == {event}
    counted = counts(database_url, "b")
    assert set(deliveries(conn)) == {(event, u, c) for u in ids for c in ("email", "account")}
    assert counted["deliveries_created"] == 2 * (len(ids) - done)
    assert counted["deliveries_skipped_exists"] == 2 * done
    assert pending(conn) == set()


def test_failing_range_leaves_the_earlier_ones_and_no_marker(
    database_url: str, conn: Connection, small_ranges: None
) -> None:
    ids = [add_user(conn, "pro") for _ in range(5)]
    event = add_alert(conn)
    check = "ALTER TABLE user_alert_deliveries ADD CONSTRAINT refused CHECK (user_id <> %s)"
    db.execute(conn, check, (ids[4],))
    assert run(database_url, "b").record.status == "failed"
    assert {user for _, user, _ in deliveries(conn)} == set(ids[:3])
    assert pending(conn) == {event}
    db.execute(conn, "ALTER TABLE user_alert_deliveries DROP CONSTRAINT refused")
    counts(database_url, "b")
    assert {user for _, user, _ in deliveries(conn)} == set(ids)
    assert pending(conn) == set()


def test_deadline_between_two_ranges_stops_and_the_next_run_goes_on(
    database_url: str, conn: Connection, small_ranges: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [add_user(conn, "pro") for _ in range(5)]
    event = add_alert(conn)
    reasons: Iterator[str | None] = iter([None, "deadline"])
    with monkeypatch.context() as patch:
        patch.setattr(Stop, "reason", lambda self: next(reasons))
        counted = counts(database_url, "b")
    assert (counted["stopped_early"], counted["events_processed"]) == ("deadline", 0)
    assert counted["deliveries_created"] == 6
    assert pending(conn) == {event}
    assert counts(database_url, "b")["deliveries_created"] == 4
    assert {user for _, user, _ in deliveries(conn)} == set(ids)


def test_delivery_made_by_someone_else_meanwhile_counts_as_existing(
    database_url: str, conn: Connection
) -> None:
    """A trigger stands for a writer that comes between the decision and the insert."""
    user = add_user(conn, "pro")
    add_alert(conn)
    db.execute(
        conn,
        """
        CREATE FUNCTION come_first() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RETURN CASE WHEN new.channel = 'email' THEN NULL ELSE new END;
        END $$;
        CREATE TRIGGER come_first BEFORE INSERT ON user_alert_deliveries
        FOR EACH ROW EXECUTE FUNCTION come_first()
        """,
    )
    counted = counts(database_url, "b")
    assert {(u, c) for _, u, c in deliveries(conn)} == {(user, "account")}
    assert (counted["deliveries_created"], counted["deliveries_skipped_exists"]) == (1, 1)
    skipped = sum(n for name, n in counted.items() if name.startswith("deliveries_skipped_"))
    assert counted["deliveries_considered"] == counted["deliveries_created"] + skipped
