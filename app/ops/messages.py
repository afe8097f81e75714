"""Single messages: lists, one's life, and why a user did or did not get an alert."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import request

from alerts import questions
from alerts.failures import FailureCode
from alerts.health.report import STATUSES
from alerts.readers import Parameter, choice
from alerts.words import capital
from app.current import database
from app.ops.asking import answer, asked, row_id
from app.ops.rendering import page

# Which list is shown.
_OF = Parameter("of", choice(("deliveries", "digests")), default="deliveries")
_NO_FILTERS = ("of", "limit", "before")


def messages() -> str:
    """Deliveries or digests, newest first."""
    of = "digests" if request.args.get("of") == "digests" else "deliveries"
    question = questions.DIGESTS if of == "digests" else questions.DELIVERIES
    values = asked((_OF, *question.parameters))
    with database().transaction() as conn:
        found = answer(conn, question, **{n: v for n, v in values.items() if n != "of"})
    filters = {name: v for name, v in values.items() if v and name not in _NO_FILTERS}
    return page(
        "messages",
        of=of,
        rows=found[of],
        next_before=found["next_before"],
        filters=filters,
        statuses=[(name, capital(name)) for name in STATUSES],
        codes=[code.value for code in FailureCode],
    )


def message(id: str) -> str:
    """One delivery's life."""
    asked(())
    with database().transaction() as conn:
        found = answer(conn, questions.DELIVERY, id=row_id(questions.DELIVERY, id))
    return page("message", **found, life=_life(found["delivery"], found["digest"]))


def digest(id: str) -> str:
    """One digest's life, and what it carries."""
    asked(())
    with database().transaction() as conn:
        found = answer(conn, questions.DIGEST, id=row_id(questions.DIGEST, id))
    return page("digest", **found, life=_life(found["digest"]))


def explain() -> str:
    """Why a user did or did not get an alert."""
    given = {name: request.args.get(name, "").strip() for name in ("event_id", "user_id")}
    if not any(given.values()):
        return page("explain", given=given, found=None)
    values = asked(questions.EXPLAIN.parameters)
    with database().transaction() as conn:
        found = answer(conn, questions.EXPLAIN, **values)
    return page("explain", given=given, found=found)


def _life(row: Mapping[str, Any], digest: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """What has happened to a row, oldest first, and what comes next: ``what``, ``at``, ``mark``,
    and ``wall`` for times of the wall's clock."""
    steps = [_step("created", row["created_at"], "idle")]
    if "window_end" in row:
        steps.append(_step("window", row["window_end"], "idle"))
    if row["status"] == "sent":
        again = row["attempts"] > 1
        steps.append(_step("sent_later" if again else "sent", row["sent_at"], "ok"))
    elif row["status"] == "failed":
        steps.append(_step("failed", row["failed_at"], "bad"))
    elif row["status"] == "skipped":
        steps.append(_step("batched" if digest else "skipped", None, "idle"))
    elif row["status"] == "sending":
        steps.append(_step("sending", row["claimed_until"], "busy", wall=True))
    else:
        if row["attempts"]:
            steps.append(_step("tried", None, "warn"))
        waits = "waits_digest" if row.get("kind") == "digest" else "waits"
        again = "retry" if row["next_retry_at"] else waits
        steps.append(_step(again, row["next_retry_at"], "busy"))
    if digest:
        steps.append(_step(f"digest_{digest['status']}", digest["sent_at"], "idle"))
    return steps


def _step(what: str, at: str | None, mark: str, *, wall: bool = False) -> dict[str, Any]:
    return {"what": what, "at": at, "mark": mark, "wall": wall}
