"""Health for a glance: one sentence, three reasons at most, a line for each channel."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from alerts import words
from alerts.channels.names import SEND_CHANNELS
from alerts.health.order import causes
from alerts.words import Clockface

MOST_REASONS = 3
MOST_BYTES = 2000  # as JSON
# Notes of an engine that does just what it should.
_WELL = ("nothing_risky", "channel_off")


def brief(health: Mapping[str, Any]) -> dict[str, Any]:
    """``generated_at``, ``status``, ``headline``, ``reasons`` (at most three, none that is merely
    a symptom), ``last_run`` and ``channels`` (a line by name), of :func:`get_health`'s answer."""
    clock = _clock(health)
    reasons = [dict(each) for each in causes(health["reasons"])][:MOST_REASONS]
    told: dict[str, Any] = {
        "generated_at": health["generated_at"],
        "status": health["status"],
        "headline": _headline(health, reasons),
        "reasons": reasons,
        "last_run": health["last_run"],
        "channels": {name: line(each, clock) for name, each in health["channels"].items()},
        "timezone": clock.zone.key,
    }
    longest = 400
    while len(json.dumps(told)) > MOST_BYTES and longest > 25:
        if len(reasons) > 1:
            reasons.pop()
            continue
        longest //= 2  # a pause's reason may be long, and six bytes a letter
        for part, name in ((told, "headline"), *((each, "message") for each in reasons)):
            part[name] = words.clipped(part[name], longest)
    return told


def brief_text(brief: Mapping[str, Any]) -> str:
    """The same as plain text, for a terminal, a phone's shortcut or a message to the owner."""
    clock = Clockface(_time(brief["generated_at"]), ZoneInfo(brief["timezone"]))
    at = f"{clock.now.astimezone(clock.zone):%H:%M %Z}"
    lines = [f"{brief['status'].upper()} at {at}: {brief['headline']}"]
    for number, reason in enumerate(brief["reasons"]):
        if number:
            lines += ["", reason["message"]]
        if reason["action"]:
            lines.append(f"-> {reason['action']}")
    if brief["last_run"]:
        started = clock.at(_time(brief["last_run"]["started_at"]))
        lines += ["", f"Last run: {brief['last_run']['status']}, started {started}"]
    lines += ["", *(f"{name}: {line}" for name, line in brief["channels"].items())]
    return "\n".join(lines) + "\n"


def _clock(health: Mapping[str, Any]) -> Clockface:
    zone = words.zone_of(health["engine"]["timezone"], ZoneInfo("UTC"))
    return Clockface(_time(health["generated_at"]), zone)


def _headline(health: Mapping[str, Any], reasons: list[dict[str, Any]]) -> str:
    if reasons:
        message: str = reasons[0]["message"]
        return f"All is well. {message}" if reasons[0]["code"] in _WELL else message
    sent = sum(
        figures[name]["sent"]
        for figures in (health["deliveries_24h"], health["digests_24h"])
        for name in figures
        if name in SEND_CHANNELS
    )
    return f"All is well: {words.count(sent, 'message')} went out in the last 24 hours."


def line(channel: Mapping[str, Any], clock: Clockface) -> str:
    """A channel's state in words."""
    waiting = words.count(channel["waiting"], "message")
    if channel["paused"]:
        return f"paused, {waiting} waiting"
    if channel["state"] in ("closed", "held"):
        since = clock.at(_time(channel["since"]))
        tried = channel["next_try_at"]
        when = f"at {clock.at(_time(tried))}" if tried else "with the next run"
        does = words.PROVIDER_DOES.get(channel["code"], channel["code"])
        return f"the provider {does}, since {since}; {waiting} waiting, next try {when}"
    if channel["state"] == "off":
        return "switched off"
    if channel["configured"] is False:
        return "not configured"
    if not channel["waiting"]:
        return "ok"
    due = [channel["oldest_due_delivery_minutes"], channel["oldest_due_digest_minutes"]]
    later = [at for at in channel["next_due_at"].values() if at]
    if due == [None, None] and later:
        return f"ok, {waiting} waiting, the next due {clock.at(_time(min(later)))}"
    return f"ok, {waiting} waiting"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
