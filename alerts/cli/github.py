"""A run's output on GitHub Actions: a summary table, and annotations, which the app shows first.

It contains only codes, counts and times; a run's error texts are redacted before they get here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from alerts import phases
from alerts.runs.counts import COUNTS
from alerts.runs.record import RunItem, RunRecord

_NAMES = {phase.letter: phase.name for phase in phases.PHASES}


def summary(record: RunRecord, *, recorded: bool, oldest_minutes: Mapping[str, Any]) -> str:
    """The step summary as Markdown. ``oldest_minutes``: the longest wait per queue, or None."""
    dry = ", dry run" if record.dry_run else ""
    lines = [
        f"### Alerts engine: {record.status}{dry}, {_seconds(record.duration_ms)}",
        "",
        "| phase | status | duration | did |",
        "| --- | --- | ---: | --- |",
        *(
            f"| {i.phase} {_NAMES[i.phase]} | {i.status} | {_seconds(i.duration_ms)} | {_did(i)} |"
            for i in record.items
        ),
        "",
    ]
    if record.error_summary:
        lines += [f"**Why:** {_cell(record.error_summary)}", ""]
    waits = ", ".join(
        f"{name} {'none' if minutes is None else f'{minutes} min'}"
        for name, minutes in oldest_minutes.items()
    )
    if waits:
        lines += [f"Oldest queued: {waits}", ""]
    run_id = f"`{record.run_id}`"
    lines.append(f"Run [{run_id}]({record.ci_run_url})" if record.ci_run_url else f"Run {run_id}")
    if not recorded:
        lines += ["", "The run could not be recorded in the database."]
    return "\n".join(lines) + "\n"


def workflow_commands(record: RunRecord, *, recorded: bool) -> list[str]:
    """Workflow commands; for a failed run, the first says why."""
    found = []
    if record.status == "failed":
        found.append(_command("error", f"Run failed: {record.error_summary}"))
    for item in record.items:
        name = f"phase {item.phase} ({_NAMES[item.phase]})"
        if item.status == "failed":
            found.append(_command("error", f"{name}: {item.error_summary}"))
        elif item.status == "skipped" and record.status != "skipped":
            found.append(_command("warning", f"{name} skipped: {item.error_summary}"))
        stopped = item.counts.get("stopped_early")
        if stopped:
            found.append(_command("warning", f"phase {item.phase} stopped early: {stopped}"))
        if item.counts.get("warning"):
            text = f"phase {item.phase}: {item.counts['warning']}"
            found.append(_command("warning", text))
    if record.status == "skipped":
        found.append(_command("warning", f"Run skipped: {record.error_summary}"))
    if not recorded:
        found.append(_command("warning", "The run could not be recorded in the database."))
    return found


def problem_commands(problems: Iterable[str]) -> list[str]:
    """One error per problem that prevents a run from starting."""
    return [_command("error", problem) for problem in problems]


def _command(level: str, text: str) -> str:
    # Escaping for GitHub's workflow commands, where a line break would end the message.
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return f"::{level} title=Alerts engine::{escaped}"


def _did(item: RunItem) -> str:
    totals: dict[str, int] = {}
    for counts in (item.counts, *(v for v in item.counts.values() if isinstance(v, Mapping))):
        for name, value in counts.items():
            if isinstance(value, int) and not isinstance(value, bool):
                totals[name] = totals.get(name, 0) + value
    told = [f"{totals[c.name]} {c.words}" for c in COUNTS if c.summary and totals.get(c.name)]
    return "; ".join(told) or _cell(item.error_summary or "nothing to do")


def _seconds(milliseconds: int | None) -> str:
    return f"{(milliseconds or 0) / 1000:.1f} s"


def _cell(text: str) -> str:
    # Markup in a message must not end the cell or become part of the page.
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    return " ".join(escaped.split())
