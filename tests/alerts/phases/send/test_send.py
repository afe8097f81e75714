"""What the send phase takes, in which order, and what leaves."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from tests.support.queue_world import add_digest, delivery, queue_instants, row_of, statuses
from tests.support.world import (
    NOW,
    RememberingChannel,
    add_alert,
    add_delivery,
    add_user,
    all_channels,
    counts_of,
    query,
    run,
    value,
)

DIGESTS = "user_alert_digests"
ONE_WORKER = {"ALERTS_SEND_WORKERS": "1"}

# Counts what each claim took, as the database saw it.
CLAIM_LOG = """
CREATE TABLE claim_log (taken BIGINT);
CREATE FUNCTION log_claim() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO claim_log SELECT cardinality(ids) FROM after;
    RETURN NULL;
END
$$;
CREATE TRIGGER log_claim AFTER INSERT ON alerts_leases REFERENCING NEW TABLE AS after
FOR EACH STATEMENT EXECUTE FUNCTION log_claim();
"""


def claim_sizes(conn: Connection) -> list[int]:
    return [row["taken"] for row in query(conn, "SELECT taken FROM claim_log WHERE taken > 0")]


@pytest.fixture
def user(conn: Connection) -> Iterator[int]:
    yield add_user(conn, "pro", telegram="77001", phone="+31610000001")


def test_those_due_for_longest_go_first_and_digests_after_them(
    conn: Connection, database_url: str, user: int
) -> None:
    digest = add_digest(conn, user, [add_alert(conn)], window_end=NOW - timedelta(days=3))
    ids = {
        hours: add_delivery(conn, user, add_alert(conn), created_at=NOW - timedelta(hours=hours))
        for hours in (2, 5, 1, 4)
    }
    for hours, minutes in ((3, 90), (6, 1)):  # due again, since then
        ids[hours] = add_delivery(
            conn,
            user,
            add_alert(conn),
            created_at=NOW - timedelta(hours=hours),
            attempts=1,
            failure_code="network",
            next_retry_at=NOW - timedelta(minutes=minutes),
        )
    channel = RememberingChannel()
    run(database_url, "c", channels=all_channels(email=channel), environ=ONE_WORKER)
    keys = [message.key.rsplit("-", 1)[0] for message in channel.sent]
    expected = [f"deliveries-{ids[hours]}" for hours in (5, 4, 2, 3, 1, 6)]
    assert keys == [*expected, f"digests-{digest}"]


@pytest.mark.parametrize(("ends_in", "sent"), [(timedelta(), 1), (timedelta(microseconds=1), 0)])
def test_digest_goes_only_once_its_window_has_closed(
    conn: Connection, database_url: str, user: int, ends_in: timedelta, sent: int
) -> None:
    add_digest(conn, user, [add_alert(conn)], window_end=NOW + ends_in)
    assert counts_of(run(database_url, "c"), "c")["digests"]["claimed"] == sent


@pytest.mark.parametrize(("due_in", "sent"), [(timedelta(), 1), (timedelta(seconds=1), 0)])
def test_retry_is_due_by_the_business_clock(
    conn: Connection, database_url: str, user: int, due_in: timedelta, sent: int
) -> None:
    add_delivery(conn, user, add_alert(conn), next_retry_at=NOW + due_in)
    add_digest(conn, user, [add_alert(conn)], next_retry_at=NOW + due_in)
    counts = counts_of(run(database_url, "c"), "c")
    assert (counts["deliveries"]["sent"], counts["digests"]["sent"]) == (sent, sent)


@pytest.mark.parametrize(
    ("setting", "age", "status"),
    [
        ("", timedelta(hours=72), "sent"),
        ("", timedelta(hours=72, microseconds=1), "skipped"),
        ("1", timedelta(hours=2), "skipped"),
        ("0", timedelta(days=400), "sent"),
    ],
)
def test_stale_instant_alert_expires_instead_of_leaving(
    conn: Connection, database_url: str, user: int, setting: str, age: timedelta, status: str
) -> None:
    row = add_delivery(
        conn, user, add_alert(conn), created_at=NOW - age, next_retry_at=NOW - timedelta(hours=1)
    )
    environ = {"ALERTS_DELIVERY_MAX_AGE_HOURS": setting}
    counts = counts_of(run(database_url, "c", environ=environ), "c")["deliveries"]
    found = delivery(conn, row)
    assert found["status"] == status
    assert counts["skipped_expired"] == (status == "skipped")
    if status == "skipped":
        assert (found["failure_code"], found["attempts"]) == ("expired", 0)
        assert found["next_retry_at"] is None
        assert found["claimed_by"] is None


def test_old_digest_never_expires(conn: Connection, database_url: str, user: int) -> None:
    digest = add_digest(conn, user, [add_alert(conn)], window_end=NOW - timedelta(days=30))
    run(database_url, "c")
    assert delivery(conn, digest, DIGESTS)["status"] == "sent"


def test_channel_without_provider_skips_its_deliveries_and_digests(
    conn: Connection, database_url: str, user: int
) -> None:
    rows = [add_delivery(conn, user, add_alert(conn), name) for name in ("telegram", "sms")]
    digest = add_digest(conn, user, [add_alert(conn)], "telegram")
    email = add_delivery(conn, user, add_alert(conn))
    report = run(database_url, "c", channels={"email": RememberingChannel()})
    counts = counts_of(report, "c")
    assert counts["deliveries"]["skipped_not_configured"] == 2
    assert counts["deliveries"]["claimed"] == 3
    assert counts["digests"]["skipped_not_configured"] == counts["digests"]["claimed"] == 1
    for found in (*(delivery(conn, row) for row in rows), delivery(conn, digest, DIGESTS)):
        assert (found["status"], found["failure_code"]) == ("skipped", "channel_not_configured")
        assert (found["attempts"], found["claimed_by"], found["claimed_until"]) == (0, None, None)
    assert delivery(conn, email)["status"] == "sent"


def test_nothing_configured_skips_everything_in_batches(
    conn: Connection, database_url: str
) -> None:
    queue_instants(conn, 25)
    report = run(database_url, "c", channels={}, batch_size=10)
    assert counts_of(report, "c")["deliveries"]["skipped_not_configured"] == 25


@pytest.mark.parametrize(
    ("channel", "address"),
    [
        ("email", {"email": None}),
        ("email", {"email_verified": False}),
        ("telegram", {"telegram_chat_id": None}),
        ("telegram", {"telegram_chat_id": " "}),
        ("sms", {"phone_number": None}),
    ],
)
def test_address_that_is_gone_when_sending_skips_the_row(
    conn: Connection, database_url: str, user: int, channel: str, address: dict[str, object]
) -> None:
    rows = [(add_delivery(conn, user, add_alert(conn), channel), "user_alert_deliveries")]
    if channel != "sms":
        rows.append((add_digest(conn, user, [add_alert(conn)], channel), DIGESTS))
    (name, new) = next(iter(address.items()))
    db.execute(conn, f"UPDATE users SET {name} = %s WHERE id = %s", (new, user))
    channels = all_channels()
    counts = counts_of(run(database_url, "c", channels=channels), "c")
    assert channels[channel].sent == []
    for row, table in rows:
        found = delivery(conn, row, table)
        assert (found["status"], found["failure_code"]) == ("skipped", "missing_destination")
        assert (found["attempts"], found["claimed_by"]) == (0, None)
    assert counts["deliveries"]["skipped_missing_destination"] == 1
    assert counts["digests"]["skipped_missing_destination"] == len(rows) - 1


def test_allowlist_leaves_everyone_else_queued(
    conn: Connection, database_url: str, user: int
) -> None:
    other = add_user(conn, "pro")
    mine = add_delivery(conn, user, add_alert(conn))
    theirs = add_delivery(conn, other, add_alert(conn))
    stale = add_delivery(conn, other, add_alert(conn), created_at=NOW - timedelta(days=9))
    digest = add_digest(conn, other, [add_alert(conn)])
    run(database_url, "c", environ={"ALERTS_SEND_ALLOWLIST_USER_IDS": str(user)})
    assert delivery(conn, mine)["status"] == "sent"
    assert {delivery(conn, row)["status"] for row in (theirs, stale)} == {"queued"}
    assert delivery(conn, digest, DIGESTS)["status"] == "queued"


def test_rows_of_other_parts_of_the_product_are_left_alone(
    conn: Connection, database_url: str, user: int
) -> None:
    foreign = value(
        conn,
        "INSERT INTO user_alert_deliveries (user_id, channel, delivery_kind, created_at)"
        " VALUES (%s, 'email', 'newsletter', %s) RETURNING id",
        user,
        NOW - timedelta(days=30),
    )
    waiting = add_delivery(conn, user, add_alert(conn), kind="digest")
    before = [delivery(conn, row) for row in (foreign, waiting)]
    run(database_url, "c")
    assert [delivery(conn, row) for row in (foreign, waiting)] == before


def test_no_claim_is_larger_than_the_batch_size(conn: Connection, database_url: str) -> None:
    queue_instants(conn, 30)
    db.execute(conn, CLAIM_LOG)
    run(database_url, "c", batch_size=7)
    sizes = claim_sizes(conn)
    assert max(sizes) <= 7
    assert sum(sizes) == 30


def test_claims_begin_small_and_grow_while_sending_is_quick(
    conn: Connection, database_url: str
) -> None:
    queue_instants(conn, 400)
    db.execute(conn, CLAIM_LOG)
    run(database_url, "c", environ={"ALERTS_SEND_WORKERS": "2"})
    sizes = claim_sizes(conn)
    assert sizes[0] == 4
    assert 8 < max(sizes) <= 200
    assert sum(sizes) == 400


def test_cap_ends_the_run_successfully_with_the_rest_queued(
    conn: Connection, database_url: str
) -> None:
    queue_instants(conn, 12)
    db.execute(conn, CLAIM_LOG)
    report = run(database_url, "c", environ={"ALERTS_MAX_SEND_PER_RUN": "5"}, batch_size=4)
    counts = counts_of(report, "c")
    assert counts["stopped_early"] == "cap"
    assert counts["deliveries"]["sent"] == 5
    assert claim_sizes(conn) == [4, 1]
    assert statuses(conn) == {"queued": 7, "sent": 5}


def test_rows_without_address_do_not_use_up_the_cap(
    conn: Connection, database_url: str, user: int
) -> None:
    unreachable = add_user(conn, "pro", email=None)
    for minutes in (10, 9, 8):
        add_delivery(
            conn, unreachable, add_alert(conn), created_at=NOW - timedelta(minutes=minutes)
        )
    row = add_delivery(conn, user, add_alert(conn))
    run(database_url, "c", environ={"ALERTS_MAX_SEND_PER_RUN": "1"})
    assert delivery(conn, row)["status"] == "sent"


def test_recorded_rows_carry_no_claim_and_satisfy_the_state_machine(
    conn: Connection, database_url: str, user: int
) -> None:
    row = add_delivery(conn, user, add_alert(conn), failure_code="network", attempts=1)
    digest = add_digest(conn, user, [add_alert(conn)])
    run(database_url, "c")
    for found, attempts in ((delivery(conn, row), 2), (delivery(conn, digest, DIGESTS), 1)):
        assert (found["status"], found["sent_at"], found["attempts"]) == ("sent", NOW, attempts)
        assert found["provider_message_id"].startswith("id-")
        assert (found["claimed_by"], found["claimed_until"]) == (None, None)
        assert (found["failure_code"], found["failed_at"]) == (None, None)
        assert (found["next_retry_at"], found["last_error"]) == (None, None)


def test_a_second_run_sends_nothing_again(conn: Connection, database_url: str) -> None:
    queue_instants(conn, 20)
    channel = RememberingChannel()
    for _ in range(2):
        run(database_url, "c", channels=all_channels(email=channel))
    assert len({row_of(message) for message in channel.sent}) == len(channel.sent) == 20


def test_business_time_stands_in_the_rows(conn: Connection, database_url: str, user: int) -> None:
    then = datetime.fromisoformat("2022-03-08T17:58:00+00:00")
    row = add_delivery(conn, user, add_alert(conn), created_at=then - timedelta(minutes=1))
    run(database_url, "c", now=then)
    assert delivery(conn, row)["sent_at"] == then
