"""A run's output on GitHub Actions: a summary table, and annotations, which the app shows first.

It contains only codes, counts and times; a run's error texts are redacted before they get here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from alerts import phases
from alerts.health.brief import brief
from alerts.health.reasons import FAILING, NOTE
from alerts.runs.counts import COUNTS
from alerts.runs.record import RunItem, RunRecord

_NAMES = {phase.letter: phase.name for phase in phases.PHASES}


_STOPPED = {
    "cap": "it had sent as many messages as a run may (ALERTS_MAX_SEND_PER_RUN)",
    "deadline": "its time was up",
    "signal": "it was told to stop",
    "lock_lost": "the connection that held its lock ended",
    "rate_limited": "a provider asked us to slow down",
}
_SKIPPED = {"lock_not_acquired": "another run is doing it"}
_DEFECT = {"counts_do_not_add_up": "its counts do not add up, which is a defect of the engine"}

Health = Mapping[str, Any]


def summary(record: RunRecord, *, recorded: bool, health: Health | None) -> str:
    """The step summary as Markdown. ``health``: at the run's end, None where it is not known."""
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
    if health is not None:
        lines += [*_in_brief(health), f"Oldest queued: {_waits(health)}", ""]
    run_id = f"`{record.run_id}`"
    lines.append(f"Run [{run_id}]({record.ci_run_url})" if record.ci_run_url else f"Run {run_id}")
    if not recorded:
        lines += ["", "The run could not be recorded in the database."]
    return "\n".join(lines) + "\n"


def _in_brief(health: Health) -> list[str]:
    """What health says at a glance: the verdict, and what to do."""
    view = brief(health)
    lines = [f"**Now {view['status']}:** {_cell(view['headline'])}"]
    for number, reason in enumerate(view["reasons"]):
        if number or view["status"] == "ok":
            lines.append(f"- {_cell(reason['message'])}")
        if reason["action"]:
            lines.append(f"- → {_cell(reason['action'])}")
    return [*lines, ""]


def _waits(health: Health) -> str:
    waits = {kind: health[f"oldest_queued_{kind}_minutes"] for kind in ("delivery", "digest")}
    return ", ".join(
        f"{kind} {'none' if minutes is None else f'{minutes} min'}"
        for kind, minutes in waits.items()
    )


def workflow_commands(
    record: RunRecord, *, recorded: bool, health: Health | None = None
) -> list[str]:
    """Workflow commands; for a failed run, the first say why: in health's words, then its own.

    Health leaves dry runs out, so it says nothing of one.
    """
    failed = record.status == "failed"
    found = [] if health is None or record.dry_run else _reasons(health, failed=failed)
    if failed:
        found.append(_command("error", f"Run failed: {record.error_summary}"))
    for item in record.items:
        name = f"phase {item.phase} ({_NAMES[item.phase]})"
        if item.status == "failed":
            found.append(_command("error", f"{name}: {item.error_summary}"))
        elif item.status == "skipped" and record.status != "skipped":
            found.append(_command("warning", f"{name} skipped: {_why(item.error_summary)}"))
        stopped, odd = item.counts.get("stopped_early"), item.counts.get("warning")
        if stopped:
            found.append(
                _command("warning", f"{name} stopped early: {_STOPPED.get(stopped, stopped)}")
            )
        if odd:
            found.append(_command("warning", f"{name}: {_DEFECT.get(odd, odd)}"))
    if record.status == "skipped":
        found.append(_command("warning", f"Run skipped: {_why(record.error_summary)}"))
    if not recorded:
        found.append(_command("warning", "The run could not be recorded in the database."))
    return found


def _reasons(health: Health, *, failed: bool) -> list[str]:
    """A command for each reason of the brief view that is more than a note.

    The first of a failed run is an error, whatever it is to health: it is why.
    """
    told = [each for each in brief(health)["reasons"] if each["severity"] != NOTE]
    return [
        _command(
            "error" if each["severity"] == FAILING or (failed and not number) else "warning",
            f"{each['message']} {each['action']}".strip(),
        )
        for number, each in enumerate(told)
    ]


def _why(summary: str | None) -> str:
    return _SKIPPED.get(summary or "", summary or "")


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
