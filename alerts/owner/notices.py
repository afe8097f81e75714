"""Tells the owner that the status has changed, through a channel that works."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from alerts import db
from alerts.failures import DeliveryError
from alerts.health.brief import brief, brief_text
from alerts.health.reasons import NOTE
from alerts.messages import Notice
from alerts.messages.wording import APP
from alerts.owner import sending, store
from alerts.owner.rules import OK, Found, decide
from alerts.phases.context import Stop
from alerts.settings.config import Settings

SECONDS = 12.0  # for all channels together
_WARNING = "the owner could not be told"


def tell(
    conn: db.Connection,
    settings: Settings,
    health: Mapping[str, Any],
    run_id: str,
    log: logging.Logger,
    stop: Stop,
) -> None:
    """Remember what the run found at its end, and tell the owner if that is due.

    ``health`` is :func:`get_health`'s answer. What cannot be sent is a warning, and is tried again
    by the next run. Raises ``psycopg2.Error``.
    """
    found = found_in(health)
    seen, _, now = store.history(conn)
    decision = decide(seen, found, run_id, now)
    if not (decision.changed or decision.tell):
        return
    with db.transaction(conn):
        store.lock(conn)
        seen, newest_id, now = store.history(conn)
        decision = decide(seen, found, run_id, now)
        notice_id = newest_id
        if decision.changed or newest_id is None:
            notice_id = store.note(conn, found, run_id, tell=decision.tell)
        elif decision.tell:
            store.note_try(conn, newest_id)
    if not decision.tell or notice_id is None:
        return
    key = f"owner-{notice_id}-{run_id[:8]}"
    channel = _send(settings, health, key, log, stop)
    if channel is not None:
        store.note_told(conn, notice_id, channel)
        log.info("the owner was told", extra={"channel": channel, "status": found.status})


def found_in(health: Mapping[str, Any]) -> Found:
    """The status, and the code of the first reason that makes it so."""
    if health["status"] == OK:
        return Found(OK, None)
    weighty = [each for each in brief(health)["reasons"] if each["severity"] != NOTE]
    return Found(health["status"], weighty[0]["code"] if weighty else None)


def notice_of(health: Mapping[str, Any], app_base_url: str | None) -> Notice:
    """The brief view as a notice: its cause is the title."""
    view = brief(health)
    title, head = f"{APP} is {view['status']}: {view['headline']}", ""
    if view["status"] == OK:
        title, head = f"{APP} is well again", f"{view['headline']}\n\n"
    _, _, rest = brief_text(view).partition("\n")
    paragraphs = f"{head}{rest}".strip().split("\n\n")
    link = None if app_base_url is None else f"{app_base_url}/ops"
    return Notice(title, tuple(tuple(lines.split("\n")) for lines in paragraphs), link)


def working_first(settings: Settings, health: Mapping[str, Any]) -> list[str]:
    """The channels on which the owner can be reached, healthy ones first."""
    troubled = {each["channel"] for each in health["reasons"] if each["severity"] != NOTE}
    troubled |= {name for name, each in health["channels"].items() if each["state"] != "open"}
    usable = [name for name in settings.owner.addresses if name in settings.channels.providers]
    return sorted(usable, key=lambda name: name in troubled)


def _send(
    settings: Settings, health: Mapping[str, Any], key: str, log: logging.Logger, stop: Stop
) -> str | None:
    """Return the channel that took it, or None if none did."""
    ends = time.monotonic() + SECONDS
    notice = notice_of(health, settings.app_base_url)
    channels = working_first(settings, health)
    if not channels:
        log.warning(_WARNING, extra={"error": "none of the owner's channels can be used"})
    for channel in channels:
        left = min(sending.CALL_SECONDS, ends - time.monotonic())
        if left <= 0 or stop.signal:
            break
        try:
            sending.send(settings, channel, notice, key, seconds=left, stop=stop)
        except DeliveryError as error:
            fields = {"channel": channel, "code": error.code.value, "error": error.detail}
            log.warning(_WARNING, extra=fields)
        else:
            return channel
    return None
