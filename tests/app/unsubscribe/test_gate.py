"""How often a link, or one who guesses links, may come; and the app as it is deployed."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import closing

import psycopg2
import pytest
from flask.testing import FlaskClient
from psycopg2.extensions import connection as Connection

from alerts.leaving import links
from app.limits import Limit
from tests.support.gunicorn import Served
from tests.support.leaving import channel_pref, link_of
from tests.support.web import app_for
from tests.support.world import add_user

WRONG = f"{links.PATH}email-7-{32 * '0'}"


def statuses(client: FlaskClient, path: str, times: int, **headers: str) -> list[int]:
    base = {"REMOTE_ADDR": "10.0.0.3"}
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return [client.get(path, environ_base=base, headers=told).status_code for _ in range(times)]


def test_who_guesses_is_slowed_down_and_keeps_nobody_out(
    client: FlaskClient, conn: Connection
) -> None:
    assert statuses(client, WRONG, 61) == [404] * 60 + [429]
    assert statuses(client, f"{links.PATH}nonsense", 1) == [429]
    assert statuses(client, WRONG, 1, X_Forwarded_For="203.0.114.7") == [404]
    assert statuses(client, link_of(conn, add_user(conn)), 1) == [200]  # of the same address


def test_one_link_is_answered_thirty_times_a_minute(client: FlaskClient, conn: Connection) -> None:
    link = link_of(conn, add_user(conn))
    assert statuses(client, link, 31) == [200] * 30 + [429]
    refused = client.post(link)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert "Too many requests" in refused.text
    assert statuses(client, link_of(conn, add_user(conn)), 1) == [200]


def test_one_address_may_bring_many_links_but_not_any_number(
    database_url: str, conn: Connection
) -> None:
    app = app_for(database_url)
    app.extensions["alerts_unsubscribe"].by_address = Limit(5)
    client = app.test_client()
    found = [statuses(client, link_of(conn, add_user(conn)), 1)[0] for _ in range(6)]
    assert found == [200] * 5 + [429]


# As it is deployed


@pytest.fixture
def user(web_database: str) -> Iterator[tuple[Connection, int, str]]:
    """A user of the served database, and the path of the link."""
    with closing(psycopg2.connect(web_database)) as conn:
        conn.autocommit = True
        user_id = add_user(conn)
        yield conn, user_id, link_of(conn, user_id)


def talk(server: Served, *parts: bytes) -> tuple[int, bytes]:
    """Say the parts one after another, with pauses that a network may have."""
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as client:
        for part in parts:
            client.sendall(part)
            time.sleep(0.05)
        answer = http.client.HTTPResponse(client)
        answer.begin()
        return answer.status, answer.read()


HEAD = (
    "POST {} HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    "Content-Length: 26\r\n"
)
BODY = b"List-Unsubscribe=One-Click"


@pytest.mark.parametrize(
    "parts",
    [
        [HEAD.encode() + b"\r\n" + BODY],
        [HEAD.encode() + b"\r\n", BODY],
        [HEAD.encode() + b"\r\n" + BODY[:9], BODY[9:]],
        [HEAD.encode() + b"Expect: 100-continue\r\n\r\n", BODY],
        [HEAD.encode().replace(b"1.1", b"1.0", 1) + b"\r\n", BODY],
        [HEAD.encode().replace(b"Content-Length: 26", b"Transfer-Encoding: chunked") + b"\r\n"
         b"1a\r\n" + BODY + b"\r\n", b"0\r\n\r\n"],
    ],
    ids=["at once", "body later", "in halves", "expects 100", "HTTP/1.0", "chunked"],
)  # fmt: skip
def test_mail_provider_posts_over_the_wire(
    server: Served, user: tuple[Connection, int, str], parts: list[bytes]
) -> None:
    conn, user_id, link = user
    status, page = talk(server, *(part.replace(b"{}", link.encode()) for part in parts))
    assert (status, b"You are unsubscribed" in page) == (200, True)
    row = channel_pref(conn, user_id)
    assert row is not None
    assert not row["enabled"]


def test_limits_hold_and_the_log_names_routes_only(
    server: Served, user: tuple[Connection, int, str]
) -> None:
    _, _, link = user
    line = f"GET {link} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    for _ in range(30):
        assert talk_once(server, line)[0] == 200
    status, page = talk_once(server, line)
    assert (status, "Too many requests" in page) == (429, True)
    assert talk_once(server, line.replace(link, f"{link}0"))[0] == 404
    assert talk_once(server, line.replace(link, f"{link}/undo"))[0] == 429
    logged = server.wait_for_log('"GET /alerts/unsubscribe/<path:signed>" 404')
    assert '"GET /alerts/unsubscribe/<path:signed>" 429' in logged
    signed = link.removeprefix(links.PATH)
    assert signed not in logged
    assert signed[-32:] not in logged


def talk_once(server: Served, request: str) -> tuple[int, str]:
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as client:
        client.sendall(request.encode())
        answer = http.client.HTTPResponse(client)
        answer.begin()
        return answer.status, answer.read().decode()
