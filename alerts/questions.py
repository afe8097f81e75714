"""Every query and action on the engine, shared by the admin endpoint and its command.

Each question declares its parameters. The endpoint parses its query string from them and the
command builds its options from them, so the two cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from alerts import db, phases
from alerts.channels.names import CHANNELS, SEND_CHANNELS
from alerts.failures import FailureCode
from alerts.health.brief import brief, brief_text
from alerts.health.report import OWN_KINDS, STATUSES, get_health
from alerts.lookup import deliveries, explain, sentences
from alerts.owner import trials
from alerts.readers import (
    BOOLEAN,
    CURSOR,
    ID,
    TIME,
    BadValue,
    Parameter,
    Reader,
    choice,
    comma_list,
    integer,
)
from alerts.redaction import redactor_for
from alerts.repair import audit, pauses, requeue
from alerts.runs import history
from alerts.settings.config import Settings

Answer = Mapping[str, Any]


@dataclass(frozen=True)
class Caller:
    """Who asks, and when; ``key_id`` identifies the caller in the audit."""

    settings: Settings
    now: datetime
    key_id: str

    def as_writer(self) -> dict[str, Any]:
        """Keyword arguments for the functions that write."""
        return {"now": self.now, "token_key_id": self.key_id}


class NotFound(Exception):
    """No row has this id; ``what`` is ``run``, ``delivery``, ``event`` and so on."""

    def __init__(self, what: str) -> None:
        super().__init__(f"no {what} has this id")
        self.what = what


@dataclass(frozen=True)
class Question:
    """A query or action; ``ask(conn, caller, **values)`` answers it within one transaction.

    ``ask`` raises ``psycopg2.Error``, :class:`NotFound` and :class:`~alerts.readers.BadValue`.
    ``seconds`` is how long the web app waits for the answer at most; None: as long as the database
    may take. ``text`` puts an answer into words, for a client that prefers plain text to JSON.
    ``subject`` is the requested row: its ``id`` comes from the path in the web app and from the
    argument of the command. If ``failed(answer, **values)`` is true, the endpoint answers 503 and
    the command exits with 1.
    """

    ask: Callable[..., Answer]
    parameters: tuple[Parameter, ...] = ()
    subject: Subject | None = None
    writes: bool = False
    failed: Callable[..., bool] = lambda answer, **values: False
    text: Callable[[Answer], str] | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Subject:
    """A row identified by its id; ``what`` as in :class:`NotFound`."""

    what: str
    id: Reader[Any]


# -- asking ----------------------------------------------------------------------------------


def _one(
    what: str, get: Callable[[db.Connection, Any], Answer | None], reader: Reader[Any]
) -> Question:
    def ask(conn: db.Connection, caller: Caller, id: Any) -> Answer:
        row = get(conn, id)
        if row is None:
            raise NotFound(what)
        return row

    return Question(ask, subject=Subject(what, reader))


def _explain(conn: db.Connection, caller: Caller, **ids: int) -> Answer:
    found = explain.explain(conn, caller.settings, now=caller.now, **ids)
    if isinstance(found, str):
        raise NotFound(found)
    return found


def _health(conn: db.Connection, caller: Caller, view: str = "whole", **_: Any) -> Answer:
    found = get_health(conn, caller.settings, caller.now)
    return brief(found) if view == "brief" else found


def _health_text(answer: Answer) -> str:
    return brief_text(answer if "headline" in answer else brief(answer))


def _is_bad(answer: Answer, fail_on: str | None, **_: Any) -> bool:
    return fail_on is not None and _BADNESS.index(answer["status"]) >= _BADNESS.index(fail_on)


_BADNESS = ("ok", "degraded", "failing")
_LIMIT = Parameter("limit", integer(1, 200), "at most N rows", default=50)
_BEFORE = Parameter("before", CURSOR, "next page: the next_before of an earlier answer")
_SINCE = Parameter("since", TIME, "created at TIME or later")
_USER_ID = Parameter("user_id", ID, "only this user's")
_EVENT_ID = Parameter("event_id", ID, "only this event's")
_STATUS = Parameter("status", choice(STATUSES))
_CHANNEL = Parameter("channel", choice(CHANNELS))
_FAILURE_CODE = Parameter("failure_code", choice(FailureCode), "a code such as rate_limited")

HEALTH_SECONDS = 2.7  # whoever asks whether all is well wants to know soon that it is not
HEALTH = Question(
    _health,
    (
        Parameter("fail_on", choice(("degraded", "failing")), "fail when the status is at least"),
        Parameter("view", choice(("whole", "brief")), "how much of it", default="whole"),
    ),
    failed=_is_bad,
    text=_health_text,
    seconds=HEALTH_SECONDS,
)
RUNS = Question(
    lambda conn, caller, **values: history.list_runs(conn, **values),
    (
        Parameter("status", choice(history.RUN_STATUSES)),
        Parameter("phase", choice(phases.PHASE_CHOICES)),
        Parameter("triggered_by", choice(history.TRIGGERS)),
        _BEFORE,
        _LIMIT,
    ),
)
RUN = _one("run", history.get_run, Reader(str, "the id of a run", "ID"))
DELIVERIES = Question(
    lambda conn, caller, **values: deliveries.list_rows(conn, deliveries.DELIVERIES, **values),
    (
        *(_USER_ID, _EVENT_ID, _STATUS, _CHANNEL),
        Parameter("kind", choice(OWN_KINDS)),
        *(_FAILURE_CODE, _SINCE, _BEFORE, _LIMIT),
    ),
)
DELIVERY = _one("delivery", deliveries.get_delivery, ID)
DIGESTS = Question(
    lambda conn, caller, **values: deliveries.list_rows(conn, deliveries.DIGESTS, **values),
    (
        *(_USER_ID, _STATUS, _CHANNEL),
        Parameter("period", choice(("daily", "hourly"))),
        *(_FAILURE_CODE, _SINCE, _BEFORE, _LIMIT),
    ),
)
DIGEST = _one("digest", deliveries.get_digest, ID)
EXPLAIN = Question(
    _explain,
    (
        Parameter("event_id", ID, "of which event", required=True),
        Parameter("user_id", ID, "of which user", required=True),
    ),
    text=sentences.as_text,
)
TEST_MESSAGES = Question(
    lambda conn, caller, **_: trials.status(conn, caller.settings),
)
ACTIONS = Question(
    lambda conn, caller, **values: audit.list_actions(conn, **values),
    (
        Parameter("action", choice(audit.ACTIONS)),
        Parameter("before", ID, "next page: the next_before of an earlier answer"),
        _LIMIT,
    ),
)


# -- acting ----------------------------------------------------------------------------------


def _retry_failed(conn: db.Connection, caller: Caller, **values: Any) -> Answer:
    most = caller.settings.max_send_per_run
    if (values["limit"] or most) > most:
        raise BadValue("limit", integer(1, most).takes)
    request = requeue.RetryRequest(**values)
    return requeue.retry_failed(conn, caller.settings, request, **caller.as_writer())


def _scrubbing(act: Callable[..., Answer]) -> Callable[..., Answer]:
    """Pausing and resuming store a reason; addresses and secrets are removed from it first."""

    def ask(conn: db.Connection, caller: Caller, channel: str | None, reason: str | None) -> Answer:
        scrub = redactor_for(caller.settings).scrub
        return act(conn, channel, reason, scrub=scrub, **caller.as_writer())

    return ask


_REASON = Reader(
    pauses.checked_reason, f"1 to {pauses.LONGEST_REASON} printable characters", "TEXT"
)
_PAUSED_CHANNEL = Parameter("channel", choice(SEND_CHANNELS), "one channel, not the engine")

_ALSO = f"also {', '.join(requeue.INCLUDES)} (a comma list)"

RETRY_FAILED = Question(
    _retry_failed,
    (
        Parameter("kind", choice(requeue.KINDS), required=True),
        Parameter(
            "since_hours",
            integer(1, requeue.MAX_SINCE_HOURS),
            "failed in the last N hours",
            default=requeue.DEFAULT_SINCE_HOURS,
        ),
        Parameter("channel", choice(SEND_CHANNELS)),
        _FAILURE_CODE,
        Parameter("include", comma_list(requeue.INCLUDES), _ALSO, default=()),
        Parameter("limit", integer(1, 1_000_000), "at most N rows (default: as one run may send)"),
        Parameter("dry_run", BOOLEAN, "count only, change nothing", default=False),
    ),
    writes=True,  # its dry run locks rows as well
)
PAUSE = Question(
    _scrubbing(pauses.pause),
    (_PAUSED_CHANNEL, Parameter("reason", _REASON, "why; kept and shown", required=True)),
    writes=True,
)
RESUME = Question(
    _scrubbing(pauses.resume),
    (_PAUSED_CHANNEL, Parameter("reason", _REASON, "why; kept in the audit")),
    writes=True,
)
OWNER_CHANNEL = Parameter("channel", choice(trials.CHANNELS), "to the owner", required=True)
TEST_MESSAGE = Question(
    lambda conn, caller, channel: trials.ask(conn, caller.settings, channel, **caller.as_writer()),
    (OWNER_CHANNEL,),
    writes=True,
)
