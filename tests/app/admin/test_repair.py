"""Pausing, resuming and the audit over HTTP; `GET /health` for uptime monitors."""

from __future__ import annotations

import pytest
from psycopg2.extensions import connection as Connection

from tests.support.web import Admin, add_run


def test_a_pause_shows_in_health_and_in_the_audit(admin: Admin) -> None:
    status, body = admin.post("/pause", reason="call me at user@example.com", channel="email")
    assert (status, body["was_paused"]) == (200, False)
    (paused,) = admin.ok("/health")["paused"]
    assert paused["channel"] == "email"
    assert "user@example.com" not in paused["reason"]
    assert admin.post("/resume", channel="email")[1]["paused"] == []
    actions = admin.ok("/actions")
    assert [action["action"] for action in actions["actions"]] == ["resume", "pause"]
    assert actions["actions"][1]["id"] == body["action_id"]
    page = admin.ok("/actions", limit=1)
    assert page["next_before"] == page["actions"][0]["id"]
    older = admin.ok("/actions", limit=1, before=page["next_before"])
    assert (older["actions"][0]["action"], older["next_before"]) == ("pause", None)
    assert admin.ok("/actions", action="retry_failed")["count"] == 0


@pytest.mark.parametrize(
    ("path", "params", "name"),
    [
        ("/pause", {}, "reason"),
        ("/pause", {"reason": " "}, "reason"),
        ("/pause", {"reason": "x" * 201}, "reason"),
        ("/pause", {"reason": "fine", "channel": "account"}, "channel"),
        ("/resume", {"channel": "all"}, "channel"),
        ("/resume", {"who": "me"}, "who"),
    ],
)
def test_a_bad_parameter_is_named(
    admin: Admin, path: str, params: dict[str, str], name: str
) -> None:
    status, body = admin.post(path, **params)
    assert (status, body["error"]["code"]) == (400, "bad_parameter")
    assert name in body["error"]["message"]


def test_health_answers_503_as_bad_as_asked_for(admin: Admin, conn: Connection) -> None:
    assert [admin.get("/health", **p)[0] for p in _FAIL_ON] == [200, 200, 503]  # never run
    add_run(conn)
    assert [admin.get("/health", **p)[0] for p in _FAIL_ON] == [200, 200, 200]
    add_run(conn, status="failed")
    assert [admin.get("/health", **p)[0] for p in _FAIL_ON] == [200, 503, 503]
    assert admin.get("/health", fail_on="failing")[1]["status"] == "failing"
    assert admin.get("/health", fail_on="ok")[0] == 400


_FAIL_ON: list[dict[str, str]] = [{}, {"fail_on": "failing"}, {"fail_on": "degraded"}]
