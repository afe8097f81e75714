"""Test messages to the owner: asked for in the app and sent by the next run, or sent at once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from alerts import db, words
from alerts.failures import DeliveryError, FailureCode
from alerts.messages import Notice
from alerts.messages.wording import APP
from alerts.owner import sending
from alerts.paging import iso
from alerts.phases.context import Stop
from alerts.repair import audit
from alerts.settings.config import Settings
from alerts.settings.owner import VARIABLES
from alerts.words import Clockface

CHANNELS = tuple(VARIABLES)
ACTION = "test_message"
WAITING, SENT, FAILED, NEVER = "waiting", "sent", "failed", "never_asked"

_LAST = """
SELECT t.channel, t.action_id, t.asked_at, t.done_at, t.failure_code, clock_timestamp() AS now
FROM alerts_test_messages AS t
ORDER BY t.channel
"""

# Wall time. Asked for again, it is sent again.
_ASK = """
INSERT INTO alerts_test_messages AS t (channel, action_id, asked_at)
VALUES (%(channel)s, %(action_id)s, clock_timestamp())
ON CONFLICT (channel) DO UPDATE
SET action_id = excluded.action_id, asked_at = excluded.asked_at,
    tried_at = NULL, done_at = NULL, failure_code = NULL
"""

# Of several runs only one takes it. If that one is killed before it stores the outcome, another
# may take it after a minute.
_TAKE = """
UPDATE alerts_test_messages
SET tried_at = clock_timestamp()
WHERE channel = ANY (%(channels)s) AND done_at IS NULL
  AND coalesce(tried_at < clock_timestamp() - interval '1 minute', TRUE)
RETURNING channel, action_id
"""

_DONE = """
UPDATE alerts_test_messages
SET done_at = clock_timestamp(), failure_code = %(failure_code)s
WHERE channel = %(channel)s AND action_id = %(action_id)s
"""


def ask(
    conn: db.Connection, settings: Settings, channel: str, *, now: datetime, token_key_id: str
) -> dict[str, Any]:
    """Ask the next run for a test message, with its audit row in the caller's transaction.

    ``last`` in the answer says what became of the previous one.
    """
    last = status(conn, settings)["channels"][channel]
    action_id = _begin(conn, channel, now, token_key_id)
    told = status(conn, settings)["channels"][channel]
    return {"channel": channel, **told, "last": last, "action_id": action_id}


def status(conn: db.Connection, settings: Settings) -> dict[str, Any]:
    """What became of the last test message, by channel."""
    rows = {row["channel"]: row for row in db.fetch_all(conn, _LAST)}
    return {"channels": {name: _told(name, rows.get(name), settings.timezone) for name in CHANNELS}}


def send_now(
    conn: db.Connection, settings: Settings, channel: str, *, now: datetime, token_key_id: str
) -> dict[str, Any]:
    """Send one at once, on an autocommit connection; its audit row holds the outcome."""
    action_id = _begin(conn, channel, now, token_key_id)
    db.fetch_all(conn, _TAKE, {"channels": [channel]})
    _send(conn, settings, channel, action_id, Stop())
    told = status(conn, settings)["channels"][channel]
    return {"channel": channel, **told, "action_id": action_id}


def send_asked(
    conn: db.Connection, settings: Settings, channels: Sequence[str], log: logging.Logger,
    stop: Stop,
) -> None:  # fmt: skip
    """Send what was asked for on these channels. Raises ``psycopg2.Error``."""
    for row in db.fetch_all(conn, _TAKE, {"channels": list(channels)}):
        code = _send(conn, settings, row["channel"], row["action_id"], stop)
        fields = {"channel": row["channel"], "code": code}
        if code is None:
            log.info("the test message was sent", extra=fields)
        else:
            log.warning("the test message could not be sent", extra=fields)


def _begin(conn: db.Connection, channel: str, now: datetime, token_key_id: str) -> int:
    action_id = audit.record_action(
        conn, action=ACTION, token_key_id=token_key_id, parameters={"channel": channel},
        result={"state": WAITING}, now=now,
    )  # fmt: skip
    db.execute(conn, _ASK, {"channel": channel, "action_id": action_id})
    return action_id


def _send(
    conn: db.Connection, settings: Settings, channel: str, action_id: int, stop: Stop
) -> str | None:
    """Send it and store the outcome; returns the failure's code, or None."""
    code: str | None = None
    try:
        sending.send(settings, channel, _notice(settings), f"owner-test-{action_id}", stop=stop)
    except DeliveryError as error:
        code = error.code.value
    row = {"channel": channel, "action_id": action_id, "failure_code": code}
    db.execute(conn, _DONE, row)
    state = {"state": SENT} if code is None else {"state": FAILED, "failure_code": code}
    audit.update_result(conn, action_id, state)
    return code


def _notice(settings: Settings) -> Notice:
    at = datetime.now(UTC).astimezone(settings.timezone)
    lines = (
        "This is the test message that was asked for: notices reach you here.",
        f"Sent at {at:%H:%M %Z}.",
    )
    link = None if settings.app_base_url is None else f"{settings.app_base_url}/ops"
    return Notice(f"{APP}: a test message", (lines,), link)


def _told(channel: str, row: db.Row | None, zone: ZoneInfo) -> dict[str, Any]:
    if row is None:
        told = {"state": NEVER, "asked_at": None, "done_at": None, "failure_code": None}
        return {**told, "summary": "No test message was asked for."}
    done, code = row["done_at"], row["failure_code"]
    clock = Clockface(row["now"], zone)
    if done is None:
        state, summary = WAITING, "The next run sends it."
    elif code is None:
        state, summary = SENT, f"Sent to the owner's address, {clock.at(done)}."
    else:
        why = words.BECAUSE.get(code, "the provider refused it")
        if code == FailureCode.MISSING_DESTINATION:
            why = f"{VARIABLES[channel]} is not set where it was to be sent from"
        state, summary = FAILED, f"Could not be sent, {clock.at(done)}: {why}."
    return {
        "state": state,
        "asked_at": iso(row["asked_at"]),
        "done_at": done and iso(done),
        "failure_code": code,
        "summary": summary,
    }
