"""The operator's pages for tests: signing in, forms, and a world in which something is wrong."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from psycopg2.extensions import connection as Connection
from werkzeug.test import TestResponse

from alerts import db
from app.ops.session import COOKIE
from tests.support.queue_world import add_digest
from tests.support.web import TOKEN, add_item, add_run
from tests.support.world import NOW, add_alert, add_delivery, add_pref, add_user

READ_TOKEN = "a-token-that-may-only-read-things"
HOSTILE = "<script>alert(1)</script> \u202egpj.exe " + "x" * 190
PAGES = (
    "/ops", "/ops/runs", "/ops/runs/{run}", "/ops/failures", "/ops/messages",
    "/ops/messages?of=digests", "/ops/messages/{delivery}", "/ops/digests/{digest}",
    "/ops/explain", "/ops/explain?event_id={event}&user_id={user}", "/ops/retry",
    "/ops/retry?include=unknown,exhausted", "/ops/pause", "/ops/audit", "/ops/setup",
)  # fmt: skip


def sign_in(client: FlaskClient, token: str = TOKEN, **fields: str) -> TestResponse:
    return client.post("/ops/login", data={"token": token, **fields}, base_url="https://localhost")


def signed_in(app: Flask, token: str = TOKEN) -> FlaskClient:
    """A browser with a session."""
    client = app.test_client()
    assert sign_in(client, token).status_code == 303
    return client


def get(client: FlaskClient, path: str, **headers: str) -> TestResponse:
    return client.get(path, base_url="https://localhost", headers=headers)


def page(client: FlaskClient, path: str) -> str:
    """The text of a page that must be there."""
    answer = get(client, path)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return answer.get_data(as_text=True)


def fields(text: str, form: str = "<form") -> dict[str, str]:
    """The hidden fields of the first form of a page that begins so."""
    part = text[text.index(form) :].partition("</form>")[0]
    found = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', part)
    return {name: unescape(value) for name, value in found}


def csrf(client: FlaskClient) -> str:
    return fields(page(client, "/ops/audit"))["csrf"]


def post(client: FlaskClient, path: str, data: dict[str, Any], **headers: str) -> TestResponse:
    return client.post(path, data=data, base_url="https://localhost", headers=headers)


def cookie(client: FlaskClient) -> str | None:
    found = client.get_cookie(COOKIE)
    return found.value if found else None


def session_of(app: Flask, token: str = TOKEN) -> dict[str, Any]:
    """The cookie that signing in gives, as a browser is told of it."""
    place = {"domain": "127.0.0.1", "path": "/", "secure": True, "sameSite": "Strict"}
    return {"name": COOKIE, "value": cookie(signed_in(app, token)) or "", "httpOnly": True, **place}


def words_of(text: str) -> str:
    """What a page says, without its marks."""
    shown = re.sub(r"(?s)<(script|style|title|svg)\b.*?</\1>", " ", text)
    return " ".join(unescape(re.sub(r"<[^>]*>", "", shown)).split())


def bad_day(conn: Connection) -> dict[str, Any]:
    """Runs, messages of every state, a pause and its audit; ids by name."""
    user = add_user(conn, "pro", telegram="7700155522", phone="+31655501234")
    add_pref(conn, user)
    event = add_alert(conn, headline=HOSTILE)
    delivery = add_delivery(
        conn, user, event, status="failed", failure_code="provider_unavailable", attempts=2,
        failed_at=NOW - timedelta(minutes=3), last_error=HOSTILE,
    )  # fmt: skip
    for code in ("recipient_invalid", "outcome_unknown", "provider_unavailable"):
        other = add_user(conn, "pro")
        add_delivery(
            conn, other, event, status="failed", failure_code=code, attempts=5,
            failed_at=NOW - timedelta(minutes=3),
        )  # fmt: skip
    add_delivery(conn, user, event, "telegram")
    add_delivery(conn, user, event, "sms", status="sent")
    digest = add_digest(conn, user, [add_alert(conn)])
    now = datetime.now(UTC)
    for number in range(5, 1, -1):
        add_run(conn, started_at=now - timedelta(minutes=10 * number), duration_ms=800 * number)
    run = add_run(
        conn, status="failed", started_at=now - timedelta(minutes=5), error_summary=HOSTILE,
        counts={"c": {"channels_held": {"email": "auth_failed"}, "deliveries": {"sent": 3}}},
    )  # fmt: skip
    add_item(conn, run, "a", now - timedelta(minutes=5))
    db.execute(
        conn,
        "INSERT INTO alerts_pauses (channel, reason, token_key_id) VALUES ('sms', %s, 'abcd1234')",
        (HOSTILE[:200],),
    )
    db.execute(
        conn,
        "INSERT INTO alerts_admin_actions (action, token_key_id, parameters, result) VALUES"
        " ('pause', 'abcd1234', jsonb_build_object('channel', 'sms', 'reason', %s::text),"
        " '{\"was_paused\": false}')",
        (HOSTILE[:200],),
    )
    return {"run": run, "delivery": delivery, "digest": digest, "event": event, "user": user}
