"""Every error is JSON with a code and a sentence, and says nothing of the inside."""

from __future__ import annotations

import logging
import re
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import psycopg2
import pytest
from flask import Flask
from flask.testing import FlaskClient
from psycopg2.extensions import connection as Connection

from alerts import db, questions
from alerts.logs import RedactingHandler
from app import admin, public
from app.admin import metrics
from tests.support.web import (
    ADMIN,
    ADMIN_ROUTES,
    BADGE_ROUTES,
    CLOSED_PORT,
    MISSING,
    PREFIX,
    ROUTES,
    WITHOUT_DATABASE,
    app_for,
    end_connections,
    error_of,
)

PAGES = ("ops", "unsubscribe")  # blueprints for people, whose errors are pages
EVERY_ROUTE = [*ROUTES, *BADGE_ROUTES]
OF_DATABASE = [route for route in ROUTES if route not in WITHOUT_DATABASE]
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"]
INSIDE = (
    "Traceback", "psycopg2", "File \"", "SELECT", "relation", "alerts_engine_runs", "127.0.0.1",
    "hush-hush", "OperationalError",
)  # fmt: skip


def address(path: str) -> str:
    """The path without its query."""
    return path.partition("?")[0]


def check_nothing_inside_shows(text: str) -> None:
    assert [word for word in INSIDE if word in text] == []


@pytest.fixture
def silent_server() -> Iterator[int]:
    """A port that takes connections and never answers; gives its number."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=50)) as server:
        yield server.getsockname()[1]


def test_these_tests_know_every_route(client: FlaskClient) -> None:
    rules = {
        re.sub("<.*>", "7", rule.rule.replace("/runs/<id>", "/runs/some-id"))
        for rule in app_of(client).url_map.iter_rules()
        if rule.endpoint.partition(".")[0] not in PAGES
    }
    assert rules == {address(path) for _, path in EVERY_ROUTE}


def app_of(client: FlaskClient) -> Flask:
    app = client.application
    assert isinstance(app, Flask)
    return app


@pytest.mark.parametrize("path", sorted({address(path) for _, path in EVERY_ROUTE}))
def test_a_wrong_method_is_405_in_json_and_names_the_right_ones(
    client: FlaskClient, path: str
) -> None:
    right = {method for method, known in EVERY_ROUTE if address(known) == path}
    right.add("OPTIONS")
    if "GET" in right:
        right.add("HEAD")
    for method in set(METHODS) - right:
        response = client.open(path, method=method, headers=ADMIN)
        if method == "HEAD":  # never has a body
            assert (response.status_code, response.get_data()) == (405, b"")
        else:
            assert error_of(response) == (405, "method_not_allowed"), method
        assert set(response.headers["Allow"].split(", ")) == right


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "path",
    [
        "/", "/nothing", PREFIX, f"{PREFIX}/", f"{PREFIX}/runs/", f"{PREFIX}/runs/a/b",
        f"{PREFIX}/runs/..%2F..%2Fetc", f"{PREFIX}/%00", "/healthz/", "/favicon.ico",
        "/static/x.css", "/<script>", "/%ff%fe", "//healthz", f"{PREFIX}//runs",
        f"{PREFIX}/runs//x",
    ],
)  # fmt: skip
def test_an_unknown_address_is_404_in_json(client: FlaskClient, method: str, path: str) -> None:
    response = client.open(path, method=method, headers=ADMIN)
    if method == "HEAD":
        assert (response.status_code, response.get_data()) == (404, b"")
    else:
        assert error_of(response) == (404, "not_found")
    assert "script" not in response.get_data(as_text=True)


@pytest.mark.parametrize("path", sorted({path for _, path in EVERY_ROUTE} | {"/nothing"}))
def test_no_answer_may_be_kept(client: FlaskClient, path: str) -> None:
    for method in [*METHODS, "OPTIONS"]:
        for headers in (ADMIN, {}):
            response = client.open(path, method=method, headers=headers)
            assert response.headers.getlist("Cache-Control") == ["no-store"]


# The database


@pytest.mark.parametrize(("method", "path"), [*OF_DATABASE, *BADGE_ROUTES])
def test_a_database_that_is_down_is_503(method: str, path: str) -> None:
    response = app_for(CLOSED_PORT).test_client().open(path, method=method, headers=ADMIN)
    assert error_of(response) == (503, "database_unavailable")
    check_nothing_inside_shows(response.get_data(as_text=True))


@pytest.mark.parametrize(
    ("method", "path"), [r for r in [*OF_DATABASE, *BADGE_ROUTES] if r[1] != "/healthz"]
)
def test_missing_migrations_are_503_and_say_what_to_run(
    empty_database_url: str, method: str, path: str
) -> None:
    response = app_for(empty_database_url).test_client().open(path, method=method, headers=ADMIN)
    assert error_of(response) == (503, "migrations_pending")
    assert "scripts/migrate.py" in response.get_json()["error"]["message"]
    check_nothing_inside_shows(response.get_data(as_text=True))


@pytest.mark.parametrize(("method", "path"), OF_DATABASE)
def test_after_the_server_ended_the_kept_connection_the_next_request_works(
    client: FlaskClient, conn: Connection, method: str, path: str
) -> None:
    expected = 404 if path.endswith(MISSING) else 200
    for _ in range(2):
        assert client.open(path, method=method, headers=ADMIN).status_code == expected
        assert end_connections(conn) >= 1


def test_a_database_that_comes_back_is_used_again(
    client: FlaskClient, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = db.connect
    assert client.get(f"{PREFIX}/runs", headers=ADMIN).status_code == 200
    end_connections(conn)
    monkeypatch.setattr(db, "connect", lambda _url, **options: connect(CLOSED_PORT, **options))
    for _ in range(2):
        assert client.get(f"{PREFIX}/runs", headers=ADMIN).status_code == 503
    monkeypatch.setattr(db, "connect", connect)
    assert client.get(f"{PREFIX}/runs", headers=ADMIN).status_code == 200


def test_a_connection_lost_in_the_middle_of_a_request_is_503_and_the_next_one_works(
    client: FlaskClient, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = questions.get_health

    def lose_connection(own: Connection, *args: object) -> object:
        end_connections(conn)
        return ask(own, *args)

    monkeypatch.setattr(questions, "get_health", lose_connection)
    lost = client.get(f"{PREFIX}/health", headers=ADMIN)
    assert error_of(lost) == (503, "database_unavailable")
    monkeypatch.setattr(questions, "get_health", ask)
    assert client.get(f"{PREFIX}/health", headers=ADMIN).status_code == 200


def test_a_table_in_use_is_503_and_no_hang(client: FlaskClient, conn: Connection) -> None:
    db.execute(conn, "BEGIN; LOCK TABLE alerts_engine_runs IN ACCESS EXCLUSIVE MODE")
    started = time.monotonic()
    response = client.get(f"{PREFIX}/runs", headers=ADMIN)
    assert error_of(response) == (503, "database_unavailable")
    assert time.monotonic() - started < 8
    db.execute(conn, "ROLLBACK")
    assert client.get(f"{PREFIX}/runs", headers=ADMIN).status_code == 200


def test_healthz_is_503_within_about_two_seconds_when_the_database_hangs(
    silent_server: int,
) -> None:
    client = app_for(f"postgresql://u:hush-hush@127.0.0.1:{silent_server}/x").test_client()
    for _ in range(2):  # the second one while the first ping still hangs
        started = time.monotonic()
        response = client.get("/healthz")
        assert error_of(response) == (503, "database_unavailable")
        assert time.monotonic() - started < 3


def test_healthz_recovers_after_the_database_did(
    database_url: str, silent_server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = db.connect
    silent = f"postgresql://u@127.0.0.1:{silent_server}/x"
    client = app_for(database_url).test_client()
    monkeypatch.setattr(db, "connect", lambda _url, **options: connect(silent, **options))
    assert client.get("/healthz").status_code == 503
    monkeypatch.setattr(db, "connect", connect)
    ends = time.monotonic() + 15
    while client.get("/healthz").status_code != 200:
        assert time.monotonic() < ends


# Failures of our own


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RuntimeError("secret user@example.com"), 500, "internal_error"),
        (KeyError("secret"), 500, "internal_error"),
        (psycopg2.DataError("secret value"), 500, "internal_error"),
        (psycopg2.InterfaceError("secret cursor"), 503, "database_unavailable"),
        (psycopg2.OperationalError("secret host"), 503, "database_unavailable"),
        (psycopg2.errors.UndefinedColumn("secret column"), 503, "migrations_pending"),
        (psycopg2.errors.QueryCanceled("secret statement"), 503, "database_unavailable"),
    ],
)
def test_a_failure_tells_no_text_of_its_own(
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
    code: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    failing = [(how, path, replace(question, ask=fail)) for how, path, question in admin.ROUTES]
    monkeypatch.setattr(admin, "ROUTES", failing)
    monkeypatch.setattr(public, "latest_events", fail)
    monkeypatch.setattr(metrics, "get_health", fail)
    client = app_for(database_url).test_client()
    for method, path in [*ADMIN_ROUTES, ("GET", "/alerts/events/latest")]:
        response = client.open(path, method=method, headers=ADMIN)
        assert error_of(response) == (status, code)
        assert "secret" not in response.get_data(as_text=True)
        check_nothing_inside_shows(response.get_data(as_text=True))


def test_the_log_of_a_failure_has_its_kind_and_no_address(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("cannot write to user@example.com")

    monkeypatch.setattr(questions, "get_health", fail)
    (handler,) = [h for h in logging.getLogger().handlers if isinstance(h, RedactingHandler)]
    lines: list[str] = []
    monkeypatch.setattr(handler, "emit", lambda record: lines.append(handler.format(record)))
    client.get(f"{PREFIX}/health", headers=ADMIN)
    logged = "\n".join(lines)
    assert "RuntimeError" in logged
    assert "user@example.com" not in logged
