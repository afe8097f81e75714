"""Parameters stand in the query: a body is refused, or what it says would be left out silently."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from psycopg2.extensions import connection as Connection

from tests.support.web import ADMIN, ADMIN_ROUTES, CLOSED_PORT, PREFIX, app_for, error_of
from tests.support.world import add_alert, add_delivery, add_user, query, value

POSTS = [(method, path) for method, path in ADMIN_ROUTES if method == "POST"]
BODIES: dict[str, dict[str, Any]] = {
    "a form": {"data": {"dry_run": "true"}},
    "a form that names a channel": {"data": {"channel": "sms"}},
    "JSON": {"json": {"dry_run": True}},
    "an empty object": {"json": {}},
    "a part of a form": {"data": {"a": "b"}, "content_type": "multipart/form-data"},
    "text": {"data": b"dry_run=true", "content_type": "text/plain"},
    "one space": {"data": b" "},
    "chunks": {"headers": {**ADMIN, "Transfer-Encoding": "chunked"}},
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(("method", "path"), ADMIN_ROUTES)
def test_a_body_is_refused_before_anything_is_done(method: str, path: str, body: str) -> None:
    client = app_for(CLOSED_PORT).test_client()  # nobody listens: the database is not asked
    response = client.open(path, method=method, **{"headers": ADMIN, **BODIES[body]})
    assert error_of(response) == (400, "body_not_taken")


def test_what_a_body_says_is_not_done_for_real(client: FlaskClient, conn: Connection) -> None:
    add_delivery(conn, add_user(conn), add_alert(conn), status="failed", attempts=1)
    retry, pause = f"{PREFIX}/retry_failed?kind=deliveries", f"{PREFIX}/pause?reason=test"
    assert client.post(retry, headers=ADMIN, data={"dry_run": "true"}).status_code == 400
    assert client.post(pause, headers=ADMIN, data={"channel": "sms"}).status_code == 400
    assert value(conn, "SELECT status FROM user_alert_deliveries") == "failed"
    for table in ("alerts_pauses", "alerts_admin_actions"):
        assert query(conn, f"SELECT * FROM {table}") == []


@pytest.mark.parametrize(("method", "path"), POSTS)
def test_no_body_may_be_said_to_be_none(client: FlaskClient, method: str, path: str) -> None:
    for length in ("0", "00"):
        headers = {**ADMIN, "Content-Length": length}
        assert client.open(path, method=method, headers=headers).status_code == 200


def test_without_a_token_a_body_is_of_no_interest() -> None:
    client = app_for(CLOSED_PORT).test_client()
    assert error_of(client.post(f"{PREFIX}/resume", data={"a": "b"})) == (401, "unauthorized")


@pytest.mark.parametrize("number", ["٣", "３", "3٣", "౩", "³", "Ⅲ", "+3", "3,0", "0x3", "3_0"])
def test_only_ascii_digits_are_a_number(client: FlaskClient, conn: Connection, number: str) -> None:
    for _ in range(3):
        add_delivery(conn, add_user(conn), add_alert(conn))
    assert client.get(f"{PREFIX}/deliveries/3", headers=ADMIN).status_code == 200
    for path in (f"/deliveries/{number}", f"/digests/{number}"):
        assert client.get(PREFIX + path, headers=ADMIN).status_code == 404
    for path, name in (
        ("/runs", "limit"), ("/deliveries", "user_id"), ("/deliveries", "event_id"),
        ("/actions", "before"), ("/deliveries", "before"), ("/deliveries", "since"),
    ):  # fmt: skip
        response = client.get(PREFIX + path, headers=ADMIN, query_string={name: number})
        assert error_of(response) == (400, "bad_parameter"), path


@pytest.mark.parametrize("text", [
    "0001-01-01T00:00:00+01:00", "0001-01-01T00:00:00", "9999-12-31T23:59:59-01:00",
    "9999-12-31T23:59:59.999999Z", "1969-12-31T23:59:59Z", "3000-01-01", "-0001-01-01",
    "0000-01-01", "2022-03-08T18:00:00+99:00", "2022-02-30", "٢٠٢٢-٠٣-٠٨", "2022-03-08\x00",
    "\ud800", "now", "1e9",
])  # fmt: skip
def test_a_time_at_the_ends_of_time_is_a_bad_parameter(client: FlaskClient, text: str) -> None:
    for path in ("/deliveries", "/digests"):
        response = client.get(
            PREFIX + path, headers=ADMIN,
            query_string={"since": text.encode("utf-8", "surrogatepass")},
        )  # fmt: skip
        assert error_of(response) == (400, "bad_parameter")


@pytest.mark.parametrize("text", ["1970-01-01T00:00:00+14:00", "2999-12-31T23:59:59-12:00"])
def test_the_first_and_the_last_time_that_is_taken(client: FlaskClient, text: str) -> None:
    response = client.get(f"{PREFIX}/deliveries", headers=ADMIN, query_string={"since": text})
    assert response.get_json()["count"] == 0


@pytest.mark.parametrize(
    "run_id",
    ["ключ", "運行", "🔑", "a\u2028b", "a\x00b", "\u202egnp", "%F0%28", "é" * 500, "\ufffe"],
)
def test_a_run_id_may_be_any_text_and_is_of_no_run(client: FlaskClient, run_id: str) -> None:
    response = client.get(f"{PREFIX}/runs/{run_id}", headers=ADMIN)
    assert error_of(response) == (404, "run_not_found")


@pytest.mark.parametrize(
    "reason", ["Störung bei Ivánka", "поломка", "故障", "🔥", "ünïcödé \u0301"]
)
def test_a_reason_may_be_written_in_any_script(client: FlaskClient, reason: str) -> None:
    response = client.post(f"{PREFIX}/pause", headers=ADMIN, query_string={"reason": reason})
    assert response.get_json()["paused"][0]["reason"] == reason.strip()


@pytest.mark.parametrize(
    "reason", ["a\u2028b", "a\u202eb", "a\x00b", "a\nb", "\u200b", "\u00a0", "a\ufeffb", "\ue000"]
)
def test_a_reason_holds_nothing_that_nobody_sees(client: FlaskClient, reason: str) -> None:
    response = client.post(f"{PREFIX}/pause", headers=ADMIN, query_string={"reason": reason})
    assert error_of(response) == (400, "bad_parameter")
