"""How the command line shows answers to people: health, preflight, retries and so on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alerts.cli.text import Column, Style, clean, duration, facts, moment, table, wrap
from alerts.health.brief import brief, brief_text
from alerts.words import count


def health(style: Style, answer: Mapping[str, Any]) -> list[str]:
    """What :func:`brief_text` says, then counts, queues and the schedule."""
    whole = "headline" not in answer
    lines = _brief(style, brief(answer) if whole else answer)
    return [*lines, *_whole(style, answer)] if whole else lines


def _brief(style: Style, told: Mapping[str, Any]) -> list[str]:
    """The brief view; what bears on the status is coloured."""
    lines: list[str] = []
    for number, line in enumerate(brief_text(told).splitlines()):
        wrapped = wrap(line, style.width) or [""]
        lines += style.lines(wrapped, clean(told["status"])) if not number else wrapped
    return lines


def _whole(style: Style, answer: Mapping[str, Any]) -> list[str]:
    shown = [each["message"] for each in brief(answer)["reasons"]]
    lines: list[str] = []
    for reason in answer["reasons"]:
        if reason["message"] not in shown:
            lines += ["", *wrap(reason["message"], style.width)]
            lines += wrap(f"-> {reason['action']}", style.width) if reason["action"] else []
    for title, key in (("deliveries, 24 h", "deliveries_24h"), ("digests, 7 days", "digests_7d")):
        lines += ["", *_channels(style, title, answer[key])]
    if answer["failures_24h"]:
        columns = [Column("failed, 24 h"), Column("code"), Column("count", right=True)]
        rows = [(f["channel"], f["failure_code"] or "", f["count"]) for f in answer["failures_24h"]]
        lines += ["", *table(style, columns, rows)]
    lines += ["", *_doubts(style, answer["channels"])]
    pairs = [
        ("oldest due delivery", _minutes(answer["oldest_queued_delivery_minutes"])),
        ("oldest due digest", _minutes(answer["oldest_queued_digest_minutes"])),
        ("last success", _minutes(answer["last_success_minutes"], " ago")),
    ]
    last = answer["last_run"]
    if last:
        pairs.append(("last run", f"{clean(last['status'])}, {moment(last['started_at'])} UTC"))
        pairs.append(("", clean(last["run_id"])))
    schedule = answer["schedule"]
    if schedule["last_scheduled_at"]:
        every = f"every {schedule['expected_interval_minutes']} min"
        late = duration((schedule["last_late_seconds"] or 0) * 1000)
        pairs += [
            ("schedule", f"{every}, the last run started {late} late"),
            ("missed slots, 24 h", count(schedule["missed_slots_24h"], "slot")),
            ("lost runs, 24 h", count(schedule["lost_runs_24h"], "run")),
        ]
    return [*lines, "", *facts(style, pairs)]


def preflight(style: Style, answer: Mapping[str, Any]) -> list[str]:
    """Whether a run has everything it needs; each finding with what to do about it."""
    errors, warnings = answer["errors"], answer["warnings"]
    told = [count(len(found), name) for name, found in (("error", errors), ("warning", warnings))
            if found]  # fmt: skip
    lines = [", ".join([style.status("ok" if answer["ok"] else "failing"), *told])]
    for severity, found in (("error", errors), ("warning", warnings)):
        for one in found:
            lines += _finding(
                style, severity, f"{severity}: {one['id']}", one["message"], one["hint"]
            )
    pairs = [("database", _yes(answer["db_ok"])), ("migrations", _yes(answer["migrations_ok"]))]
    for channel in answer["channels_configured"]:
        pairs.append((clean(channel), clean(answer["providers"].get(channel, "not configured"))))
    if answer["badge"]:
        pairs.append(("badge", clean(answer["badge"])))
    return [*lines, "", *facts(style, pairs)]


def deployment(style: Style, answer: Mapping[str, Any]) -> list[str]:
    """What is wrong with a running app; each finding with what to do about it."""
    lines = [style.status("ok" if answer["ok"] else "failing")]
    for severity in ("error", "warning"):
        for one in answer[f"{severity}s"]:
            lines += _finding(
                style, severity, f"{severity}: {one['id']}", one["message"], one["hint"]
            )
    pairs = [("address", clean(answer["url"])), ("version", clean(answer["version"] or "unknown"))]
    return [*lines, "", *facts(style, pairs), *wrap(", ".join(answer["passed"]), style.width)]


def retry(style: Style, answer: Mapping[str, Any]) -> list[str]:
    """What was queued again, and what was left out and why."""
    dry = answer["dry_run"]
    done = "would be queued again (dry run: nothing was changed)" if dry else "queued again"
    kind = clean(answer["kind"])
    lines = wrap(f"{answer['requeued']} of {answer['eligible']} {kind} {done}", style.width)
    lines += _tally(style.width, "by channel", answer["by_channel"])
    lines += _tally(style.width, "left out", answer["excluded"])
    if answer["action_id"] is not None:
        lines.append(f"audit entry {answer['action_id']}")
    return lines


def replay(style: Style, answer: Mapping[str, Any]) -> list[str]:
    """How many records of a saved spool were stored."""
    stored, rejected = count(answer["stored"], "run record"), count(answer["rejected"], "bad line")
    text = f"{stored} stored, {rejected} set aside"
    return wrap(text, style.width)


def actions(style: Style, answer: Mapping[str, Any]) -> list[str]:
    """The audit: one line per action, then its parameters and result."""
    if not answer["actions"]:
        return ["no admin action yet"]
    lines: list[str] = []
    for each in answer["actions"]:
        who = f"{each['id']}  {clean(each['action'])}, {moment(each['created_at'])} UTC"
        lines += wrap(f"{who}, by {clean(each['token_key_id'])}", style.width)
        for name in ("parameters", "result"):
            told = [f"{key}={value}" for key, value in each[name].items() if value is not None]
            lines += wrap(clean(f"{name}: {', '.join(told)}"), style.width, 4)
    return lines


def paused(style: Style, answer: Mapping[str, Any]) -> list[str]:
    """What is paused after pausing or resuming."""
    lines = [] if answer["was_paused"] else ["it was not paused before"]
    if not answer["paused"]:
        lines.append("nothing is paused")
    for each in answer["paused"]:
        name = clean(each["channel"] or "the engine")
        since = f"{name} has been paused since {moment(each['paused_at'])} UTC"
        lines += wrap(f"{since}: {clean(each['reason'])}", style.width, 2)
    return [*lines, f"audit entry {answer['action_id']}"]


def test_message(style: Style, answer: Mapping[str, Any]) -> list[str]:
    """What became of a test message to the owner."""
    lines = wrap(f"{answer['channel']}: {answer['summary']}", style.width)
    return [*style.lines(lines, "ok" if answer["state"] == "sent" else "failing"),
            f"audit entry {answer['action_id']}"]  # fmt: skip


def pruned(style: Style, answer: Mapping[str, Any]) -> list[str]:
    """What was or would be removed, and which old rows are kept."""
    done = "would be removed (dry run: nothing was changed)" if answer["dry_run"] else "removed"
    lines = wrap(f"older than {moment(answer['cutoff'])} UTC, {done}:", style.width)
    pairs = [(name.replace("_", " "), str(count)) for name, count in answer["removed"].items()]
    lines += facts(style, pairs)
    lines += _tally(style.width, "kept, still open", answer["kept_open"])
    if answer["action_id"] is not None:
        lines.append(f"audit entry {answer['action_id']}")
    return lines


def rebuilt(style: Style, answer: Mapping[str, Any]) -> list[str]:
    """How many wrong counts were or would be corrected."""
    dry = "would be corrected (dry run: nothing was changed)"
    done = dry if answer["dry_run"] else "corrected"
    lines = [f"{answer['counts_mended']} counts {done}"]
    if answer["counts_stale_since"]:
        since = moment(answer["counts_stale_since"])
        lines += wrap(f"changes were missed since {since} UTC", style.width, 2)
    if answer["action_id"] is not None:
        lines.append(f"audit entry {answer['action_id']}")
    return lines


def erased(style: Style, answer: Mapping[str, Any]) -> list[str]:
    """What was or would be removed of a user."""
    done = "would be removed (dry run: nothing was changed)" if answer["dry_run"] else "removed"
    lines = wrap(f"of user {answer['user_id']} {done}:", style.width)
    removed = {**answer["removed"], **answer["also_removed"]}
    lines += facts(style, [(clean(n.replace("_", " ")), str(c)) for n, c in removed.items()])
    lines += wrap(f"channels switched off: {answer['channels_switched_off']}", style.width, 2)
    if answer["action_id"] is not None:
        lines.append(f"audit entry {answer['action_id']}")
    return lines


def _channels(style: Style, title: str, channels: Mapping[str, Mapping[str, int]]) -> list[str]:
    """One row per channel; columns for the usual three counts and any that is not zero."""
    always = ("queued", "sent", "failed")
    keys = [
        key
        for key in next(iter(channels.values()), {})
        if key in always or any(counts[key] for counts in channels.values())
    ]
    columns = [Column(title), *(Column(key, right=True) for key in keys)]
    rows = [(name, *(counts[key] for key in keys)) for name, counts in channels.items()]
    return table(style, columns, rows)


def _doubts(style: Style, channels: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One row per channel: what has waited longest and what is in doubt."""
    columns = [Column("channel"), Column("oldest due"), Column("in doubt", right=True)]
    cells = [
        (name, _minutes(told["oldest_due_delivery_minutes"]), sum(told["in_doubt"].values()))
        for name, told in channels.items()
    ]
    return table(style, columns, cells)


def _finding(style: Style, severity: str, code: str, text: str, hint: str = "") -> list[str]:
    lines = style.lines(wrap(code, style.width, 2), severity)
    lines += wrap(text, style.width, 4)
    return lines + (wrap(f"-> {hint}", style.width, 4) if hint else [])


def _tally(width: int, title: str, counts: Mapping[str, int]) -> list[str]:
    lines = [wrap(f"{title}: {name} {count}", width, 2) for name, count in counts.items()]
    return [line for part in lines for line in part]


def _yes(good: bool) -> str:
    return "ok" if good else "failed"


def _minutes(minutes: float | None, suffix: str = "") -> str:
    return "none" if minutes is None else f"{minutes:g} min{suffix}"
