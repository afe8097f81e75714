"""Shared by the web app's tests: the app on a database, clients, and recorded runs."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from psycopg2.extensions import connection as Connection
from werkzeug.serving import WSGIRequestHandler, make_server

from alerts import db
from app import create_app
from tests.support.openapi import CheckedClient
from tests.support.world import NOW, settings_for

TOKEN = "a-token-for-tests-that-is-long-enough"
ADMIN = {"x-internal-token": TOKEN}
PREFIX = "/internal/alerts/engine"
# No test machine runs a discard service on this port.
CLOSED_PORT = "postgresql://somebody:hush-hush@127.0.0.1:9/nothing"

ADMIN_ROUTES = [
    ("GET", f"{PREFIX}/runs"),
    ("GET", f"{PREFIX}/runs/some-id"),
    ("GET", f"{PREFIX}/health"),
    ("GET", f"{PREFIX}/actions"),
    ("GET", f"{PREFIX}/deliveries"),
    ("GET", f"{PREFIX}/deliveries/7"),
    ("GET", f"{PREFIX}/digests"),
    ("GET", f"{PREFIX}/digests/7"),
    ("GET", f"{PREFIX}/explain?event_id=1&user_id=1"),
    ("POST", f"{PREFIX}/pause?reason=test"),
    ("POST", f"{PREFIX}/resume"),
    ("POST", f"{PREFIX}/retry_failed?kind=deliveries"),
    ("POST", f"{PREFIX}/retry_failed?kind=digests"),
    ("GET", f"{PREFIX}/test_message"),
    ("POST", f"{PREFIX}/test_message?channel=email"),
    ("GET", "/metrics"),
]
# What an empty database answers.
MISSING = ("/some-id", "/7", "&user_id=1")
PUBLIC_ROUTES = [("GET", "/healthz"), ("GET", "/alerts/events/latest"), ("GET", "/openapi.json")]
# What answers whether or not there is a database.
WITHOUT_DATABASE = [("GET", "/openapi.json")]
ROUTES = [*ADMIN_ROUTES, *PUBLIC_ROUTES]
BADGE_ROUTES = [("GET", "/badge/7.svg"), ("GET", "/badge/7.json")]  # which nobody's key is


def app_for(database_url: str, **environ: str) -> Flask:
    """The app with one token and business time frozen at :data:`tests.support.world.NOW`.

    Its clients hold every answer against openapi.json.
    """
    defaults = {"INTERNAL_RUNNER_TOKEN": TOKEN, "ALERTS_CLOCK": NOW.isoformat()}
    app = create_app(settings_for(database_url, **{**defaults, **environ}))
    app.test_client_class = CheckedClient
    return app


class Admin:
    """Calls admin routes with the token and returns status and decoded body."""

    def __init__(self, client: FlaskClient) -> None:
        self._client = client

    def get(self, path: str, **params: Any) -> tuple[int, Any]:
        response = self._client.get(PREFIX + path, headers=ADMIN, query_string=params or None)
        return response.status_code, response.get_json()

    def post(self, path: str, **params: Any) -> tuple[int, Any]:
        response = self._client.post(PREFIX + path, headers=ADMIN, query_string=params or None)
        return response.status_code, response.get_json()

    def ok(self, path: str, **params: Any) -> Any:
        """Return the body of a GET that must succeed."""
        status, body = self.get(path, **params)
        assert status == 200, body
        return body


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve a WSGI application on the loopback address, yielding its URL: for browsers, which
    need a server, where nothing is tested that gunicorn does."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=QuietHandler)
    with server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class QuietHandler(WSGIRequestHandler):
    """Logs no requests."""

    def log_request(self, *args: Any, **kwargs: Any) -> None:
        pass


def error_of(response: Any) -> tuple[int, str]:
    """Check an error answer's shape and return its status and code."""
    body = response.get_json()
    assert set(body) == {"error"}, body
    assert set(body["error"]) == {"code", "message"}
    assert all(isinstance(text, str) and text for text in body["error"].values())
    assert response.mimetype == "application/json"
    return response.status_code, body["error"]["code"]


def add_run(
    conn: Connection,
    *,
    status: str = "success",
    started_at: datetime | None = None,
    phase: str = "all",
    **columns: Any,
) -> str:
    """Insert a run that started at ``started_at`` (wall time; default now); returns the run id."""
    started = started_at or datetime.now(UTC)
    finished = None if status == "running" else started + timedelta(seconds=1)
    row = {
        "run_id": str(uuid.uuid4()),
        "triggered_by": "local",
        "phase": phase,
        "started_at": started,
        "finished_at": finished,
        "duration_ms": None if finished is None else 1000,
        "status": status,
        "heartbeat_at": started,
        **columns,
    }
    row["counts"] = json.dumps(row.get("counts", {}))
    names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
    db.execute(
        conn, f"INSERT INTO alerts_engine_runs ({names}) VALUES ({marks})", tuple(row.values())
    )
    return str(row["run_id"])


def add_item(conn: Connection, run_id: str, phase: str, started_at: datetime) -> None:
    """Insert one successful phase of a run."""
    db.execute(
        conn,
        "INSERT INTO alerts_engine_run_items (run_id, phase, started_at, finished_at,"
        " duration_ms, status, counts) VALUES (%s, %s, %s, %s, 12, 'success', %s)",
        (run_id, phase, started_at, started_at, json.dumps({"events_created": 1})),
    )


def end_connections(conn: Connection) -> int:
    """Terminate every other connection to the database, as a restarting server does."""
    rows = db.fetch_all(
        conn,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    return len(rows)
