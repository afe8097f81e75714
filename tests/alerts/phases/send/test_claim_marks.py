"""Claims that go on from where the last one ended, and what comes in before that place."""

from __future__ import annotations

import random
import threading
from datetime import timedelta

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.channels.base import Message
from alerts.phases.send import claimer, claims
from alerts.phases.send.claimer import GO_ON_SECONDS, Marks
from alerts.phases.send.leases import record
from alerts.phases.send.ledger import released
from alerts.phases.send.statements import Session
from tests.support.queue_world import (
    add_digest,
    assert_each_in_its_place,
    queue_instants,
    row_of,
    statuses,
)
from tests.support.world import (
    NOW,
    RememberingChannel,
    add_user,
    all_channels,
    counts_of,
    run,
    value,
)

EMAIL = ("deliveries", "email")
OLD = NOW - timedelta(hours=20)


def claim(
    session: Session, queue: claims.Queue = claims.DELIVERIES, room: int = 3, **more: claims.Mark
) -> claims.Claimed:
    return claims.claim_due(
        session, queue, run_id="run", now=NOW, rooms={"email": room, "telegram": room},
        limit=2 * room, unconfigured=[], max_age_hours=72, allowlist=None, after=more,
    )  # fmt: skip


def test_a_claim_takes_what_comes_after_the_mark_in_the_queue_s_order(conn: Connection) -> None:
    same = queue_instants(conn, 5)
    later = queue_instants(conn, 2, created_at=NOW - timedelta(minutes=1))
    other = queue_instants(conn, 2, "telegram", created_at=OLD)
    session = Session(conn)
    first = claim(session)
    assert [each.id for each in first.to_send] == [*other, *same[:3]]
    second = claim(session, **first.last)
    assert [each.id for each in second.to_send] == [*same[3:], later[0]]
    queue_instants(conn, 1, created_at=OLD)
    assert [each.id for each in claim(session, **second.last).to_send] == [later[1]]
    assert len(claim(session).to_send) == 1
    assert claim(session).to_send == []


def test_digests_are_claimed_behind_a_mark_by_the_end_of_their_windows(conn: Connection) -> None:
    user = add_user(conn)
    rows = [
        add_digest(conn, user, window_end=NOW - timedelta(hours=hours), created_at=OLD)
        for hours in (3, 2, 1)
    ]
    session = Session(conn)
    first = claim(session, claims.DIGESTS, 2)
    assert [each.id for each in first.to_send] == rows[:2]
    assert [each.id for each in claim(session, claims.DIGESTS, 2, **first.last).to_send] == rows[2:]


COMES_IN = {
    "a row made late": "INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel,"
    " created_at) SELECT min(u.id), max(e.id), 'email', %(old)s FROM users AS u, alert_events AS e",
    "a row queued again": "UPDATE user_alert_deliveries SET status = 'queued', created_at = %(old)s"
    " WHERE status = 'skipped'",
    "a row due earlier": "UPDATE user_alert_deliveries SET next_retry_at = NULL"
    " WHERE next_retry_at IS NOT NULL",
}


@pytest.mark.parametrize("what", COMES_IN)
def test_what_comes_in_before_the_mark_is_sent_by_the_same_run(
    conn: Connection, database_url: str, what: str
) -> None:
    queue_instants(conn, 40)
    (apart,) = queue_instants(conn, 1, created_at=OLD)
    db.execute(
        conn,
        "UPDATE user_alert_deliveries SET next_retry_at = %s WHERE id = %s"
        if what == "a row due earlier"
        else "UPDATE user_alert_deliveries SET status = 'skipped', failure_code = 'expired',"
        " failed_at = NULL, created_at = coalesce(%s, created_at) WHERE id = %s",
        (NOW + timedelta(hours=1) if what == "a row due earlier" else None, apart),
    )
    calls: list[int] = []

    def answer(message: Message) -> None:
        calls.append(row_of(message))
        if len(calls) == 20:
            with psycopg2.connect(database_url) as other:
                db.execute(other, COMES_IN[what], {"old": OLD})
            other.close()

    report = run(
        database_url, "c", channels=all_channels(email=RememberingChannel(answer)), batch_size=5,
        environ={"ALERTS_SEND_WORKERS": "1", "ALERTS_RECORD_BATCH": "1"},
    )  # fmt: skip
    assert counts_of(report, "c")["deliveries"]["sent"] == 41
    assert len(set(calls)) == 41
    assert_each_in_its_place(conn)


def test_a_mark_is_good_for_a_few_seconds_from_when_a_claim_began_at_the_oldest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(claimer.time, "monotonic", lambda: now[0])
    marks = Marks()
    assert marks.of(EMAIL) is None
    marks.move(EMAIL, ("a", 1), anew=True)
    now[0] += GO_ON_SECONDS / 2
    assert marks.of(EMAIL) == ("a", 1)
    marks.move(EMAIL, ("b", 2), anew=False)
    now[0] += GO_ON_SECONDS / 2 - 0.1
    assert marks.of(EMAIL) == ("b", 2)
    now[0] += 0.2  # claims that go on do not put it off
    assert marks.of(EMAIL) is None
    marks.move(EMAIL, ("c", 3), anew=True)
    assert marks.of(EMAIL) == ("c", 3)
    assert marks.of(("digests", "email")) is None
    marks.forget(EMAIL)
    assert marks.of(EMAIL) is None


IN_BOTH = "SELECT count(*) FROM alerts_send_queue JOIN alerts_leased USING (source, id)"


@pytest.mark.parametrize("seed", range(3))
def test_a_row_whose_due_time_moves_while_it_is_claimed_is_in_one_place(
    conn: Connection, database_url: str, seed: int
) -> None:
    """A claim deletes entries by their place in the table, which such a change moves."""
    rows, rng = queue_instants(conn, 12), random.Random(seed)
    done = threading.Event()

    other = psycopg2.connect(database_url)
    other.autocommit = True

    def move() -> None:
        while not done.is_set():
            db.execute(
                other,
                "UPDATE user_alert_deliveries SET next_retry_at = %s::timestamptz"
                " - id %% 7 * interval '1 s' WHERE id = %s",  # one at a time: no deadlocks
                (NOW - timedelta(minutes=rng.randrange(60)), rng.choice(rows)),
            )

    mover = threading.Thread(target=move)
    mover.start()
    session, taken = Session(conn), 0
    try:
        for _ in range(40):
            found = claim(session, room=4).to_send
            assert value(conn, IN_BOTH) == 0
            taken += len(found)
            if found:
                outcomes = [released(each) for each in found]
                moved = record(session, claims.DELIVERIES, "run", NOW, outcomes)
                assert moved == {each.id for each in found}
    finally:
        done.set()
        mover.join(30)
        other.close()
    assert taken
    assert_each_in_its_place(conn)
    assert statuses(conn) == {"queued": 12}
