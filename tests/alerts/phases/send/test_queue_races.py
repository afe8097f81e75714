"""Two at a time: what meets on the queue and on a lease, in every order that matters."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.phases.send import claims, leases
from alerts.phases.send.claims import DELIVERIES, DIGESTS, Claim
from alerts.phases.send.leases import Outcome
from alerts.phases.send.ledger import released
from alerts.phases.send.statements import Session
from tests.support.queue_world import (
    add_digest,
    assert_each_in_its_place,
    delivery,
    lapse,
    places,
    queue_instants,
    statuses,
)
from tests.support.world import NOW, add_user, lease, query, run, value, wait_until

TABLE = "user_alert_deliveries"


@pytest.fixture
def connect(database_url: str) -> Iterator[Callable[[], Connection]]:
    """Opens connections in autocommit, closed at the end."""
    opened: list[Connection] = []

    def open_one() -> Connection:
        opened.append(psycopg2.connect(database_url))
        opened[-1].autocommit = True
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


def claim(conn: Connection, room: int = 100, queue: claims.Queue = DELIVERIES) -> list[Claim]:
    db.execute(conn, "DEALLOCATE ALL")
    return claims.claim_due(
        Session(conn),
        queue,
        run_id="run",
        now=NOW,
        rooms={"email": room},
        limit=room,
        unconfigured=["sms"],
        max_age_hours=72,
        allowlist=None,
    ).to_send


def record(conn: Connection, outcomes: list[Outcome], run_id: str = "run") -> set[int]:
    db.execute(conn, "DEALLOCATE ALL")
    return leases.record(Session(conn), DELIVERIES, run_id, NOW, outcomes)


def sent(rows: list[Claim]) -> list[Outcome]:
    return [Outcome(row, "sent", 1, provider_message_id="x") for row in rows]


def retried(rows: list[Claim]) -> list[Outcome]:
    later = NOW + timedelta(minutes=5)
    return [Outcome(row, "queued", 1, "network", "gone", later) for row in rows]


@contextmanager
def waiting(conn: Connection, work: Callable[[], Any]) -> Iterator[list[Any]]:
    """The work in a thread, which waits for a lock when the block begins; what it gave is there
    after the block."""
    given: list[Any] = []
    thread = threading.Thread(target=lambda: given.append(work()))
    thread.start()
    try:
        waits = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock'"
        )
        wait_until(lambda: value(conn, waits) == 1)
        yield given
    finally:
        thread.join(30)
    assert given


# Claims


def test_claims_at_the_same_time_take_different_rows(
    conn: Connection, connect: Callable[[], Connection]
) -> None:
    rows = queue_instants(conn, 10)
    first, second = connect(), connect()
    for each in (first, second):
        db.execute(each, "BEGIN")
    taken = [[row.id for row in claim(each, 5)] for each in (first, second)]
    for each in (first, second):
        db.execute(each, "COMMIT")
    assert taken == [rows[:5], rows[5:]]
    assert_each_in_its_place(conn)


def test_a_claim_that_is_undone_leaves_everything_in_the_queue(
    conn: Connection, connect: Callable[[], Connection]
) -> None:
    rows = queue_instants(conn, 5)
    claimer = connect()
    db.execute(claimer, "BEGIN")
    assert len(claim(claimer)) == 5
    db.execute(claimer, "ROLLBACK")
    assert statuses(conn) == {"queued": 5}
    assert [row.id for row in claim(conn)] == rows


@pytest.mark.parametrize("commits_first", ["claim", "write"])
@pytest.mark.parametrize(
    "change",
    [
        "next_retry_at = created_at + interval '1 minute'",
        "channel = 'telegram'",
        "delivery_kind = 'digest'",
        "status = 'skipped'",
        "attempts = 3",
    ],
)
def test_a_row_that_is_changed_while_it_is_claimed_is_in_one_place(
    conn: Connection, connect: Callable[[], Connection], change: str, commits_first: str
) -> None:
    queue_instants(conn, 3)
    claimer, writer = connect(), connect()
    text = f"UPDATE {TABLE} SET {change}"
    if commits_first == "claim":
        db.execute(claimer, "BEGIN")
        assert len(claim(claimer)) == 3
        if change == "attempts = 3":  # nothing that the queue holds
            db.execute(writer, text)
            db.execute(claimer, "COMMIT")
        else:
            with waiting(conn, lambda: db.execute(writer, text)):
                db.execute(claimer, "COMMIT")
        assert [row_id for _, row_id in places(conn)[1]] != []
    else:
        db.execute(writer, "BEGIN")
        db.execute(writer, text)
        found = claim(claimer)
        assert len(found) == (3 if change == "attempts = 3" else 0)
        db.execute(writer, "COMMIT")
    assert_each_in_its_place(conn)


@pytest.mark.parametrize("commits_first", ["claim", "deletion"])
@pytest.mark.parametrize("table", [TABLE, "users"])
def test_rows_deleted_while_they_are_claimed(
    conn: Connection, connect: Callable[[], Connection], table: str, commits_first: str
) -> None:
    queue_instants(conn, 3)
    claimer, writer = connect(), connect()
    first, second = (claimer, writer) if commits_first == "claim" else (writer, claimer)
    acts = {claimer: lambda: claim(claimer), writer: lambda: db.execute(writer, delete)}
    delete = f"DELETE FROM {table}"
    db.execute(first, "BEGIN")
    found = acts[first]()
    if commits_first == "claim":
        with waiting(conn, acts[second]):
            db.execute(first, "COMMIT")
        # What is sent of it now is refused, and the lease ends with it.
        assert record(conn, sent(found)) == set()
        lapse(conn)
        assert rescue(conn) == 0
    else:
        assert acts[second]() == []
        db.execute(first, "COMMIT")
    assert places(conn) == ({}, [])


def rescue(conn: Connection) -> int:
    """How many rows a run takes over as lost."""
    report = run(url_of(conn), "c", channels={})
    rescued: int = report.record.counts["c"]["deliveries"]["rescued"]
    return rescued


def url_of(conn: Connection) -> str:
    info = conn.info
    return f"postgresql://{info.user}:{info.password}@{info.host}:{info.port}/{info.dbname}"


def test_a_row_that_sending_leaves_out_and_someone_else_holds_is_left_in_the_queue(
    conn: Connection, connect: Callable[[], Connection]
) -> None:
    """Waiting for it while holding its place could end in a deadlock with who deletes it."""
    old, new = queue_instants(conn, 1, created_at=NOW - timedelta(days=9)), queue_instants(conn, 1)
    writer = connect()
    db.execute(writer, "BEGIN")
    db.execute(writer, f"SELECT FROM {TABLE} WHERE id = ANY (%s) FOR UPDATE", (old,))
    assert [row.id for row in claim(conn)] == new
    db.execute(writer, "ROLLBACK")
    assert_each_in_its_place(conn)
    assert claim(conn) == []
    assert delivery(conn, old[0])["failure_code"] == "expired"


def test_an_entry_whose_row_is_no_longer_queued_is_cleared_away(conn: Connection) -> None:
    rows = queue_instants(conn, 2)
    db.execute(conn, "SET session_replication_role = replica")
    db.execute(conn, f"UPDATE {TABLE} SET status = 'skipped' WHERE id = %s", (rows[0],))
    db.execute(conn, "RESET session_replication_role")
    assert [row.id for row in claim(conn)] == rows[1:]
    assert_each_in_its_place(conn)


# Recording


def test_an_outcome_recorded_twice_counts_once(conn: Connection) -> None:
    """A connection may end after the commit and before its answer."""
    queue_instants(conn, 4)
    rows = claim(conn)
    assert len(record(conn, retried(rows[:2]) + sent(rows[2:3]))) == 3
    assert record(conn, retried(rows[:2]) + sent(rows[2:3])) == set()
    assert {delivery(conn, row.id)["attempts"] for row in rows[:3]} == {1}
    assert statuses(conn) == {"queued": 2, "sent": 1, "sending": 1}
    assert_each_in_its_place(conn)


@pytest.mark.parametrize("why", ["lapsed", "taken over", "gone"])
def test_without_its_own_living_lease_no_outcome_is_taken(conn: Connection, why: str) -> None:
    queue_instants(conn, 2)
    rows = claim(conn)
    db.execute(
        conn,
        {
            "lapsed": "UPDATE alerts_leases SET until = now() - interval '1 s'",
            "taken over": "UPDATE alerts_leases SET run_id = 'another'",
            "gone": "DELETE FROM alerts_leases",
        }[why],
    )
    assert record(conn, sent(rows[:1]) + retried(rows[1:])) == set()
    assert {delivery(conn, row.id)["attempts"] for row in rows} == {0}
    assert places(conn)[0] == {}


def test_a_zombies_outcome_meets_the_one_who_takes_over(
    conn: Connection, connect: Callable[[], Connection]
) -> None:
    queue_instants(conn, 2)
    zombie, heir = connect(), connect()
    rows = claim(zombie)
    lapse(conn)
    db.execute(heir, "BEGIN")
    assert leases.adopt_lapsed(heir, "heir") == (DELIVERIES, rows[0].lease)
    assert record(zombie, sent(rows)) == set()  # lapsed: it need not wait to know
    db.execute(heir, "COMMIT")
    assert record(zombie, sent(rows)) == set()
    lost = leases.lost_rows(heir, DELIVERIES, "heir", rows[0].lease, 10)
    assert [row.id for row in lost] == [row.id for row in rows]
    assert record(heir, retried(lost), "heir") == {row.id for row in rows}
    assert_each_in_its_place(conn)


def test_a_released_row_goes_back_as_it_is_by_now(conn: Connection) -> None:
    """It was put off by hand while it was held."""
    queue_instants(conn, 2)
    rows = claim(conn)
    later = NOW + timedelta(hours=1)
    db.execute(
        conn,
        f"UPDATE {TABLE} SET next_retry_at = %s, failure_code = 'network' WHERE id = %s",
        (later, rows[0].id),
    )
    assert len(record(conn, [released(row) for row in rows])) == 2
    found = [delivery(conn, row.id) for row in rows]
    assert [(row["next_retry_at"], row["failure_code"]) for row in found] == [
        (later, "network"), (None, None),
    ]  # fmt: skip
    assert {row["attempts"] for row in found} == {0}
    assert_each_in_its_place(conn)
    assert [row.id for row in claim(conn)] == [rows[1].id]


def test_a_row_that_was_skipped_by_hand_is_not_sent_again_by_its_outcome(conn: Connection) -> None:
    queue_instants(conn, 2)
    rows = claim(conn)
    db.execute(conn, f"UPDATE {TABLE} SET status = 'skipped' WHERE id = %s", (rows[0].id,))
    assert record(conn, retried(rows)) == {rows[1].id}
    assert delivery(conn, rows[0].id)["status"] == "skipped"
    assert_each_in_its_place(conn)


@pytest.mark.parametrize("commits_first", ["queueing", "recording"])
def test_a_row_queued_again_by_hand_while_its_outcome_is_refused_is_not_lost(
    conn: Connection, connect: Callable[[], Connection], commits_first: str
) -> None:
    """It is skipped by hand while its message is under way, and queued again."""
    queue_instants(conn, 2)
    recorder, writer = connect(), connect()
    rows = claim(recorder)
    db.execute(conn, f"UPDATE {TABLE} SET status = 'skipped'")
    again = f"UPDATE {TABLE} SET status = 'queued'"
    if commits_first == "queueing":
        db.execute(writer, "BEGIN")
        db.execute(writer, again)
        with waiting(conn, lambda: record(recorder, sent(rows))) as given:
            db.execute(writer, "COMMIT")
        assert given == [set()]
    else:
        db.execute(recorder, "BEGIN")
        assert record(recorder, sent(rows)) == set()
        with waiting(conn, lambda: db.execute(writer, again)):
            db.execute(recorder, "COMMIT")
    assert_each_in_its_place(conn)
    lapse(conn)  # nobody records them now: they are in doubt
    assert rescue(conn) == 2
    assert_each_in_its_place(conn)


@pytest.mark.parametrize("commits_first", ["queueing", "rescue"])
def test_a_row_queued_again_by_hand_while_its_lease_is_given_up_is_not_lost(
    conn: Connection, connect: Callable[[], Connection], commits_first: str
) -> None:
    queue_instants(conn, 2)
    heir, writer = connect(), connect()
    rows = claim(conn)
    db.execute(conn, f"UPDATE {TABLE} SET status = 'skipped'")
    lapse(conn)
    assert leases.adopt_lapsed(heir, "heir") is not None
    again = f"UPDATE {TABLE} SET status = 'queued'"
    mine = (DELIVERIES, "heir", rows[0].lease)
    if commits_first == "queueing":
        db.execute(writer, "BEGIN")
        db.execute(writer, again)
        with waiting(conn, lambda: leases.let_go(heir, *mine)) as given:
            db.execute(writer, "COMMIT")
        assert given == [False]
        assert len(leases.lost_rows(heir, *mine, 10)) == 2
    else:
        db.execute(heir, "BEGIN")
        assert leases.let_go(heir, *mine)
        with waiting(conn, lambda: db.execute(writer, again)):
            db.execute(heir, "COMMIT")
        assert places(conn)[1] == []
    assert_each_in_its_place(conn)


def test_a_row_in_a_lapsed_lease_and_in_the_queue_is_not_in_doubt(conn: Connection) -> None:
    """As a restore may leave it: whoever takes it from the queue sends it."""
    (row,) = queue_instants(conn, 1)
    lease(conn, [row], claimed_until=NOW)
    db.execute(
        conn,
        "INSERT INTO alerts_send_queue SELECT 'deliveries', id, channel, created_at, user_id"
        f" FROM {TABLE}",
    )
    assert rescue(conn) == 0
    assert query(conn, "SELECT * FROM alerts_leases") == []


def test_a_row_in_two_leases_is_in_doubt_once(conn: Connection) -> None:
    (row,) = queue_instants(conn, 1)
    for _ in range(2):
        lease(conn, [row], claimed_until=NOW)
    assert rescue(conn) == 1
    assert delivery(conn, row)["attempts"] == 1
    assert_each_in_its_place(conn)


def test_a_half_recorded_lease_is_rescued_for_the_other_half(conn: Connection) -> None:
    queue_instants(conn, 6)
    rows = claim(conn)
    record(conn, sent(rows[:2]) + retried(rows[2:3]))
    lapse(conn)
    assert rescue(conn) == 3
    codes = [delivery(conn, row.id)["failure_code"] for row in rows]
    assert codes == [None, None, "network", *["sender_lost"] * 3]
    assert query(conn, "SELECT * FROM alerts_leases") == []
    assert_each_in_its_place(conn)


def test_renewing_keeps_the_leases_of_its_own_run_only(conn: Connection) -> None:
    queue_instants(conn, 4)
    claim(conn, 2)
    rows = [row_id for _, row_id in places(conn)[0]]
    lease(conn, rows, claimed_by="another", claimed_until=NOW)
    leases.renew(conn, "run")
    lapsed = "SELECT run_id FROM alerts_leases WHERE until < now()"
    assert query(conn, lapsed) == [{"run_id": "another"}]


# Digests


def test_digests_and_deliveries_with_the_same_ids_do_not_meet(conn: Connection) -> None:
    rows = queue_instants(conn, 3)
    digests = [add_digest(conn, add_user(conn)) for _ in range(3)]
    assert set(rows) & set(digests)
    taken = claim(conn)
    assert [row.id for row in claim(conn, queue=DIGESTS)] == digests
    record(conn, sent(taken))
    assert statuses(conn, "user_alert_digests") == {"sending": 3}
    assert_each_in_its_place(conn)
