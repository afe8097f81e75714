"""How the command line shows deliveries, digests and explanations to people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alerts.cli.text import Column, Style, clean, facts, moment, table, wrap
from alerts.messages.wording import name_of_type


def rows(name: str, style: Style, answer: Mapping[str, Any]) -> list[str]:
    """One row per delivery or digest, and where the next page begins."""
    columns = [
        Column("id", right=True), Column("user", right=True), Column("channel"),
        Column("status"), Column("code"), Column("created, UTC"),
    ]  # fmt: skip
    cells = [
        (r["id"], r["user_id"], r["channel"], r["status"], r["failure_code"] or "",
         moment(r["created_at"]))
        for r in answer[name]
    ]  # fmt: skip
    lines = table(style, columns, cells) if cells else [f"no {name} here"]
    if answer["next_before"]:
        lines += wrap(f"more: --before {answer['next_before']}", style.width, 2)
    return lines


def deliveries(style: Style, answer: Mapping[str, Any]) -> list[str]:
    return rows("deliveries", style, answer)


def digests(style: Style, answer: Mapping[str, Any]) -> list[str]:
    return rows("digests", style, answer)


def one(style: Style, answer: Mapping[str, Any]) -> list[str]:
    """A delivery or digest with its related rows, one field per line."""
    lines: list[str] = []
    for part, value in answer.items():
        if isinstance(value, Mapping):
            pairs = [(k, clean(str(v))) for k, v in value.items() if v is not None]
            lines += [part, *facts(style, pairs), ""]
        elif isinstance(value, list):
            shown = [f"{item['delivery_id']} (event {item['event_id']})" for item in value]
            lines += wrap(f"{part}: {', '.join(shown)}", style.width, 2)
    return lines


def explanation(style: Style, answer: Mapping[str, Any]) -> list[str]:
    """One sentence per channel, and what to do where there is something."""
    event = answer["event"]
    kind = name_of_type(event["alert_type"]).lower()
    title = f"event {answer['event_id']} ({clean(kind)}) and user "
    title += f"{answer['user_id']}, {_FANOUT[answer['fanout']]}"
    lines = wrap(title, style.width)
    for channel in answer["channels"]:
        lines += wrap(f"{channel['channel']}: {clean(channel['summary'])}", style.width, 2)
        if channel["action"]:
            lines += wrap(f"-> {clean(channel['action'])}", style.width, 4)
    return lines


_FANOUT = {
    "done": "handed out",
    "pending": "yet to be handed out",
    "expired": "never handed out",
}
