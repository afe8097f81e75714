"""The app as it is deployed: gunicorn, real sockets, real signals."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from tests.support import CHECKOUT
from tests.support.gunicorn import DEADLINE, TOKEN, Served, command, environment, free_port, serving
from tests.support.web import CLOSED_PORT, PREFIX, end_connections


def test_it_starts_and_answers(server: Served) -> None:
    assert server.get("/healthz") == (200, {"status": "ok"})
    status, body, headers = server.request("GET", f"{PREFIX}/runs?limit=1")
    assert (status, body["count"]) == (200, 0)
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Type"] == "application/json"
    assert server.get("/alerts/events/latest") == (200, {"count": 0, "events": []})
    assert server.request("POST", f"{PREFIX}/retry_failed?kind=digests")[0] == 200


def test_a_token_outside_ascii_works_over_the_wire(server: Served) -> None:
    # The fixture's token is one; a wrong one of the same kind is refused.
    assert server.request("GET", f"{PREFIX}/runs", token="schlüssel-für-alle")[0] == 401
    assert server.request("GET", f"{PREFIX}/runs", token=None)[0] == 401
    bearer = f"Bearer {TOKEN}".encode().decode("latin-1")
    assert server.request("GET", f"{PREFIX}/runs", token=None, Authorization=bearer)[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/nothing", 404),
        ("PUT", f"{PREFIX}/runs", 405),
        ("GET", f"{PREFIX}/retry_failed?kind=digests", 405),
        ("GET", f"{PREFIX}/runs?limit=%00", 400),
        ("GET", f"{PREFIX}/runs/%00", 404),
        ("GET", f"{PREFIX}/runs/a%2Fb", 404),
        ("GET", f"{PREFIX}/runs/%FF%FE", 404),
        ("GET", f"{PREFIX}/runs/{'x' * 3000}", 404),
    ],
)
def test_errors_are_json_over_the_wire(
    server: Served, method: str, path: str, expected: int
) -> None:
    status, body, headers = server.request(method, path)
    assert (status, set(body["error"])) == (expected, {"code", "message"})
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        (f"GET /{'x' * 5000} HTTP/1.1\r\nHost: a", 414, "uri_too_long"),
        (f"GET / HTTP/1.1\r\nHost: a\r\nx: {'x' * 9000}", 431, "request_header_fields_too_large"),
        ("private-word", 400, "bad_request"),
        ("GET / HTTP/private", 400, "bad_request"),
        ("GET / HTTP/1.1\r\nHost: a\r\nprivate header: x", 400, "bad_request"),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: private", 501, "not_implemented"),
    ],
)  # fmt: skip
def test_what_is_no_request_is_answered_in_json_too(
    server: Served, head: str, status: int, code: str
) -> None:
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=15)) as client:
        client.sendall(f"{head}\r\n\r\n".encode())
        with closing(http.client.HTTPResponse(client)) as answer:
            answer.begin()
            body = answer.read().decode()
    assert (answer.status, json.loads(body)["error"]["code"]) == (status, code)
    assert answer.headers["Content-Type"] == "application/json"
    assert "private" not in body


def test_the_access_log_holds_no_value_of_a_request(server: Served) -> None:
    path = f"{PREFIX}/runs?status=failed&before=private-value"
    server.request("GET", path, Cookie="private=1", Referer="http://private.example/")
    server.request("GET", f"{PREFIX}/health?private=1", token="private-token")
    logged = server.wait_for_log(f'"GET {PREFIX}/health" 401')
    assert f'"GET {PREFIX}/runs" 400' in logged
    assert "private" not in logged
    assert TOKEN not in logged
    assert "status=" not in logged


def test_all_threads_outlive_the_end_of_their_connections(
    server: Served, web_database: str
) -> None:
    def ask(_: int) -> int:
        return server.get(f"{PREFIX}/health")[0]

    with ThreadPoolExecutor(8) as pool, closing(psycopg2.connect(web_database)) as conn:
        conn.autocommit = True
        for _ in range(3):
            assert set(pool.map(ask, range(24))) == {200}
            assert end_connections(conn) >= 1


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({}, "DATABASE_URL"),
        ({"DATABASE_URL": ""}, "DATABASE_URL"),
        ({"DATABASE_URL": CLOSED_PORT, "ALERTS_TIMEZONE": "Mars/Base"}, "ALERTS_TIMEZONE"),
        ({"DATABASE_URL": CLOSED_PORT, "INTERNAL_RUNNER_TOKEN": "a,b,c"}, "INTERNAL_RUNNER_TOKEN"),
    ],
)
def test_it_refuses_to_start_with_a_configuration_that_cannot_work(
    variables: dict[str, str], named: str
) -> None:
    ended = subprocess.run(
        command(free_port()),
        cwd=CHECKOUT,
        env=environment(**variables),
        capture_output=True,
        timeout=DEADLINE,
        check=False,
    )
    assert ended.returncode not in (0, None)
    told = ended.stdout.decode() + ended.stderr.decode()
    assert f"error: {named} " in told
    assert "Traceback" not in told
    assert "hush-hush" not in told


def test_it_starts_without_a_database_and_says_so_in_its_answers(tmp_path: Path) -> None:
    with serving(CLOSED_PORT, tmp_path / "log") as served:
        assert served.request("GET", "/healthz")[0] == 503
        status, body = served.get(f"{PREFIX}/health")
        assert (status, body["error"]["code"]) == (503, "database_unavailable")
        assert "hush-hush" not in served.log.read_text()


def test_sigterm_ends_it(web_database: str, tmp_path: Path) -> None:
    with serving(web_database, tmp_path / "log") as served:
        assert served.get("/healthz")[0] == 200
        served.process.terminate()
        assert served.process.wait(timeout=DEADLINE) == 0
        with pytest.raises(ConnectionRefusedError):
            served.get("/healthz")
