"""What the engine and this app run with."""

from __future__ import annotations

from flask import redirect, request
from werkzeug.wrappers import Response as AnyResponse

from alerts import questions
from alerts.health.badge import badge_address
from alerts.lookup.setup import get_setup
from app.current import database, settings
from app.ops.acting import DONE, entry_of, form_values
from app.ops.asking import address, answer, asked
from app.ops.rendering import page

METRICS = "/metrics"


def setup() -> str | AnyResponse:
    """GET: channels, limits, database, versions, addresses. POST asks for a test message."""
    if request.method == "POST":
        return _test_message()
    done = asked((DONE,))["done"]
    ours = settings()
    with database().transaction() as conn:
        health = answer(conn, questions.HEALTH, fail_on=None)
        return page(
            "setup",
            engine=health["engine"],
            told=health["channels"],
            setup=get_setup(conn, ours),
            tests=answer(conn, questions.TEST_MESSAGES)["channels"],
            done=entry_of(conn, done),
            addresses={
                "Metrics": f"{ours.app_base_url or ''}{METRICS}",
                "Badge": badge_address(conn, ours),
            },
        )


def _test_message() -> AnyResponse:
    values = asked(questions.TEST_MESSAGE.parameters, form_values("csrf"))
    with database().transaction(read_only=False) as conn:
        done = answer(conn, questions.TEST_MESSAGE, **values)
    return redirect(address("/ops/setup", done=done["action_id"]), 303)
