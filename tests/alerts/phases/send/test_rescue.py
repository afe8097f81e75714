"""Rows that a lost sender left behind, and the late answers of a sender that was not lost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.channels.base import Message
from alerts.failures import DeliveryError, FailureCode
from alerts.phases.send import rescue
from alerts.phases.send.ledger import Ledger
from alerts.phases.send.statements import Session
from tests.support.phases import phase_context
from tests.support.queue_world import add_digest, delivery, queue_instants, row_of, statuses
from tests.support.world import (
    NOW,
    RememberingChannel,
    add_alert,
    add_delivery,
    add_user,
    all_channels,
    counts_of,
    lease,
    run,
    value,
)

DELIVERIES, DIGESTS = "user_alert_deliveries", "user_alert_digests"


@pytest.fixture
def user(conn: Connection) -> Iterator[int]:
    yield add_user(conn, "pro")


def lost_delivery(conn: Connection, user: int, **columns: object) -> int:
    return add_delivery(conn, user, add_alert(conn), status="sending", **columns)


def wall_time(conn: Connection, ahead: timedelta) -> datetime:
    found: datetime = value(conn, "SELECT clock_timestamp() + %s", ahead)
    return found


def test_lapsed_claim_goes_back_after_a_backoff_with_an_attempt_counted(
    conn: Connection, database_url: str, user: int
) -> None:
    row = lost_delivery(conn, user, attempts=1)
    digest = add_digest(
        conn,
        user,
        [add_alert(conn)],
        status="sending",
        claimed_by="lost",
        claimed_until=wall_time(conn, timedelta(seconds=-1)),
    )
    channel = RememberingChannel()
    counts = counts_of(run(database_url, "c", channels=all_channels(email=channel)), "c")
    for found, attempts in ((delivery(conn, row), 2), (delivery(conn, digest, DIGESTS), 1)):
        assert (found["status"], found["failure_code"]) == ("queued", "sender_lost")
        assert found["attempts"] == attempts
        wait = (found["next_retry_at"] - NOW).total_seconds()
        assert 60 * 2 ** (attempts - 1) <= wait <= 72 * 2 ** (attempts - 1)
        assert (found["claimed_by"], found["claimed_until"]) == (None, None)
    assert channel.sent == []
    assert counts["deliveries"]["rescued"] == counts["digests"]["rescued"] == 1
    assert counts["deliveries"]["claimed"] == counts["digests"]["claimed"] == 0


def test_rescued_row_is_sent_again_when_its_wait_is_over(
    conn: Connection, database_url: str, user: int
) -> None:
    row = lost_delivery(conn, user)
    run(database_url, "c")
    run(database_url, "c", now=delivery(conn, row)["next_retry_at"])
    found = delivery(conn, row)
    assert (found["status"], found["attempts"], found["failure_code"]) == ("sent", 2, None)


def test_lost_at_the_maximum_of_attempts_is_final(
    conn: Connection, database_url: str, user: int
) -> None:
    row = lost_delivery(conn, user, attempts=4)
    counts = counts_of(run(database_url, "c"), "c")
    found = delivery(conn, row)
    assert (found["status"], found["failure_code"]) == ("failed", "sender_lost")
    assert (found["attempts"], found["failed_at"]) == (5, NOW)
    assert counts["deliveries"]["rescued"] == 1
    assert counts["deliveries"]["failed"] == counts["deliveries"]["claimed"] == 0


def test_parking_fails_a_lost_row_at_once(conn: Connection, database_url: str, user: int) -> None:
    row = lost_delivery(conn, user)
    run(database_url, "c", environ={"ALERTS_ON_UNKNOWN_OUTCOME": "park"})
    found = delivery(conn, row)
    assert (found["status"], found["failure_code"]) == ("failed", "sender_lost")


def test_rescue_remembers_an_unknown_outcome(
    conn: Connection, database_url: str, user: int
) -> None:
    row = lost_delivery(conn, user, attempts=1, failure_code="outcome_unknown")
    run(database_url, "c")
    found = delivery(conn, row)
    assert (found["status"], found["failure_code"]) == ("queued", "outcome_unknown")


def test_live_claims_of_another_run_are_left_alone(
    conn: Connection, database_url: str, user: int
) -> None:
    ends = wall_time(conn, timedelta(minutes=1))
    row = lost_delivery(conn, user, claimed_by="another", claimed_until=ends)
    before = delivery(conn, row)
    counts = counts_of(run(database_url, "c"), "c")
    assert delivery(conn, row) == before
    assert counts["deliveries"]["rescued"] == 0


def test_rescue_goes_on_past_one_batch(
    conn: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescue, "ROWS_PER_STATEMENT", 10)
    rows = queue_instants(conn, 35)
    lease(conn, rows, claimed_until=NOW)
    assert counts_of(run(database_url, "c"), "c")["deliveries"]["rescued"] == 35
    assert statuses(conn) == {"queued": 35}


def test_rescue_stops_when_the_lock_is_lost(
    conn: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescue, "ROWS_PER_STATEMENT", 10)
    rows = queue_instants(conn, 35)
    lease(conn, rows, claimed_until=NOW)
    db.execute(conn, END_LOCKS_ON_UPDATE)
    report = run(database_url, "c")
    assert report.record.status == "failed"
    counts = report.record.counts["c"]
    assert (counts["stopped_early"], counts["deliveries"]["rescued"]) == ("lock_lost", 10)
    assert statuses(conn) == {"queued": 10, "sending": 25}


def test_rescue_ends_between_two_statements_when_told_to(
    conn: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescue, "ROWS_PER_STATEMENT", 2)
    lease(conn, queue_instants(conn, 5), claimed_until=NOW)
    context = phase_context(conn, database_url)
    record = Ledger.record_rescued

    def record_and_stop(ledger: Ledger, *arguments: Any) -> int:
        moved = record(ledger, *arguments)
        context.stop.interrupt("SIGTERM")
        return moved

    monkeypatch.setattr(Ledger, "record_rescued", record_and_stop)
    ledger = Ledger(context, Session(conn))
    rescue.rescue_lost(context, ledger)
    assert ledger.tally["deliveries"]["rescued"] == 2
    assert statuses(conn) == {"queued": 2, "sending": 3}


def test_rescue_records_what_became_of_both_queues_and_claims_nothing(
    conn: Connection, database_url: str, user: int
) -> None:
    row = lost_delivery(conn, user)
    ends = wall_time(conn, timedelta(seconds=-1))
    lost = {"status": "sending", "claimed_by": "lost", "claimed_until": ends}
    digest = add_digest(conn, user, [add_alert(conn)], **lost)
    context = phase_context(conn, database_url)
    ledger = Ledger(context, Session(conn))
    rescue.rescue_lost(context, ledger)
    found = [delivery(conn, row), delivery(conn, digest, DIGESTS)]
    assert {each["failure_code"] for each in found} == {"sender_lost"}
    assert {each["status"] for each in found} == {"queued"}
    tallies = {name: dict(tally) for name, tally in ledger.tally.items()}
    assert tallies == {"deliveries": {"rescued": 1}, "digests": {"rescued": 1}}


END_LOCKS_ON_UPDATE = """
CREATE FUNCTION end_locks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'alerts-locks';
    RETURN NULL;
END
$$;
CREATE TRIGGER end_locks AFTER UPDATE ON user_alert_deliveries
FOR EACH STATEMENT EXECUTE FUNCTION end_locks();
"""


# Another run adopts the row alone, as if the lease had lapsed for it.
TAKE_OVER = """
DELETE FROM alerts_leases WHERE ids = ARRAY[%(id)s]::bigint[];
UPDATE alerts_leases SET ids = array_remove(ids, %(id)s) WHERE %(id)s = ANY (ids);
INSERT INTO alerts_leases (run_id, source, until, ids)
VALUES ('another', 'deliveries', now() + interval '1 hour', ARRAY[%(id)s]);
"""


@pytest.mark.parametrize("outcome", [None, FailureCode.NETWORK, FailureCode.RECIPIENT_BLOCKED])
@pytest.mark.usefixtures("short_waits")
def test_late_outcome_of_a_claim_that_someone_else_has_is_refused_and_counted(
    conn: Connection, database_url: str, outcome: FailureCode | None
) -> None:
    rows = queue_instants(conn, 5)
    taken = rows[2]

    def answer(message: Message) -> str | None:
        if row_of(message) == taken:
            with psycopg2.connect(database_url) as other, other.cursor() as cursor:
                cursor.execute(TAKE_OVER, {"id": taken})
            other.close()
            if outcome:
                raise DeliveryError(outcome, "late")
        return None

    channel = RememberingChannel(answer)
    report = run(database_url, "c", channels=all_channels(email=channel))
    counts = counts_of(report, "c")
    assert counts["claims_lost"] == 1
    assert counts["deliveries"]["sent"] == 4
    assert counts["deliveries"]["claimed"] == 5 == 4 + counts["deliveries"]["released"]
    found = delivery(conn, taken)
    assert (found["status"], found["claimed_by"]) == ("sending", "another")
    assert (found["sent_at"], found["attempts"], found["provider_message_id"]) == (None, 0, None)


def test_refused_outcome_still_uses_up_the_cap(conn: Connection, database_url: str) -> None:
    """The message may have gone: another one in its place would go past the cap."""
    rows = queue_instants(conn, 4)

    def answer(message: Message) -> str | None:
        if row_of(message) == rows[0]:
            with psycopg2.connect(database_url) as other, other.cursor() as cursor:
                cursor.execute(TAKE_OVER, {"id": rows[0]})
            other.close()
        return None

    channel = RememberingChannel(answer)
    environ = {"ALERTS_MAX_SEND_PER_RUN": "2"}
    run(database_url, "c", channels=all_channels(email=channel), environ=environ)
    assert len(channel.sent) == 2
