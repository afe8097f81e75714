"""Reasons that somebody meant: pauses, switches, allowlists, dry runs. A note at first, and trouble
once they seem forgotten; and two deployments that do not know of each other."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial

from alerts import words
from alerts.health.facts import Facts
from alerts.health.reasons import DEGRADED, NOTE, Reason
from alerts.runs.engine_state import EngineState, is_off

FORGOTTEN_HOURS = 24
# Somebody who tries a setting and takes it back makes two changes; nobody makes four a day.
TURNS_AT_LEAST, TURNS_WITHIN = 4, timedelta(hours=24)


def paused(facts: Facts) -> Iterator[Reason]:
    """The engine or a channel is paused."""
    for each in facts.paused:
        since = datetime.fromisoformat(each["paused_at"])
        name = words.channel(each["channel"]) if each["channel"] else "the engine"
        by = "the command line" if each["by"] == "cli" else f"token {each['by']}"
        text = f"{name} has been paused since {facts.wall.at(since)} by {by}: {each['reason']}"
        action = "Resume it when the reason is gone; what waits goes out with the next run."
        yield Reason(
            "paused", _severity(facts, since), words.capital(text), action, since,
            each["channel"], page="/ops/pause",
        )  # fmt: skip


def switched_off(facts: Facts) -> Iterator[Reason]:
    """A variable turns the engine off."""
    if facts.engine.enabled:
        return
    since = facts.since_change(lambda state: not state.enabled)
    told = f" since {facts.wall.at(since)}" if since else ""
    message = f"The variable ALERTS_V2_ENABLED has turned the engine off{told}."
    action = f"Set it to true {facts.place()} when alerts are to go out again."
    yield Reason("switched_off", NOTE, message, action, since, page="/ops/setup")


def allowlist(facts: Facts) -> Iterator[Reason]:
    """Only some users get anything."""
    listed = facts.engine.allowlist
    if listed is None:
        return
    since = facts.since_change(lambda state: state.allowlist is not None)
    told = f" since {facts.wall.at(since)}" if since else ""
    message = (
        f"An allowlist has limited alerts to {words.count(len(listed), 'user')}{told}; nobody else "
        "gets any."
    )
    action = f"Remove ALERTS_SEND_ALLOWLIST_USER_IDS {facts.place()} when the test is over."
    yield Reason("allowlist", _severity(facts, since), message, action, since, page="/ops/setup")


def dry_run(facts: Facts) -> Iterator[Reason]:
    """The newest run sent nothing, by intent."""
    dry, last = facts.runs.last_dry, facts.runs.last_run
    if dry is None or (last is not None and last["started_at"] >= dry["started_at"]):
        return
    started = datetime.fromisoformat(dry["started_at"])
    queues = [(dry["sending"] or {}).get(queue, {}) for queue in ("deliveries", "digests")]
    would = sum(each.get("sent", 0) for each in queues)
    by = "" if dry["triggered_by"] == "github_actions_schedule" else ", started by hand,"
    message = (
        f"The run of {facts.wall.at(started)}{by} was a dry run: it sent nothing by intent; "
        f"{words.count(would, 'message')} would have gone out."
    )
    action = "Start a run without the dry-run option to send."
    since = datetime.fromisoformat(last["started_at"]) if last else None
    severity = _severity(facts, since)
    page = f"/ops/runs/{dry['run_id']}"
    yield Reason("dry_run", severity, message, action, started, page=page)


def channel_off(facts: Facts) -> Iterator[Reason]:
    """A channel is not used, deliberately."""
    for name, channel in facts.channels.items():
        if channel["state"] != "off":
            continue
        since = facts.since_change(partial(is_off, name))
        told = f" since {facts.wall.at(since)}" if since else ""
        message = f"{words.capital(words.channel(name))} has been switched off on purpose{told}."
        action = f"Nothing; to use it again, take it out of ALERTS_CHANNELS_OFF {facts.place()}."
        yield Reason("channel_off", NOTE, message, action, since, name, page="/ops/setup")


def two_deployments(facts: Facts) -> Iterator[Reason]:
    """Two sets of settings took turns, so two deployments run on one database."""
    turns = _turns(facts.changes)
    if len(turns) < TURNS_AT_LEAST or facts.wall.ago(turns[TURNS_AT_LEAST - 1]) > TURNS_WITHIN:
        return
    since = turns[-1]
    message = (
        f"Two deployments have taken turns on this database since {facts.wall.at(since)}: "
        f"{_differences(facts.changes[0], facts.changes[1])}."
    )
    action = "Stop the one that should not run; the runs tell by whom each was started."
    yield Reason("two_deployments", DEGRADED, message, action, since, page="/ops/runs")


def _turns(changes: list[EngineState]) -> list[datetime]:
    """When the settings changed to and fro between two, the newest change first."""
    found: list[datetime] = []
    for place, each in enumerate(changes):
        if each.first_at is None or (place > 1 and each.what() != changes[place - 2].what()):
            break
        found.append(each.first_at)
    return found


def _severity(facts: Facts, since: datetime | None) -> str:
    """What is meant and has lasted for a day may have been forgotten."""
    if since is None:
        return NOTE
    hours = facts.wall.ago(since).total_seconds() / 3600
    return DEGRADED if hours >= FORGOTTEN_HOURS else NOTE


def _differences(one: EngineState, other: EngineState) -> str:
    told = [
        (_says(name, one), _says(name, other))
        for name, value in one.what().items()
        if value != other.what()[name] and name != "channels_configured"
    ]
    first, second = zip(*told[:2], strict=True)
    return f"one with {words.listed(first)}, the other with {words.listed(second)}"


def _says(name: str, state: EngineState) -> str:
    """A setting in words."""
    value = state.what()[name]
    if name == "git_sha":
        return f"version {value[:7]}" if value else "a version without a name"
    if name == "allowlist":
        return "no allowlist" if value is None else f"an allowlist of {len(value)}"
    if name == "enabled":
        return "the engine on" if value else "the engine off"
    if name == "max_send_per_run":
        return f"at most {value:,} messages a run"
    if name == "interval_minutes":
        return f"a run every {value} minutes"
    if name == "timezone":
        return f"the time of {value}"
    if name == "digest_period":
        return f"{value} digests"
    if name == "senders":
        return f"{words.count(value, 'sender')}"
    if name == "providers":
        told = [f"{words.channel(each)} through {provider}" for each, provider in value.items()]
        return words.listed(told) or "no channel"
    return f"other {name.replace('_', ' ')}"
