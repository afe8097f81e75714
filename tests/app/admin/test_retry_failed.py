"""`POST /retry_failed` over HTTP: its parameters and its audit; the rules are tested beside
`alerts.repair.requeue`."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from psycopg2.extensions import connection as Connection

from alerts import db
from tests.support.web import ADMIN, PREFIX, TOKEN, Admin, app_for, error_of
from tests.support.world import NOW, add_alert, add_delivery, add_user, query, value

PATH = "/retry_failed"


@pytest.fixture
def failed(conn: Connection) -> list[int]:
    """Three deliveries that failed for a transient reason."""
    event = add_alert(conn)
    return [add_delivery(conn, add_user(conn), event, status="failed") for _ in range(3)]


def statuses(conn: Connection) -> list[str]:
    return [row["status"] for row in query(conn, "SELECT status FROM user_alert_deliveries")]


def test_the_answer_has_the_fields_of_the_contract(
    admin: Admin, conn: Connection, failed: list[int]
) -> None:
    status, body = admin.post(PATH, kind="deliveries")
    assert status == 200
    assert body == {
        "kind": "deliveries", "since_hours": 24, "dry_run": False, "eligible": 3, "requeued": 3,
        "excluded": {}, "by_channel": {"email": 3},
        "action_id": value(conn, "SELECT id FROM alerts_admin_actions"),
    }  # fmt: skip
    assert statuses(conn) == ["queued"] * 3


def test_the_audit_names_the_token_by_its_digest_only(
    admin: Admin, conn: Connection, failed: list[int]
) -> None:
    _, body = admin.post(PATH, kind="deliveries", since_hours=48, limit=2, include="unknown")
    (row,) = query(conn, "SELECT * FROM alerts_admin_actions")
    assert row["id"] == body["action_id"]
    assert row["action"] == "retry_failed"
    assert row["token_key_id"] == hashlib.sha256(TOKEN.encode()).hexdigest()[:8]
    assert row["created_at"] == NOW
    assert row["parameters"] == {
        "kind": "deliveries", "since_hours": 48, "limit": 2, "include": ["unknown"],
        "failure_code": None, "channel": None,
    }  # fmt: skip
    assert row["result"] == {
        "eligible": 3, "requeued": 2, "excluded": {}, "by_channel": {"email": 2},
    }  # fmt: skip
    assert TOKEN not in json.dumps({**row, "created_at": None})


def test_the_audit_tells_the_two_tokens_of_a_pair_apart(
    database_url: str, conn: Connection
) -> None:
    client = app_for(database_url, INTERNAL_RUNNER_TOKEN="new-token,old-token").test_client()
    for headers in (
        {"x-internal-token": "new-token"},
        {"Authorization": "Bearer old-token"},
    ):
        assert client.post(f"{PREFIX}{PATH}?kind=digests", headers=headers).status_code == 200
    found = query(conn, "SELECT token_key_id FROM alerts_admin_actions ORDER BY id")
    assert [row["token_key_id"] for row in found] == [
        hashlib.sha256(token).hexdigest()[:8] for token in (b"new-token", b"old-token")
    ]


@pytest.mark.parametrize(("text", "dry"), [
    ("true", True), ("1", True), ("false", False), ("0", False), (None, False),
])  # fmt: skip
def test_booleans(
    admin: Admin, conn: Connection, failed: list[int], text: str | None, dry: bool
) -> None:
    params = {} if text is None else {"dry_run": text}
    status, body = admin.post(PATH, kind="deliveries", **params)
    assert (status, body["dry_run"], body["requeued"]) == (200, dry, 3)
    assert (body["action_id"] is None) is dry
    assert statuses(conn) == (["failed"] if dry else ["queued"]) * 3
    assert value(conn, "SELECT count(*) FROM alerts_admin_actions") == (0 if dry else 1)


BAD: list[tuple[str, str]] = [
    ("kind", "delivery"), ("kind", ""), ("kind", "Deliveries"),
    ("since_hours", "0"), ("since_hours", "169"), ("since_hours", "-5"), ("since_hours", ""),
    ("since_hours", "1.5"), ("since_hours", "all"),
    ("dry_run", ""), ("dry_run", "yes"), ("dry_run", "TRUE"), ("dry_run", "2"), ("dry_run", "on"),
    ("limit", "0"), ("limit", "1001"), ("limit", "-1"), ("limit", "x"),
    ("include", ""), ("include", ","), ("include", "all"), ("include", "unknown;exhausted"),
    ("include", "UNKNOWN"), ("include", "unknown,recipient_invalid"),
    ("failure_code", ""), ("failure_code", "no_code"), ("failure_code", "NETWORK"),
    ("channel", ""), ("channel", "account"), ("channel", "Email"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text"), BAD)
def test_a_value_out_of_range_is_400_with_the_name_and_changes_nothing(
    admin: Admin, conn: Connection, failed: list[int], name: str, text: str
) -> None:
    status, body = admin.post(PATH, **{"kind": "deliveries", name: text})
    assert (status, body["error"]["code"]) == (400, "bad_parameter")
    assert f"Parameter {name} takes" in body["error"]["message"]
    assert statuses(conn) == ["failed"] * 3


def test_the_kind_must_be_said(admin: Admin) -> None:
    status, body = admin.post(PATH)
    assert status == 400
    assert "Parameter kind is missing" in body["error"]["message"]


@pytest.mark.parametrize(
    ("query_string", "name"),
    [
        ("kind=deliveries&kind=digests", "kind"),
        ("kind=deliveries&dry_run=true&dry_run=false", "dry_run"),
        ("kind=deliveries&include=unknown&include=exhausted", "include"),
        ("kind=deliveries&dryrun=true", "dryrun"),
        ("kind=deliveries&dry-run=true", "dry-run"),
    ],
)
def test_a_misspelt_or_repeated_option_never_becomes_a_real_run(
    admin: Admin, conn: Connection, failed: list[int], query_string: str, name: str
) -> None:
    status, body = admin.post(f"{PATH}?{query_string}")
    assert status == 400
    assert f"Parameter {name} " in body["error"]["message"]
    assert statuses(conn) == ["failed"] * 3


@pytest.mark.parametrize("since_hours", [1, 168])
@pytest.mark.parametrize("limit", [1, 1000])
def test_the_ends_of_the_ranges_are_taken(admin: Admin, since_hours: int, limit: int) -> None:
    params = {"kind": "digests", "since_hours": since_hours, "limit": limit, "include": "exhausted"}
    status, body = admin.post(PATH, **params)
    assert (status, body["since_hours"]) == (200, since_hours)


def test_the_limit_is_bounded_by_what_one_run_may_send(
    database_url: str, conn: Connection, failed: list[int]
) -> None:
    client = app_for(database_url, ALERTS_MAX_SEND_PER_RUN="2").test_client()
    over = client.post(f"{PREFIX}{PATH}?kind=deliveries&limit=3", headers=ADMIN)
    assert error_of(over) == (400, "bad_parameter")
    body = client.post(f"{PREFIX}{PATH}?kind=deliveries", headers=ADMIN).get_json()
    assert (body["eligible"], body["requeued"]) == (3, 2)


def test_parameters_in_the_body_do_not_count(
    client: FlaskClient, conn: Connection, failed: list[int]
) -> None:
    data: dict[str, Any] = {"kind": "deliveries"}
    for form in ({"data": data}, {"json": data}):
        response = client.post(f"{PREFIX}{PATH}", headers=ADMIN, **form)
        assert error_of(response) == (400, "body_not_taken")
    assert statuses(conn) == ["failed"] * 3


def test_when_the_audit_cannot_be_written_nothing_is_requeued(
    client: FlaskClient, conn: Connection, failed: list[int]
) -> None:
    db.execute(
        conn,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE EXCEPTION 'the disk of host db7 is full'; END $$;"
        "CREATE TRIGGER refuse BEFORE INSERT ON alerts_admin_actions"
        " FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    response = client.post(f"{PREFIX}{PATH}?kind=deliveries", headers=ADMIN)
    assert error_of(response) == (500, "internal_error")
    assert "db7" not in response.get_data(as_text=True)
    assert statuses(conn) == ["failed"] * 3
    db.execute(conn, "DROP TRIGGER refuse ON alerts_admin_actions")
    assert client.post(f"{PREFIX}{PATH}?kind=deliveries", headers=ADMIN).status_code == 200
