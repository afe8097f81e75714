"""Reasons that lie in the runs: they fail, they die, they come late, they are kept from working,
they are not recorded."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from alerts import words
from alerts.db import Row
from alerts.health.facts import Facts
from alerts.health.reasons import DEGRADED, FAILING, NOTE, Reason
from alerts.health.runs import LockedOut, was_lost
from alerts.phases import PHASES

_NAMES = {phase.letter: f"phase {phase.letter.upper()} ({phase.name})" for phase in PHASES}


def last_run_failed(facts: Facts) -> Iterator[Reason]:
    """The last finished run failed."""
    last = facts.runs.last_finished
    if last is None or last["status"] != "failed" or was_lost(last):
        return
    since = _failing_since(facts)
    started = facts.wall.at(datetime.fromisoformat(last["started_at"]))
    held = facts.runs.held()
    failed = [each for each in last["phases"] or () if each["status"] == "failed"]
    if held and {each["phase"] for each in failed} <= {"c"}:
        message = f"The run of {started} failed, as {_held(facts, held)}."
        action = "Mend that; the messages wait, and the next run sends them."
    elif failed:
        message = f"{_phases_failed(last, failed, started)}{_others_ran(last)}"
        action = "Mend that and start a run: nothing is done twice."
    else:
        why = words.clipped(last["error_summary"] or "it did not say why")
        message = f"The run of {started} failed: {why.rstrip('.')}."
        action = "Mend that and start a run: nothing is done twice."
    page = f"/ops/runs/{last['run_id']}"
    yield Reason("last_run_failed", FAILING, message, action, since, page=page)


def _failing_since(facts: Facts) -> datetime:
    """When the first of the failed runs in a row ended."""
    ended: str = (facts.runs.last_finished or {})["finished_at"]
    for run in facts.runs.recent:
        if run["status"] == "running":
            continue
        if run["status"] != "failed":
            break
        ended = run["finished_at"]
    return datetime.fromisoformat(ended)


def _held(facts: Facts, held: dict[str, str]) -> str:
    told = [f"{facts.who(name)} {words.does(code)}" for name, code in sorted(held.items())]
    return words.listed(told)


def _phases_failed(last: dict[str, Any], failed: list[dict[str, Any]], started: str) -> str:
    names = words.listed(_NAMES[each["phase"]] for each in failed)
    whys = [words.clipped(each["error_summary"] or "it did not say why") for each in failed]
    return f"{words.capital(names)} failed in the run of {started}: {'; '.join(whys).rstrip('.')}"


def _others_ran(last: dict[str, Any]) -> str:
    ran = [each["phase"].upper() for each in last["phases"] if each["status"] == "success"]
    if not ran:
        return "."
    phases, its = ("Phase", "its") if len(ran) == 1 else ("Phases", "their")
    return f". {phases} {words.listed(ran)} did {its} work."


def never_run(facts: Facts) -> Iterator[Reason]:
    """No run has finished yet."""
    if facts.runs.last_finished is None:
        action = "Enable the workflow on GitHub, or start python -m alerts.runner --phase all."
        yield Reason("never_run", DEGRADED, "No run has finished yet.", action, page="/ops/setup")


def run_stale(facts: Facts) -> Iterator[Reason]:
    """Runs fell silent: their process was killed, or cannot reach the database."""
    for run in facts.runs.silent[:1]:
        heard = datetime.fromisoformat(run["heard_at"])
        held = facts.around.held_by_run.get(run["run_id"], 0)
        started = facts.wall.at(datetime.fromisoformat(run["started_at"]))
        more = len(facts.runs.silent) - 1
        others = f" ({words.count(more, 'other run')} likewise)" if more else ""
        message = (
            f"The run of {started} has been silent since {facts.wall.at(heard)}{others}, so it was "
            f"probably killed{_what_it_held(held)}."
        )
        action = "Nothing at once: the next run closes it and takes over what it held."
        page = f"/ops/runs/{run['run_id']}"
        yield Reason("run_stale", DEGRADED, message, action, heard, page=page)


def _what_it_held(held: int) -> str:
    if not held:
        return "; it held no message"
    return f"; it held {words.count(held, 'message')} that may or may not have gone out"


def run_lost(facts: Facts) -> Iterator[Reason]:
    """A run of the last day, or the last one that finished, died and was closed by another."""
    recent, last = facts.runs.recent, facts.runs.last_finished or {"run_id": None}
    lost = [
        place
        for place, run in enumerate(recent)
        if was_lost(run) and (run["run_id"] == last["run_id"] or _of_today(facts, run))
    ]
    if not lost:
        return
    run, newer = recent[lost[0]], recent[: lost[0]]
    started, heard = (datetime.fromisoformat(run[name]) for name in ("started_at", "heard_at"))
    is_last = run["run_id"] == last["run_id"]
    doubts = sum(sum(each["in_doubt"].values()) for each in facts.channels.values())
    message = (
        f"The run of {facts.wall.at(started)} died at {facts.wall.at(heard)}, probably killed; "
        f"{_taken_over(facts, newer)}."
    )
    if len(lost) > 1:
        message = message[:-1] + f". It is the latest of {len(lost)} that died."
    action = "See the end of its log; a machine that is too small or a cancelled job looks so."
    severity = FAILING if is_last else DEGRADED if doubts or len(lost) > 1 else NOTE
    page = f"/ops/runs/{run['run_id']}"
    code = "last_run_failed" if is_last else "run_lost"
    yield Reason(code, severity, message, action, heard, page=page)


def _of_today(facts: Facts, run: dict[str, Any]) -> bool:
    return facts.wall.ago(datetime.fromisoformat(run["started_at"])) < timedelta(hours=24)


def _taken_over(facts: Facts, newer: list[dict[str, Any]]) -> str:
    """What became of the messages that a dead run held."""
    for run in reversed(newer):
        if run["rescued"]:
            at = facts.wall.at(datetime.fromisoformat(run["started_at"]))
            taken = words.count(run["rescued"], "message")
            return (
                f"the run of {at} took over the {taken} it held, which may or may not have gone out"
            )
    if newer:
        at = facts.wall.at(datetime.fromisoformat(newer[-1]["started_at"]))
        return f"it held no message, and the run of {at} went on"
    return "the next run takes over what it held"


def runs_late(facts: Facts) -> Iterator[Reason]:
    """The schedule starts runs much later than it should."""
    late = facts.runs.lateness(facts.interval)
    if not late or late[0] < facts.interval / 2:
        return
    streak = 1
    while streak < len(late) and late[streak] >= facts.interval / 2:
        streak += 1
    starts = [datetime.fromisoformat(start) for start, _ in facts.runs.scheduled]
    if facts.wall.ago(starts[0]) > 3 * facts.interval:
        return  # none comes at all
    usual = median([each.total_seconds() for each in late[streak:]] or [0.0])
    message = (
        f"Runs start late: the last one {words.duration(late[0].total_seconds())} after its time, "
        f"and so since {facts.wall.at(starts[streak - 1])}; usually it is "
        f"{words.duration(usual)}."
    )
    action = (
        "Nothing for a while: GitHub is busy. If it stays so, give the cron and "
        "ALERTS_EXPECTED_INTERVAL_MINUTES a longer interval."
    )
    severity = DEGRADED if late[0] >= 2 * facts.interval else NOTE
    yield Reason("runs_late", severity, message, action, starts[streak - 1], page="/ops/runs")


def runs_not_recorded(facts: Facts) -> Iterator[Reason]:
    """Messages go out, and no run is there that could have sent them."""
    newest, gone = facts.unrecorded_since(), facts.newest_success()
    if newest is None or gone is None:
        return
    why = "the database does not take their records; the log of the last run says why"
    action = (
        "Mend that; the records wait in a file beside the runner, and the next run stores them."
    )
    if facts.records_held_by:
        holder = facts.records_held_by[0]
        why = f"{_session(facts, holder)} keeps the table of runs locked"
        action = (
            "If nothing works there, end it in the database: "
            f"SELECT pg_terminate_backend({holder['pid']})"
        )
    message = (
        f"Messages go out, the last at {facts.wall.at(gone)}, but no run has been recorded since "
        f"{facts.wall.at(newest)}: {why}."
    )
    yield Reason("runs_not_recorded", FAILING, message, action, newest, page="/ops/runs")


def phase_locked_out(facts: Facts) -> Iterator[Reason]:
    """Phases that something else kept from running."""
    for each, holders in facts.locked_out:
        yield _locked_out(facts, each, holders)


def _locked_out(facts: Facts, each: LockedOut, holders: list[Row]) -> Reason:
    """A phase that something else keeps from running, and who that is."""
    by, action = "nobody holds its lock now", "Nothing: the next run does it."
    if holders:
        oldest = holders[0]  # the likeliest to hang
        many = f"one of its {len(holders)} locks, the longest"
        by = f"{_session(facts, oldest)} holds {'its lock' if len(holders) == 1 else many}"
        action = (
            "If nothing works there, end it in the database: "
            f"SELECT pg_terminate_backend({oldest['pid']})"
        )
    name = words.capital(_NAMES[each.phase.letter])
    message = f"{name} has not run since {facts.wall.at(each.since)}, in {each.runs} runs: {by}."
    return Reason("phase_locked_out", DEGRADED, message, action, each.since, page="/ops/runs")


def _session(facts: Facts, row: Row) -> str:
    """A session of the database, as far as the role may see it."""
    application = row["application_name"] or "another role's session"
    start = row["backend_start"]
    return f"{application}, connected since {facts.wall.at(start)}," if start else application
