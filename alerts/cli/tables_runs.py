"""How the command line shows runs and their phases to people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alerts import phases
from alerts.cli.text import (
    Column,
    Style,
    clean,
    clip,
    duration,
    facts,
    moment,
    pad,
    table,
    width_of,
    wrap,
)
from alerts.runs.counts import flat

_NAMES = {phase.letter: phase.name for phase in phases.PHASES}
_TRIGGERS = {"github_actions_schedule": "schedule", "github_actions_manual": "manual"}
_RUN_EXTRAS = (("version", "git_sha"), ("on GitHub", "ci_run_url"))
_WIDE = 106  # columns for a run including its id
_COUNTS_INDENT = 4
_LATE_SECONDS = 60  # shorter delays are normal scheduler jitter

# What is worth showing about a channel in a run; the reason for a hold is shown separately.
_TOLD_OF_CHANNEL = ("paused", "rate_limited")


def phase(style: Style, item: Mapping[str, Any]) -> list[str]:
    """A finished phase: name, status, duration, counts and any error."""
    letter, status = clip(clean(item["phase"]), 3), clip(clean(item["status"]), 8)
    name = pad(clip(_NAMES.get(letter, letter), 15), 15)
    took = duration(item.get("duration_ms"))
    lines = [f"{letter}  {name}  {style.status(pad(status, 8))}  {took:>8}"]
    lines += _counts(style, item)
    if item.get("error_summary"):
        lines += style.lines(wrap(item["error_summary"], style.width, 3), status)
    elif len(lines) == 1:
        lines.append("   nothing to do")
    return lines


def run_end(style: Style, run: Mapping[str, Any], *, recorded: bool) -> list[str]:
    """The last line of a run, and why it failed if no phase explains it."""
    status = style.status(clean(run["status"]))
    lines = [f"run {clean(run['run_id'])}: {status} in {duration(run.get('duration_ms'))}"]
    if width_of(f"run {run['run_id']}: {run['status']} in 999.99 s") > style.width:
        lines = [f"run {status} in {duration(run.get('duration_ms'))}", f"    {run['run_id']}"]
    if run.get("dry_run"):
        lines.append("    dry run: nothing was changed")
    if not recorded:
        text = "the run could not be recorded in the database"
        lines += style.lines(wrap(text, style.width, 4), "warning")
    if run.get("error_summary"):
        lines += style.lines(wrap(run["error_summary"], style.width, 4), clean(run["status"]))
    return lines


def runs(style: Style, answer: Mapping[str, Any]) -> list[str]:
    """The list of runs, newest first."""
    found = answer["runs"]
    if not found:
        return ["no run yet"]
    columns = [
        Column("when (UTC)"), Column("trigger"), Column("phase"), Column("status", status=True),
        Column("took", right=True), Column("sent/failed", right=True),
    ]  # fmt: skip
    rows: list[tuple[object, ...]] = [
        (
            moment(run["started_at"], short=style.width < 72), _trigger(run), run["phase"],
            "stale" if run.get("stale") else run["status"],
            duration(run.get("duration_ms")), _sent_and_failed(run.get("counts") or {}),
        )
        for run in found
    ]  # fmt: skip
    ids = [clean(run["run_id"]) for run in found]
    below = [_why(style, run) for run in found]
    if style.width >= _WIDE:
        columns.append(Column("run"))
        rows = [(*row, id_) for row, id_ in zip(rows, ids, strict=True)]
    else:
        below = [
            [style.paint(clip(f"  {id_}", style.width), "dim"), *lines]
            for id_, lines in zip(ids, below, strict=True)
        ]
    return table(style, columns, rows, below)


def run(style: Style, answer: Mapping[str, Any]) -> list[str]:
    found = answer["run"]
    status = "stale" if found.get("stale") else clean(found["status"])
    pairs = [
        ("run", clean(found["run_id"])),
        ("status", f"{status}, dry run" if found.get("dry_run") else status),
        ("started", f"{moment(found['started_at'])} UTC by {_trigger(found)}{_late(found)}"),
        ("took", duration(found.get("duration_ms"))),
    ]
    pairs += [(name, clean(found[key])) for name, key in _RUN_EXTRAS if found.get(key)]
    lines = facts(style, pairs)
    lines += style.lines(wrap(found.get("error_summary") or "", style.width, 2), status)
    for item in answer["items"]:
        lines += ["", *phase(style, item)]
    return lines


def _late(run: Mapping[str, Any]) -> str:
    """How late the schedule started the run, if worth mentioning."""
    seconds = run.get("late_seconds") or 0
    return f", {duration(seconds * 1000)} late" if seconds >= _LATE_SECONDS else ""


def _counts(style: Style, item: Mapping[str, Any]) -> list[str]:
    """One line per count, number first; omits zeros and anything the summary already says."""
    shown = [
        (str(value) if isinstance(value, int) else clean(value), clean(words))
        for words, value in flat(_told(item.get("counts") or {}))
        if value and value != item.get("error_summary")
    ]
    wide = max((width_of(value) for value, _ in shown if value.isdigit()), default=0)
    lines = []
    for value, words in shown:
        if value.isdigit():
            text = f"{' ' * _COUNTS_INDENT}{value:>{wide}}  {words}"
        else:
            text = f"{' ' * _COUNTS_INDENT}{words}" + ("" if value == "True" else f": {value}")
        lines.append(clip(text, style.width))
    return lines


def _told(counts: Mapping[str, Any]) -> Mapping[str, Any]:
    """Reduce the channels' counts to what was unusual."""
    seen = counts.get("channels")
    if not isinstance(seen, Mapping):
        return counts
    unusual = {
        name: {key: facts.get(key) for key in _TOLD_OF_CHANNEL}
        for name, facts in seen.items()
        if isinstance(facts, Mapping)
    }
    return {**counts, "channels": unusual}


def _sent_and_failed(counts: Mapping[str, Any]) -> str:
    sent = failed = 0
    sending = counts.get("c") or {}
    for queue in ("deliveries", "digests"):
        tally = sending.get(queue) if isinstance(sending, Mapping) else None
        if isinstance(tally, Mapping):
            sent, failed = sent + tally.get("sent", 0), failed + tally.get("failed", 0)
    return f"{sent}/{failed}" if sending else "-"


def _trigger(run: Mapping[str, Any]) -> str:
    return clean(_TRIGGERS.get(run["triggered_by"], run["triggered_by"]))


def _why(style: Style, run: Mapping[str, Any]) -> list[str]:
    status = "stale" if run.get("stale") else clean(run["status"])
    told = ["  dry run"] if run.get("dry_run") else []
    if late := _late(run):
        told.append(f"  started{late.lstrip(',')}")
    return told + style.lines(wrap(run.get("error_summary") or "", style.width, 2), status)
