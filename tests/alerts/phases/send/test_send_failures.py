"""What becomes of a row, its channel and the run when a message does not go."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.channels.base import Message
from alerts.engine import RunReport
from alerts.failures import DeliveryError, FailureClass, FailureCode, codes_of
from tests.support.queue_world import add_digest, delivery, queue_instants, row_of, statuses
from tests.support.world import (
    NOW,
    RememberingChannel,
    add_alert,
    add_delivery,
    add_user,
    all_channels,
    counts_of,
    run,
    value,
)

C = FailureCode
TRANSIENT = (C.PROVIDER_UNAVAILABLE, C.POLICY_REFUSED)  # those that are the row's
OPERATOR = tuple(map(C, codes_of(FailureClass.OPERATOR)))
HOPELESS = (C.RECIPIENT_INVALID, C.RECIPIENT_BLOCKED, C.PAYLOAD_INVALID)
UNKNOWN = (C.OUTCOME_UNKNOWN, C.SENDER_LOST)
DIGESTS = "user_alert_digests"


def failing(code: FailureCode, retry_after: float | None = None) -> RememberingChannel:
    def answer(message: Message) -> str | None:
        raise DeliveryError(code, "as the test wants", retry_after=retry_after)

    return RememberingChannel(answer)


def send_email(
    database_url: str,
    channel: RememberingChannel,
    *,
    now: datetime = NOW,
    **environ: str,
) -> RunReport:
    return run(database_url, "c", now=now, channels=all_channels(email=channel), environ=environ)


@pytest.fixture
def row(conn: Connection) -> int:
    return queue_instants(conn, 1)[0]


@pytest.mark.parametrize("code", TRANSIENT)
@pytest.mark.parametrize(("attempts", "seconds"), [(0, 60), (2, 240), (3, 480)])
def test_transient_failure_waits_for_its_backoff(
    conn: Connection, database_url: str, row: int, code: FailureCode, attempts: int, seconds: int
) -> None:
    db.execute(conn, "UPDATE user_alert_deliveries SET attempts = %s", (attempts,))
    counts = counts_of(send_email(database_url, failing(code)), "c")
    found = delivery(conn, row)
    assert (found["status"], found["attempts"]) == ("queued", attempts + 1)
    assert (found["failure_code"], found["claimed_by"]) == (code.value, None)
    assert found["last_error"] == f"{code.value}: as the test wants"
    wait = (found["next_retry_at"] - NOW).total_seconds()
    assert seconds <= wait <= seconds * 1.2
    assert counts["deliveries"]["retried"] == counts["deliveries"]["claimed"] == 1


def test_backoff_is_bounded_by_the_longest_wait(
    conn: Connection, database_url: str, row: int
) -> None:
    db.execute(conn, "UPDATE user_alert_deliveries SET attempts = 3")
    send_email(database_url, failing(C.PROVIDER_UNAVAILABLE), ALERTS_RETRY_MAX_SECONDS="100")
    wait = (delivery(conn, row)["next_retry_at"] - NOW).total_seconds()
    assert 100 <= wait <= 120


def test_longer_wish_of_the_provider_closes_the_channel_for_so_long(
    conn: Connection, database_url: str, row: int
) -> None:
    report = send_email(database_url, failing(C.RATE_LIMITED, retry_after=5000.0))
    found = delivery(conn, row)
    assert (found["status"], found["attempts"], found["next_retry_at"]) == ("queued", 0, NOW)
    lasts = (
        "SELECT round(extract(epoch FROM closed_until - closed_since)) FROM alerts_channel_state"
    )
    assert value(conn, lasts) == 5000
    assert counts_of(report, "c")["stopped_early"] == "rate_limited"


def test_transient_failure_at_the_maximum_is_final(
    conn: Connection, database_url: str, row: int
) -> None:
    now, seen = NOW, []
    for _ in range(4):
        send_email(database_url, failing(C.PROVIDER_UNAVAILABLE), now=now, ALERTS_MAX_ATTEMPTS="3")
        found = delivery(conn, row)
        seen.append((found["status"], found["attempts"]))
        now = found["next_retry_at"] or now
    assert seen == [("queued", 1), ("queued", 2), ("failed", 3), ("failed", 3)]
    assert (found["failure_code"], found["failed_at"]) == ("provider_unavailable", now)


@pytest.mark.parametrize("attempts", [5, 9])
def test_requeued_row_past_the_maximum_gets_one_more_attempt(
    conn: Connection, database_url: str, row: int, attempts: int
) -> None:
    db.execute(conn, "UPDATE user_alert_deliveries SET attempts = %s", (attempts,))
    send_email(database_url, failing(C.PROVIDER_UNAVAILABLE))
    found = delivery(conn, row)
    assert (found["status"], found["attempts"]) == ("failed", attempts + 1)


@pytest.mark.parametrize("code", OPERATOR)
def test_operator_failure_holds_the_channel_and_burns_no_attempt(
    conn: Connection, database_url: str, code: FailureCode
) -> None:
    rows = queue_instants(conn, 30)
    telegram = queue_instants(conn, 30, "telegram")
    digest = add_digest(conn, add_user(conn), [add_alert(conn)])
    before = [delivery(conn, row) for row in rows]
    channel = failing(code)
    report = send_email(database_url, channel)
    assert report.record.status == "failed"
    assert "email" in (report.record.error_summary or "")
    assert code.value in (report.record.error_summary or "")
    counts = report.record.counts["c"]
    assert counts["channels_held"] == {"email": code.value}
    assert counts["stopped_early"] is None
    assert counts["deliveries"]["sent"] == 30
    assert counts["deliveries"]["released"] == counts["deliveries"]["claimed"] - 30
    after = [delivery(conn, row) for row in rows]
    changed = [row for row, old in zip(after, before, strict=True) if row != old]
    assert 1 <= len(changed) <= 8  # the calls that were under way: these go behind the others
    assert {(row["failure_code"], row["next_retry_at"]) for row in changed} == {(code.value, NOW)}
    same = {"failure_code": None, "next_retry_at": None}
    assert [{**row, **same} for row in after] == before
    assert delivery(conn, digest, DIGESTS)["status"] == "queued"
    assert {delivery(conn, row)["status"] for row in telegram} == {"sent"}


def test_held_channel_does_not_call_its_provider_again(conn: Connection, database_url: str) -> None:
    queue_instants(conn, 200)
    calls: list[int] = []

    def refuse(message: Message) -> str | None:
        calls.append(row_of(message))
        raise DeliveryError(C.AUTH_FAILED, "401")

    send_email(database_url, RememberingChannel(refuse), ALERTS_SEND_WORKERS="1")
    assert len(calls) == 1


def test_operator_failure_keeps_what_the_row_knew(
    conn: Connection, database_url: str, row: int
) -> None:
    due = NOW - timedelta(seconds=1)
    db.execute(
        conn,
        "UPDATE user_alert_deliveries SET attempts = 1, failure_code = 'outcome_unknown',"
        " last_error = 'x', next_retry_at = %s",
        (due,),
    )
    before = delivery(conn, row)
    send_email(database_url, failing(C.AUTH_FAILED))
    assert delivery(conn, row) == {**before, "next_retry_at": NOW}


@pytest.mark.parametrize("code", HOPELESS)
def test_hopeless_row_fails_at_once(
    conn: Connection, database_url: str, row: int, code: FailureCode
) -> None:
    digest = add_digest(conn, add_user(conn), [add_alert(conn)])
    counts = counts_of(send_email(database_url, failing(code)), "c")
    for found in (delivery(conn, row), delivery(conn, digest, DIGESTS)):
        assert (found["status"], found["failure_code"]) == ("failed", code.value)
        assert (found["failed_at"], found["attempts"]) == (NOW, 1)
        assert (found["claimed_by"], found["next_retry_at"]) == (None, None)
    assert counts["deliveries"]["failed"] == counts["digests"]["failed"] == 1


def test_unknown_outcome_is_sent_again_once(conn: Connection, database_url: str, row: int) -> None:
    channel = failing(C.OUTCOME_UNKNOWN)
    send_email(database_url, channel)
    found = delivery(conn, row)
    assert (found["status"], found["failure_code"]) == ("queued", "outcome_unknown")
    assert 60 <= (found["next_retry_at"] - NOW).total_seconds() <= 72
    send_email(database_url, channel, now=found["next_retry_at"])
    found = delivery(conn, row)
    assert (found["status"], found["failure_code"]) == ("failed", "outcome_unknown")
    assert found["attempts"] == 2


def test_unknown_outcome_is_remembered_over_a_transient_failure(
    conn: Connection, database_url: str, row: int
) -> None:
    now = NOW
    for code in (C.OUTCOME_UNKNOWN, *TRANSIENT):
        send_email(database_url, failing(code), now=now)
        found = delivery(conn, row)
        assert (found["status"], found["failure_code"]) == ("queued", "outcome_unknown")
        assert found["last_error"].startswith(code.value)
        now = found["next_retry_at"]
    send_email(database_url, failing(C.OUTCOME_UNKNOWN), now=now)
    found = delivery(conn, row)
    assert (found["status"], found["attempts"]) == ("failed", 4)


def test_parking_fails_an_unknown_outcome_at_once(
    conn: Connection, database_url: str, row: int
) -> None:
    send_email(database_url, failing(C.OUTCOME_UNKNOWN), ALERTS_ON_UNKNOWN_OUTCOME="park")
    found = delivery(conn, row)
    assert (found["status"], found["failure_code"]) == ("failed", "outcome_unknown")


def test_bug_of_an_adapter_is_an_unknown_outcome_of_its_row(
    conn: Connection, database_url: str
) -> None:
    rows = queue_instants(conn, 20)

    def sometimes(message: Message) -> str | None:
        if row_of(message) == rows[3]:
            raise ZeroDivisionError("someone@example.com")
        return None

    counts_of(send_email(database_url, RememberingChannel(sometimes)), "c")
    found = delivery(conn, rows[3])
    assert (found["status"], found["failure_code"]) == ("queued", "outcome_unknown")
    assert "example.com" not in found["last_error"]
    assert statuses(conn) == {"queued": 1, "sent": 19}


def test_text_that_cannot_be_rendered_fails_its_row_only(
    conn: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alerts.phases.send import content

    broken = add_alert(conn, headline="No renderer takes this")
    row = add_delivery(conn, add_user(conn), broken)
    rows = queue_instants(conn, 5)
    render: Callable[..., object] = content.render_alert

    def picky(channel: str, alert: object, style: object) -> object:
        if getattr(alert, "event_id", None) == broken:
            raise ValueError("someone@example.com")
        return render(channel, alert, style)

    monkeypatch.setattr(content, "render_alert", picky)
    send_email(database_url, RememberingChannel())
    found = delivery(conn, row)
    assert (found["status"], found["failure_code"]) == ("failed", "payload_invalid")
    assert "example.com" not in found["last_error"]
    assert {delivery(conn, other)["status"] for other in rows} == {"sent"}


def test_one_failure_of_each_kind_stops_no_other_row(conn: Connection, database_url: str) -> None:
    rows = queue_instants(conn, 60)
    codes = dict(zip(rows[5:], [*TRANSIENT, *HOPELESS, C.OUTCOME_UNKNOWN] * 3, strict=False))

    def answer(message: Message) -> str | None:
        if row_of(message) in codes:
            raise DeliveryError(codes[row_of(message)], "as the test wants")
        return None

    counts = counts_of(send_email(database_url, RememberingChannel(answer)), "c")["deliveries"]
    assert (counts["sent"], counts["retried"], counts["failed"]) == (42, 9, 9)
    assert statuses(conn) == {"sent": 42, "queued": 9, "failed": 9}
