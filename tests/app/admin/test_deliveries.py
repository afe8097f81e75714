"""Browsing and explaining over HTTP; what they find is tested beside `alerts`."""

from __future__ import annotations

import json

import pytest
from flask.testing import FlaskClient
from psycopg2.extensions import connection as Connection

from alerts.readers import LARGEST_ID
from tests.support.web import ADMIN, PREFIX, Admin
from tests.support.world import add_alert, add_delivery, add_user


def test_the_way_from_a_list_to_the_explanation(admin: Admin, conn: Connection) -> None:
    user = add_user(conn, email="somebody@example.com")
    event = add_alert(conn)
    delivery = add_delivery(conn, user, event, status="failed", failure_code="recipient_invalid")
    page = admin.ok("/deliveries", status="failed", failure_code="recipient_invalid", user_id=user)
    assert [row["id"] for row in page["deliveries"]] == [delivery]
    one = admin.ok(f"/deliveries/{delivery}")
    told = admin.ok("/explain", event_id=event, user_id=user)
    email = next(c for c in told["channels"] if c["channel"] == "email")
    assert email["delivery"]["id"] == one["delivery"]["id"]
    assert email["delivery"]["failure_code"] == "recipient_invalid"
    assert "recipient_invalid" not in email["summary"]
    assert admin.ok("/digests", period="daily") == {"count": 0, "next_before": None, "digests": []}
    shown = json.dumps([page, one, told])
    assert "somebody" not in shown
    assert "What happened" not in shown


def test_an_explanation_is_plain_text_for_whoever_asks_for_it(
    client: FlaskClient, conn: Connection
) -> None:
    user, event = add_user(conn), add_alert(conn)
    add_delivery(conn, user, event, status="failed", failure_code="recipient_invalid")
    address = f"{PREFIX}/explain?event_id={event}&user_id={user}"
    answer = client.get(address, headers={**ADMIN, "Accept": "text/plain"})
    assert answer.mimetype == "text/plain"
    assert answer.text.splitlines() == [
        "email: Not sent: at 18:55 the user's email address was refused as not valid or not "
        "existing. Sending again will not help.",
        "-> Ask the user for another one.",
        "telegram: Will not be sent: the user has no Telegram chat.",
        "sms: Will not be sent: the user has no phone number.",
        "account: Will be shown after the next run.",
    ]


@pytest.mark.parametrize(
    ("path", "params", "name"),
    [
        ("/deliveries", {"status": "lost"}, "status"),
        ("/deliveries", {"user_id": "٣"}, "user_id"),
        ("/deliveries", {"user_id": "-1"}, "user_id"),
        ("/deliveries", {"event_id": "1" * 30}, "event_id"),
        ("/deliveries", {"since": "yesterday"}, "since"),
        ("/deliveries", {"before": "1.2.3"}, "before"),
        ("/deliveries", {"period": "daily"}, "period"),
        ("/digests", {"kind": "instant"}, "kind"),
        ("/digests", {"failure_code": "\0"}, "failure_code"),
        ("/explain", {"event_id": "1"}, "user_id"),
        ("/explain", {"user_id": "1"}, "event_id"),
        ("/explain", {"user_id": "x", "event_id": "1"}, "user_id"),
    ],
)
def test_a_bad_parameter_is_named(
    admin: Admin, path: str, params: dict[str, str], name: str
) -> None:
    status, body = admin.get(path, **params)
    assert (status, body["error"]["code"]) == (400, "bad_parameter")
    assert name in body["error"]["message"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/deliveries/1", "delivery_not_found"),
        ("/deliveries/0", "delivery_not_found"),
        ("/deliveries/٣", "delivery_not_found"),
        ("/deliveries/one", "delivery_not_found"),
        (f"/digests/{LARGEST_ID}", "digest_not_found"),
        (f"/digests/{LARGEST_ID + 1}", "digest_not_found"),
        ("/digests/99999999999999999999999", "digest_not_found"),
        ("/explain?event_id=1&user_id=1", "event_not_found"),
        (f"/explain?event_id={LARGEST_ID}&user_id={LARGEST_ID}", "event_not_found"),
    ],
)
def test_what_is_not_there_is_404(admin: Admin, path: str, code: str) -> None:
    status, body = admin.get(path)
    assert (status, body["error"]["code"]) == (404, code)
