"""Reasons that lie in the runs: none comes, they fail, they die, they are kept from working."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from alerts import words
from alerts.db import Row
from alerts.health.facts import Facts
from alerts.health.reasons import DEGRADED, FAILING, NOTE, Reason
from alerts.health.runs import LockedOut

INTERVALS_WITHOUT_SUCCESS = 3
# One run that finds a phase under way is nothing; the next one would find it done. Of several hosts
# that start together all but one find it so: counted for each of ALERTS_SENDERS.
LOCKED_OUT_AT_LEAST = 2
# What an owner does on purpose and for a while is told, and reminded of after a day.
FORGOTTEN_HOURS = 24


def no_recent_success(facts: Facts) -> Iterator[Reason]:
    """No run has succeeded for three intervals, and why."""
    runs = facts.runs
    if runs.last_finished is None:
        return  # never_run
    ended = runs.last_success_at
    if ended is not None and facts.wall.ago(ended) <= INTERVALS_WITHOUT_SUCCESS * facts.interval:
        return
    cause, message, action = _why_no_success(facts)
    yield Reason(
        "no_recent_success", FAILING, message, action, ended, cause=cause, page="/ops/runs"
    )


def _why_no_success(facts: Facts) -> tuple[str, str, str]:
    ended = facts.runs.last_success_at
    for_how_long = f"since {facts.wall.at(ended)}" if ended else "yet"
    none = f"no run has succeeded {for_how_long}"
    if facts.engine_pause:
        return "paused", f"The engine is paused, so {none}.", "Resume it when the reason is gone."
    if not facts.enabled:
        text = f"The variable ALERTS_V2_ENABLED turns the engine off, so {none}."
        return "switched_off", text, "Set it to true where the engine runs."
    finished = facts.runs.last_finished or {}
    if finished["status"] == "failed":
        return "runs_fail", f"Runs start and fail: {none}.", "Look at the last run."
    text = f"The schedule starts no runs any more: {none}."
    return "not_started", text, "Enable the workflow on GitHub, and run it by hand meanwhile."


def last_run_failed(facts: Facts) -> Iterator[Reason]:
    """The last finished run failed."""
    last = facts.runs.last_finished
    if last is None or last["status"] != "failed":
        return
    at = datetime.fromisoformat(last["finished_at"])
    held = [
        f"{words.channel(name)} ({words.PROVIDER_DOES.get(code, code)})"
        for name, code in sorted(facts.runs.held().items())
    ]
    message = f"The last run failed at {facts.wall.at(at)}."
    action = "Mend what its phases say, and run again: nothing is done twice."
    if held:
        message = f"The last run failed at {facts.wall.at(at)}: it held {words.listed(held)}."
        action = "Mend that; the messages wait, and the next run sends them."
    page = f"/ops/runs/{last['run_id']}"
    yield Reason("last_run_failed", FAILING, message, action, at, page=page)


def never_run(facts: Facts) -> Iterator[Reason]:
    """No run has finished yet."""
    if facts.runs.last_finished is None:
        action = "Start one: enable the workflow, or python -m alerts.runner --phase all."
        yield Reason("never_run", DEGRADED, "No run has finished yet.", action, page="/ops/setup")


def paused(facts: Facts) -> Iterator[Reason]:
    """The engine or a channel is paused: a note, and trouble once it seems forgotten."""
    for each in facts.paused:
        since = datetime.fromisoformat(each["paused_at"])
        hours = facts.wall.ago(since).total_seconds() / 3600
        name = words.channel(each["channel"]) if each["channel"] else "the engine"
        text = f"{name} has been paused since {facts.wall.at(since)}: {each['reason']}"
        action = "Resume it when the reason is gone; what waits goes out with the next run."
        severity = DEGRADED if hours >= FORGOTTEN_HOURS else NOTE
        text = words.capital(text)
        yield Reason("paused", severity, text, action, since, each["channel"], page="/ops/pause")


def run_stale(facts: Facts) -> Iterator[Reason]:
    """A run fell silent."""
    stale = facts.runs.stale_runs
    if stale:
        told = words.count(stale, "run")
        message = f"{told} stopped without a word; the process was probably killed."
        action = "Nothing to do at once: the next run closes it and takes over what it held."
        yield Reason("run_stale", DEGRADED, message, action, page="/ops/runs")


def phase_locked_out(facts: Facts) -> Iterator[Reason]:
    """Phases that something else kept from running."""
    for each, holders in facts.locked_out:
        yield _locked_out(facts, each, holders)


def _locked_out(facts: Facts, each: LockedOut, holders: list[Row]) -> Reason:
    """A phase that something else keeps from running, and who that is."""
    name = f"Phase {each.phase.letter.upper()} ({each.phase.name})"
    by, action = "nobody holds its lock now", "Nothing: the next run does it."
    if holders:
        oldest = holders[0]  # the likeliest to hang
        application = oldest["application_name"] or "another role's session"
        start = oldest["backend_start"]
        connected = f", connected since {facts.wall.at(start)}," if start else ""
        many = f"one of its {len(holders)} locks, the longest"
        by = f"{application}{connected} holds {'its lock' if len(holders) == 1 else many}"
        action = (
            f"If nothing works there, end it in the database: "
            f"SELECT pg_terminate_backend({oldest['pid']})"
        )
    message = f"{name} has not run since {facts.wall.at(each.since)}, in {each.runs} runs: {by}."
    return Reason("phase_locked_out", DEGRADED, message, action, each.since, page="/ops/runs")
