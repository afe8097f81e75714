"""Phase D: batches, runs that end midway, and all or nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.locks import LockLost, PhaseLocks
from alerts.phases import Stop, digest
from tests.support.digests import HOUR, YESTERDAY, add_waiting, batched, daily, digests, items
from tests.support.phases import counts
from tests.support.world import add_user, query, run, value

REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'refused';
END $$;
CREATE CONSTRAINT TRIGGER refuse {event} {timing}
FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION refuse()
"""
DAY = "2022-03-06"


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "DELIVERIES_PER_BATCH", 3)


def refuse(
    conn: Connection, event: str, *, condition: str = "TRUE", at_commit: bool = False
) -> None:
    """Makes the change fail, at once or only when it is committed."""
    timing = "DEFERRABLE INITIALLY DEFERRED" if at_commit else ""
    statement = REFUSE.format(event=event, timing=timing, condition=condition)
    db.execute(conn, statement)


def stop_refusing(conn: Connection) -> None:
    db.execute(conn, "DROP FUNCTION refuse CASCADE")


def wait_for_users(conn: Connection, *sizes: int) -> dict[str, list[int]]:
    """Users with so many waiting deliveries each; what their digests must hold."""
    users = [add_user(conn) for _ in sizes]
    expected: dict[str, list[int]] = {daily(user, DAY): [] for user in users}
    for number in range(max(sizes)):
        for user, size in zip(users, sizes, strict=True):
            if number < size:
                expected[daily(user, DAY)].append(add_waiting(conn, user, YESTERDAY))
    return expected


@pytest.mark.parametrize(
    "sizes", [(1,), (3,), (8,), (1, 1, 1), (2, 2, 2), (1, 9, 1), (3, 3), (4, 1, 2, 1, 7)]
)
def test_batches_give_each_user_one_digest_with_all_of_it(
    database_url: str, conn: Connection, small_batches: None, sizes: tuple[int, ...]
) -> None:
    expected = wait_for_users(conn, *sizes)
    assert counts(database_url, "d") == {
        "windows_built": 1,
        "digests_created": len(sizes),
        "digest_items_attached": sum(sizes),
        "deliveries_marked_batched": sum(sizes),
    }
    assert items(conn) == expected
    assert batched(conn) == {delivery for group in expected.values() for delivery in group}


def test_window_that_spans_batches_is_counted_once(
    database_url: str, conn: Connection, small_batches: None
) -> None:
    wait_for_users(conn, 4, 4)
    add_waiting(conn, add_user(conn), YESTERDAY - HOUR)
    assert counts(database_url, "d")["windows_built"] == 2


@pytest.mark.parametrize("batch_number", [1, 2, 3])
def test_run_ended_between_two_batches_is_resumed(
    database_url: str,
    conn: Connection,
    small_batches: None,
    monkeypatch: pytest.MonkeyPatch,
    batch_number: int,
) -> None:
    expected = wait_for_users(conn, 2, 5, 1)
    checks = iter(range(1, 1000))

    def ensure_held(self: PhaseLocks) -> None:
        if next(checks) == batch_number:
            raise LockLost

    with monkeypatch.context() as patch:
        patch.setattr(PhaseLocks, "ensure_held", ensure_held)
        assert run(database_url, "d").record.status == "failed"
    done = 3 * (batch_number - 1)
    assert len(batched(conn)) == done == sum(map(len, items(conn).values()))
    assert counts(database_url, "d")["digest_items_attached"] == 8 - done
    assert items(conn) == expected


def test_deadline_between_two_batches_stops_and_the_next_run_goes_on(
    database_url: str, conn: Connection, small_batches: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = wait_for_users(conn, 2, 5, 1)
    reasons: Iterator[str | None] = iter([None, "deadline"])
    with monkeypatch.context() as patch:
        patch.setattr(Stop, "reason", lambda self: next(reasons))
        counted = counts(database_url, "d")
    assert (counted["stopped_early"], counted["digest_items_attached"]) == ("deadline", 3)
    assert "stopped_early" not in counts(database_url, "d")
    assert items(conn) == expected


@pytest.mark.parametrize("at_commit", [False, True])
@pytest.mark.parametrize(
    "event",
    [
        "AFTER UPDATE ON user_alert_deliveries",
        "AFTER INSERT ON user_alert_digest_items",
        "AFTER INSERT ON user_alert_digests",
    ],
)
def test_digest_items_and_marks_commit_together_or_not_at_all(
    database_url: str, conn: Connection, event: str, at_commit: bool
) -> None:
    expected = wait_for_users(conn, 2, 1)
    before = query(conn, "SELECT * FROM user_alert_deliveries ORDER BY id")
    refuse(conn, event, at_commit=at_commit)
    assert run(database_url, "d").record.status == "failed"
    assert digests(conn) == {}
    assert value(conn, "SELECT count(*) FROM user_alert_digest_items") == 0
    assert query(conn, "SELECT * FROM user_alert_deliveries ORDER BY id") == before
    stop_refusing(conn)
    counts(database_url, "d")
    assert items(conn) == expected


def test_failing_batch_leaves_the_earlier_ones(
    database_url: str, conn: Connection, small_batches: None
) -> None:
    expected = wait_for_users(conn, 3, 3)
    first, second = expected.values()
    refuse(
        conn,
        "AFTER UPDATE ON user_alert_deliveries",
        condition=f"new.id = {second[0]}",
    )
    assert run(database_url, "d").record.status == "failed"
    assert batched(conn) == set(first)
    stop_refusing(conn)
    counts(database_url, "d")
    assert items(conn) == expected


def test_delivery_is_in_one_digest_only(
    database_url: str, conn: Connection, small_batches: None
) -> None:
    """Over many runs, whatever leaves the queue between them."""
    user = add_user(conn)
    made = []
    for status in ("queued", "sent", "queued", "failed"):
        made += [add_waiting(conn, user, YESTERDAY) for _ in range(4)]
        counts(database_url, "d")
        db.execute(
            conn,
            "UPDATE user_alert_digests SET status = %s, sent_at = now(), failed_at = now(),"
            " failure_code = 'payload_invalid' WHERE digest_key = %s",
            (status, daily(user, DAY)),
        )
    attached = Counter(delivery for group in items(conn).values() for delivery in group)
    assert attached == dict.fromkeys(made, 1)
    assert [len(group) for _, group in sorted(items(conn).items())] == [12, 4]
