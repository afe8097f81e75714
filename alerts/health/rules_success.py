"""Why no run has succeeded for too long: one symptom with many causes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from alerts import words
from alerts.health.facts import Facts
from alerts.health.reasons import FAILING, Reason
from alerts.health.rules_runs import runs_not_recorded
from alerts.health.runs import was_lost
from alerts.locks import LOCK_NOT_ACQUIRED

INTERVALS_WITHOUT_SUCCESS = 3
Why = tuple[str, str, str]  # cause, message, action


def no_recent_success(facts: Facts) -> Iterator[Reason]:
    """No run has succeeded for three intervals, and why."""
    runs = facts.runs
    if runs.last_finished is None:
        return  # never_run
    ended = runs.last_success_at
    if ended is not None and facts.wall.ago(ended) <= INTERVALS_WITHOUT_SUCCESS * facts.interval:
        return
    none = "no run has succeeded " + (f"since {facts.wall.at(ended)}" if ended else "yet")
    cause, message, action = next(why for each in _CAUSES if (why := each(facts, none)))
    since = ended
    if cause == "not_started":
        since = datetime.fromisoformat(runs.recent[0]["started_at"])
    yield Reason(
        "no_recent_success", FAILING, message, action, since, cause=cause, page="/ops/runs"
    )


def _paused(facts: Facts, none: str) -> Why | None:
    if all(each["channel"] is not None for each in facts.paused):
        return None
    text = f"The engine is paused: {none}."
    return "paused", text, "Resume it when the reason is gone."


def _switched_off(facts: Facts, none: str) -> Why | None:
    if facts.engine.enabled:
        return None
    text = f"The variable ALERTS_V2_ENABLED turns the engine off: {none}."
    return "switched_off", text, f"Set it to true {facts.place()}."


def _not_recorded(facts: Facts, none: str) -> Why | None:
    found = next(iter(runs_not_recorded(facts)), None)
    return None if found is None else ("not_recorded", found.message, found.action)


def _not_started(facts: Facts, none: str) -> Why | None:
    """The newest run is as old as the trouble."""
    newest = facts.runs.recent[0] if facts.runs.recent else None
    started = datetime.fromisoformat(newest["started_at"]) if newest else None
    allowed = INTERVALS_WITHOUT_SUCCESS * facts.interval
    if started is None or facts.wall.ago(started) <= allowed or _is_running(newest):
        return None
    at = facts.wall.at(started)
    dry = facts.runs.last_dry
    if dry is not None and datetime.fromisoformat(dry["started_at"]) > started:
        text = f"Only dry runs have been started since {at}, and they send nothing by intent."
        return "dry_runs", text, "Start a run without the dry-run option."
    every = words.duration(facts.interval.total_seconds())
    if facts.schedule["last_scheduled_at"] is None:
        text = f"Nothing has started a run since {at}, though one is due every {every}."
        action = "Start what calls python -m alerts.runner, and run it by hand meanwhile."
        return "not_started", text, action
    text = f"The schedule has started no run since {at}, though one is due every {every}."
    action = "On GitHub, under Actions, enable the workflow, and run it by hand meanwhile."
    return "not_started", text, action


def _is_running(run: dict[str, Any] | None) -> bool:
    return run is not None and run["status"] == "running"


def _killed(facts: Facts, none: str) -> Why | None:
    newest = facts.runs.recent[0]
    silent = {run["run_id"] for run in facts.runs.silent}
    if newest["run_id"] not in silent and not was_lost(newest):
        return None
    at = facts.wall.at(datetime.fromisoformat(newest["heard_at"]))
    died = sum(was_lost(run) or run["run_id"] in silent for run in facts.runs.recent)
    text = f"Runs are started and die, the last one at {at}, {died} recently: {none}."
    action = "See the end of the last run's log: too little memory or time, or a cancelled job."
    return "killed", text, action


def _under_way(facts: Facts, none: str) -> Why | None:
    newest = facts.runs.recent[0]
    if newest["status"] != "running":
        return None
    at = facts.wall.at(datetime.fromisoformat(newest["started_at"]))
    return "under_way", f"A run has been under way since {at}: {none}.", "Wait for it, or end it."


def _failing(facts: Facts, none: str) -> Why | None:
    last = facts.runs.last_finished or {}
    if last["status"] != "failed":
        return None
    if facts.around.lacking:
        names = words.listed(facts.around.lacking)
        text = f"Runs fail, as the database lacks {names}: {none}."
        return "migrations", text, "Run python scripts/migrate.py on this database."
    at = facts.wall.at(datetime.fromisoformat(last["finished_at"]))
    text = f"Runs are started and fail, the last one at {at}: {none}."
    return "failing", text, "Mend what the last run says, and start another."


def _locked_out(facts: Facts, none: str) -> Why | None:
    last = next((run for run in facts.runs.recent if run["status"] != "running"), None)
    if last is None or last["error_summary"] != LOCK_NOT_ACQUIRED:
        return None
    text = f"Something else holds the locks of all phases, so runs do nothing: {none}."
    return "locked_out", text, "See who holds them, and end what hangs."


def _other(facts: Facts, none: str) -> Why:
    return "unknown", f"{words.capital(none)}.", "Look at what the last runs say."


_CAUSES: tuple[Callable[[Facts, str], Why | None], ...] = (
    _paused,
    _switched_off,
    _not_recorded,
    _not_started,
    _killed,
    _under_way,
    _failing,
    _locked_out,
    _other,
)
