"""What people are shown: phases, runs, health and the rest as lines of text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from alerts import phases
from alerts.console_text import Column, Style, clean, clip, pad, table, width_of, wrap

_NAMES = {phase.letter: phase.name for phase in phases.PHASES}
_TRIGGERS = {"github_actions_schedule": "schedule", "github_actions_manual": "manual"}
_COUNTS_INDENT = 4

# Counts whose names do not speak for themselves.
_WORDS = {
    "events_existing": "events that were there already",
    "events_processed": "events fanned out",
    "events_expired": "events too old to fan out",
    "deliveries_considered": "deliveries considered",
    "instant_created": "of them instant",
    "digest_created": "of them for a digest",
    "overflow_to_digest": "over the daily quota, moved to a digest",
    "deliveries_skipped_plan_type": "not in the user's plan",
    "deliveries_skipped_prefs": "not what the user asked for",
    "deliveries_skipped_missing_destination": "user without an address there",
    "deliveries_skipped_channel_not_in_plan": "channel not in the user's plan",
    "deliveries_skipped_exists": "delivered before",
    "deliveries_skipped_quota": "over the daily quota",
    "allowlist_active": "only users of the allowlist",
    "windows_built": "digest windows closed",
    "digest_items_attached": "alerts put into digests",
    "deliveries_marked_batched": "deliveries that a digest carries",
    "retried": "to be tried again",
    "released": "put back untried",
    "rescued": "rescued from a lost run",
    "skipped_not_configured": "skipped: no provider",
    "skipped_missing_destination": "skipped: no address",
    "skipped_expired": "skipped: too old",
    "claims_lost": "outcomes that came too late",
    "channels_held": "channel held",
}


def phase(style: Style, item: Mapping[str, Any]) -> list[str]:
    """A finished phase: what it is and how it ended, its counts, and what went wrong."""
    letter, status = clean(item["phase"]), clean(item["status"])
    name = pad(clip(_NAMES.get(letter, letter), 14), 14)
    took = duration(item.get("duration_ms"))
    lines = [f"{letter}  {name}  {style.status(pad(status, 8))}  {took:>8}"]
    lines += _counts(style, item)
    if item.get("error_summary"):
        lines += _painted(style, wrap(item["error_summary"], style.width, 3), status)
    elif len(lines) == 1:
        lines.append("   nothing to do")
    return lines


def run_end(style: Style, run: Mapping[str, Any], *, recorded: bool) -> list[str]:
    """The last line of a run, and why it failed where no phase has said so."""
    status = style.status(clean(run["status"]))
    lines = [f"run {clean(run['run_id'])}: {status} in {duration(run.get('duration_ms'))}"]
    if width_of(f"run {run['run_id']}: {run['status']} in 999.99 s") > style.width:
        lines = [f"run {status} in {duration(run.get('duration_ms'))}", f"    {run['run_id']}"]
    if run.get("dry_run"):
        lines.append("    dry run: nothing was changed")
    if not recorded:
        text = "the run could not be recorded in the database"
        lines += _painted(style, wrap(text, style.width, 4), "warning")
    if run.get("error_summary"):
        lines += _painted(style, wrap(run["error_summary"], style.width, 4), clean(run["status"]))
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
    rows = [
        (
            moment(run["started_at"], short=style.width < 72), _trigger(run), run["phase"],
            "stale" if run.get("stale") else run["status"],
            duration(run.get("duration_ms")), _sent_and_failed(run.get("counts") or {}),
        )
        for run in found
    ]  # fmt: skip
    below = [[style.paint(f"  {clean(run['run_id'])}", "dim"), *_why(style, run)] for run in found]
    return table(style, columns, rows, below)


def run(style: Style, answer: Mapping[str, Any]) -> list[str]:
    """One run with its phases."""
    found = answer["run"]
    status = "stale" if found.get("stale") else clean(found["status"])
    lines = [
        f"run       {clean(found['run_id'])}",
        f"status    {style.status(status)}{', dry run' if found.get('dry_run') else ''}",
        f"started   {moment(found['started_at'])} UTC by {_trigger(found)}",
        f"took      {duration(found.get('duration_ms'))}",
    ]
    lines += [f"{name:<8}  {clean(found[key])}" for name, key in _RUN_EXTRAS if found.get(key)]
    lines += _why(style, found)
    for item in answer["items"]:
        lines += ["", *phase(style, item)]
    return lines


_RUN_EXTRAS = (("version", "git_sha"), ("on GitHub", "ci_run_url"))


def health(style: Style, answer: Mapping[str, Any]) -> list[str]:
    """Status and reasons first, then channels, queues and the last run."""
    lines = [f"{style.status(clean(answer['status']))}, {moment(answer['generated_at'])} UTC"]
    for reason in answer["reasons"]:
        lines += _finding(style, answer["status"], reason["code"], reason["message"])
    for title, key in (("deliveries, 24 h", "deliveries_24h"), ("digests, 7 days", "digests_7d")):
        lines += ["", *_channels(style, title, answer[key])]
    if answer["failures_24h"]:
        columns = [Column("failed, 24 h"), Column("code"), Column("count", right=True)]
        rows = [(f["channel"], f["failure_code"] or "", f["count"]) for f in answer["failures_24h"]]
        lines += ["", *table(style, columns, rows)]
    lines += [
        "",
        f"oldest due delivery  {_minutes(answer['oldest_queued_delivery_minutes'])}",
        f"oldest due digest    {_minutes(answer['oldest_queued_digest_minutes'])}",
        f"last success         {_minutes(answer['last_success_minutes'], ' ago')}",
    ]
    last = answer["last_run"]
    if last:
        when = moment(last["started_at"])
        lines.append(f"last run             {style.status(clean(last['status']))}, {when} UTC")
        lines.append(f"                     {clean(last['run_id'])}")
    return lines


def preflight(style: Style, answer: Mapping[str, Any]) -> list[str]:
    """Whether a run has all it needs; each finding with what to do about it."""
    errors, warnings = answer["errors"], answer["warnings"]
    told = [f"{len(found)} {name}" for name, found in (("error(s)", errors),
            ("warning(s)", warnings)) if found]  # fmt: skip
    lines = [", ".join([style.status("ok" if answer["ok"] else "failing"), *told])]
    for severity, found in (("error", errors), ("warning", warnings)):
        for one in found:
            lines += _finding(style, severity, one["id"], one["message"], one["hint"])
    lines += ["", f"database    {_yes(style, answer['db_ok'])}"]
    lines.append(f"migrations  {_yes(style, answer['migrations_ok'])}")
    for channel in answer["channels_configured"]:
        provider = answer["providers"].get(channel)
        shown = clean(provider) if provider else style.paint("not configured", "dim")
        lines.append(f"{pad(clean(channel), 10)}  {shown}")
    return lines


def retry(style: Style, answer: Mapping[str, Any]) -> list[str]:
    """What was queued again, and what was left out and why."""
    dry = answer["dry_run"]
    done = "would be queued again (dry run: nothing was changed)" if dry else "queued again"
    kind = clean(answer["kind"])
    lines = wrap(f"{answer['requeued']} of {answer['eligible']} {kind} {done}", style.width)
    lines += _tally("by channel", answer["by_channel"])
    lines += _tally("left out", answer["excluded"])
    if answer["action_id"] is not None:
        lines.append(f"audit entry {answer['action_id']}")
    return lines


def replay(style: Style, answer: Mapping[str, Any]) -> list[str]:
    """What became of a saved spool."""
    text = f"{answer['stored']} run record(s) stored, {answer['rejected']} line(s) were none"
    return wrap(text, style.width)


VIEWS: dict[str, Callable[[Style, Mapping[str, Any]], list[str]]] = {
    "health": health, "preflight": preflight, "replay_spool": replay, "retry_failed": retry,
    "run": run, "runs": runs,
}  # fmt: skip


def moment(text: str, *, short: bool = False) -> str:
    """An ISO time of an answer, to the minute; ``short`` leaves out the year."""
    return datetime.fromisoformat(text).strftime("%m-%d %H:%M" if short else "%Y-%m-%d %H:%M")


def duration(milliseconds: int | None) -> str:
    """Seconds, or minutes and hours where they are many."""
    if milliseconds is None:
        return "-"
    seconds = milliseconds / 1000
    if seconds < 60:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m"


def _counts(style: Style, item: Mapping[str, Any]) -> list[str]:
    """A line a count, numbers first; zeros are left out, and what the summary says anyway."""
    shown = [
        (str(value) if isinstance(value, int) else clean(value), words)
        for words, value in _flat(item.get("counts") or {})
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


def _flat(counts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in counts.items():
        words = clean(_WORDS.get(name, str(name).replace("_", " ")))
        if isinstance(value, Mapping):
            found.extend(_flat(value, f"{prefix}{words}: "))
        else:
            found.append((prefix + words, value))
    return found


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
    dry = ["  dry run"] if run.get("dry_run") else []
    return dry + _painted(style, wrap(run.get("error_summary") or "", style.width, 2), status)


def _channels(style: Style, title: str, channels: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A row a channel; of the counts those that any channel has, and the usual three."""
    always = ("queued", "sent", "failed")
    keys = [
        key
        for key in next(iter(channels.values()), {})
        if key in always or any(counts[key] for counts in channels.values())
    ]
    columns = [Column(title), *(Column(key, right=True) for key in keys)]
    rows = [(name, *(counts[key] for key in keys)) for name, counts in channels.items()]
    return table(style, columns, rows)


def _finding(style: Style, severity: str, code: str, text: str, hint: str = "") -> list[str]:
    lines = _painted(style, wrap(code, style.width, 2), severity)
    lines += wrap(text, style.width, 4)
    return lines + (wrap(f"-> {hint}", style.width, 4) if hint else [])


def _tally(title: str, counts: Mapping[str, int]) -> list[str]:
    return [f"  {title}: {clean(name)} {count}" for name, count in counts.items()]


def _painted(style: Style, lines: list[str], status: str) -> list[str]:
    # Colour per line, so that a reader that shows a part of the text shows it right.
    return [style.like(line, status) for line in lines]


def _yes(style: Style, good: bool) -> str:
    return style.status("ok" if good else "failed")


def _minutes(minutes: float | None, suffix: str = "") -> str:
    return "none" if minutes is None else f"{minutes:g} min{suffix}"
