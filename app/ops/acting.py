"""What the operator does: send again, pause, resume; and who has done what."""

from __future__ import annotations

from typing import Any

from flask import redirect, request
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response as AnyResponse

from alerts import db, questions
from alerts.channels.names import SEND_CHANNELS
from alerts.failures import FailureCode
from alerts.readers import ID, Parameter, choice, integer
from alerts.repair import pauses, requeue
from app.current import database
from app.ops.asking import address, answer, asked
from app.ops.rendering import page

# The audit entry of what was just done.
DONE = Parameter("done", ID)
_SHOWN = Parameter("shown", integer(0, 10**12), required=True)
_OUT_OF = Parameter("out_of", integer(0, 10**12), required=True)
_ACTION = Parameter("action", choice(("pause", "resume")), required=True)
_NOT_SHOWN = ("dry_run", "done", "shown", "out_of")


class _Changed(Exception):
    """What would be done is not what was shown."""


def retry() -> str | AnyResponse:
    """GET shows what would be sent again; POST does just that, or shows what has changed."""
    if request.method == "POST":
        return _retry()
    of_query = [each for each in questions.RETRY_FAILED.parameters if each.name != "dry_run"]
    given: MultiDict[str, str] = request.args.copy()
    if not given.get("kind"):
        given["kind"] = "deliveries"
    values = asked((DONE, *of_query), given)
    return _preview(values)


def _preview(values: dict[str, Any], *, changed: bool = False, unticked: bool = False) -> str:
    done = values.get("done")
    with database().transaction(read_only=False) as conn:  # it locks rows while it counts them
        found = answer(conn, questions.RETRY_FAILED, **_requested(values), dry_run=True)
        entry = entry_of(conn, done)
    return page(
        "retry", found=found, values=_requested(values), done=entry, changed=changed,
        unticked=unticked, includes=requeue.INCLUDES, codes=[code.value for code in FailureCode],
        send_channels=SEND_CHANNELS,
    )  # fmt: skip


def _retry() -> str | AnyResponse:
    ticked = request.form.get("twice") == "yes"
    parameters = [each for each in questions.RETRY_FAILED.parameters if each.name != "dry_run"]
    values = asked((_SHOWN, _OUT_OF, *parameters), form_values("csrf", "twice"))
    requested = _requested(values)
    if "unknown" in requested["include"] and not ticked:
        return _preview(values, unticked=True)
    try:
        with database().transaction(read_only=False) as conn:
            done = answer(conn, questions.RETRY_FAILED, **requested, dry_run=False)
            if (done["requeued"], done["eligible"]) != (values["shown"], values["out_of"]):
                raise _Changed  # nothing of it is written
    except _Changed:
        return _preview(values, changed=True)
    return redirect(address("/ops/retry", requested, done=done["action_id"]), 303)


def _requested(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in _NOT_SHOWN}


def pause() -> str | AnyResponse:
    """GET shows what is paused; POST pauses or resumes."""
    if request.method == "POST":
        return _pause()
    done = asked((DONE,))["done"]
    with database().transaction() as conn:
        health = answer(conn, questions.HEALTH, fail_on=None)
        entry = entry_of(conn, done)
    return page(
        "pause", paused=health["paused"], channels_told=health["channels"], done=entry,
        send_channels=SEND_CHANNELS, longest=pauses.LONGEST_REASON,
    )  # fmt: skip


def _pause() -> AnyResponse:
    pausing = request.form.get("action") == "pause"
    question = questions.PAUSE if pausing else questions.RESUME
    values = asked((_ACTION, *question.parameters), form_values("csrf"))
    values.pop("action")
    with database().transaction(read_only=False) as conn:
        done = answer(conn, question, **values)
    return redirect(address("/ops/pause", done=done["action_id"]), 303)


def audit() -> str:
    """Who did what, newest first."""
    values = asked(questions.ACTIONS.parameters)
    with database().transaction() as conn:
        found = answer(conn, questions.ACTIONS, **values)
    return page(
        "audit", actions=found["actions"], next_before=found["next_before"],
        action=values["action"], known=questions.ACTIONS.parameters[0].reader.takes,
    )  # fmt: skip


def entry_of(conn: db.Connection, action_id: int | None) -> dict[str, Any] | None:
    """An entry of the audit."""
    if not action_id:
        return None
    found = answer(conn, questions.ACTIONS, action=None, before=action_id + 1, limit=1)["actions"]
    return found[0] if found and found[0]["id"] == action_id else None


def form_values(*apart: str) -> MultiDict[str, str]:
    """The form's fields, except those that are read separately."""
    return MultiDict([pair for pair in request.form.items(multi=True) if pair[0] not in apart])
