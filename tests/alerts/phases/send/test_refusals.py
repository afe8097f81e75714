"""Addresses that are refused for good, again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.channels.base import Message
from alerts.failures import DeliveryError, FailureCode
from alerts.repair.requeue import RetryRequest, retry_failed
from tests.support.world import (
    NOW,
    RememberingChannel,
    add_alert,
    add_delivery,
    add_user,
    all_channels,
    query,
    run,
    settings_for,
    value,
)

C = FailureCode


def refuse(code: FailureCode) -> Callable[[Message], None]:
    def answer(message: Message) -> None:
        raise DeliveryError(code, "as the test wants")

    return answer


def send(database_url: str, answer: Callable[[Message], None] | None = None) -> None:
    run(database_url, "c", channels=all_channels(email=RememberingChannel(answer)))


def alert(conn: Connection, user: int) -> int:
    return add_delivery(conn, user, add_alert(conn))


def refused(conn: Connection) -> int:
    found = query(conn, "SELECT refusals FROM alerts_refused_addresses")
    return int(found[0]["refusals"]) if found else 0


def code_of(conn: Connection, row: int) -> Any:
    text = "SELECT coalesce(failure_code, status) FROM user_alert_deliveries WHERE id = %s"
    return value(conn, text, row)


@pytest.mark.parametrize("code", [C.RECIPIENT_INVALID, C.RECIPIENT_BLOCKED, C.PAYLOAD_INVALID])
def test_the_fourth_message_after_three_refusals_is_not_sent(
    conn: Connection, database_url: str, code: FailureCode
) -> None:
    user = add_user(conn)
    for _ in range(3):
        alert(conn, user)
        send(database_url, refuse(code))
    assert refused(conn) == 3
    row = alert(conn, user)
    send(database_url)
    assert code_of(conn, row) == "missing_destination"
    db.execute(conn, "UPDATE users SET email = 'new@example.com'")
    row = alert(conn, user)
    send(database_url)
    assert code_of(conn, row) == "sent"


def test_three_refusals_in_one_run_count_as_three(conn: Connection, database_url: str) -> None:
    user = add_user(conn)
    for _ in range(3):
        alert(conn, user)
    send(database_url, refuse(C.RECIPIENT_INVALID))
    assert refused(conn) == 3


def test_a_message_that_is_taken_ends_the_row_of_refusals(
    conn: Connection, database_url: str
) -> None:
    user = add_user(conn)
    for _ in range(2):
        alert(conn, user)
    send(database_url, refuse(C.RECIPIENT_INVALID))
    db.execute(conn, "UPDATE alerts_refused_addresses SET last_at = last_at - interval '1 minute'")
    alert(conn, user)
    send(database_url)
    alert(conn, user)
    send(database_url, refuse(C.RECIPIENT_INVALID))
    assert refused(conn) == 1


@pytest.mark.parametrize("code", [C.PROVIDER_UNAVAILABLE, C.OUTCOME_UNKNOWN])
def test_what_may_pass_is_no_refusal(
    conn: Connection, database_url: str, code: FailureCode
) -> None:
    alert(conn, add_user(conn))
    send(database_url, refuse(code))
    assert refused(conn) == 0


def test_what_is_kept_of_an_address_does_not_show_it(conn: Connection, database_url: str) -> None:
    alert(conn, add_user(conn))
    send(database_url, refuse(C.RECIPIENT_INVALID))
    kept = query(conn, "SELECT * FROM alerts_refused_addresses")[0]
    assert len(bytes(kept["address_hash"])) == 32
    assert b"example" not in bytes(kept["address_hash"])


def retry(conn: Connection, database_url: str, **asked: Any) -> dict[str, Any]:
    request = RetryRequest(kind="deliveries", **asked)
    return retry_failed(conn, settings_for(database_url), request, now=NOW, token_key_id="cli")


def test_include_refused_sends_again_what_was_refused_and_forgets_the_refusals(
    conn: Connection, database_url: str
) -> None:
    user = add_user(conn)
    rows = [alert(conn, user) for _ in range(3)]
    send(database_url, refuse(C.RECIPIENT_INVALID))
    assert retry(conn, database_url)["excluded"] == {"recipient_invalid": 3}
    preview = retry(conn, database_url, include=("refused",), dry_run=True)
    assert (preview["eligible"], preview["excluded"]) == (3, {})
    assert any("refused for good" in warning for warning in preview["warnings"])
    assert refused(conn) == 3
    answer = retry(conn, database_url, include=("refused",))
    assert answer["requeued"] == 3
    assert refused(conn) == 0
    audited = query(conn, "SELECT parameters FROM alerts_admin_actions")[-1]["parameters"]
    assert audited["include"] == ["refused"]
    send(database_url)
    assert [code_of(conn, row) for row in rows] == ["sent"] * 3


@pytest.mark.parametrize(
    ("code", "excluded"),
    [
        (C.RECIPIENT_INVALID, {}),
        (C.PAYLOAD_INVALID, {}),
        (C.RECIPIENT_BLOCKED, {"recipient_blocked": 1}),
        (C.OUTCOME_UNKNOWN, {"outcome_unknown": 1}),
    ],
)
def test_include_refused_lifts_its_own_exclusion_only(
    conn: Connection, database_url: str, code: FailureCode, excluded: dict[str, int]
) -> None:
    add_delivery(
        conn, add_user(conn), add_alert(conn), status="failed", failed_at=NOW,
        failure_code=code.value, attempts=1,
    )  # fmt: skip
    answer = retry(conn, database_url, include=("refused",))
    assert answer["excluded"] == excluded


def test_nothing_is_warned_of_where_nothing_more_is_asked_for(
    conn: Connection, database_url: str
) -> None:
    assert "warnings" not in retry(conn, database_url)
