"""What people are shown: the layout, what hostile texts cannot do, and progress."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.cli.console import Progress, progress_text, style_of
from alerts.cli.tables import actions, health, paused, preflight, rebuilt, replay, retry
from alerts.cli.tables_runs import phase, run, run_end, runs
from alerts.cli.text import Column, Style, clean, clip, duration, table, width_of, wrap
from tests.support import CHECKOUT

PHONE = Style(width=60)
COLOURED = Style(width=60, colour=True)
CODES = re.compile(r"\x1b\[[0-9;]*m")
HOSTILE = "broken\r\nline \x1b[31mred\x1b]0;title\x07 \u202edesrever\u2028x\x9b2J\0"

PHASE: dict[str, Any] = {
    "phase": "c",
    "status": "success",
    "duration_ms": 71_200,
    "counts": {
        "channels_held": {},
        "deliveries": {"claimed": 1200, "failed": 0, "retried": 2, "sent": 1198},
        "digests": {"claimed": 0, "sent": 0},
        "stopped_early": "cap",
    },
    "error_summary": None,
}
RUN: dict[str, Any] = {
    "run_id": "5b0c6a1e-7f7b-4f5c-9a53-0d5c0c2f6b11",
    "triggered_by": "github_actions_schedule",
    "phase": "all",
    "status": "failed",
    "started_at": "2026-01-16T12:30:11.567002+00:00",
    "duration_ms": 534,
    "counts": {"c": PHASE["counts"]},
    "error_summary": "phase b: UndefinedTable 42P01: there is no table of this name anywhere",
    "dry_run": False,
    "stale": False,
}
FIGURES = {"queued": 2, "sending": 0, "sent": 9_999_999, "failed": 1, "retried": 3, "skipped": 0}
HEALTH: dict[str, Any] = {
    "generated_at": "2026-01-16T12:30:11+00:00",
    "status": "degraded",
    "reasons": [
        {
            "code": "queue_waiting",
            "severity": "degraded",
            "message": "Messages that are due wait since 12:57, on email.",
            "action": "Look at what the last run says of sending.",
            "since": "2026-01-16T11:57:05+00:00",
            "channel": "email",
            "page": "/ops/messages?status=queued&channel=email",
        },
    ],
    "deliveries_24h": {name: FIGURES | {"batched": 7} for name in ("email", "telegram", "sms")},
    "digests_24h": {"email": dict.fromkeys(FIGURES, 0)},
    "digests_7d": {"email": dict.fromkeys(FIGURES, 0)},
    "failures_24h": [{"channel": "email", "failure_code": "rate_limited", "count": 1}],
    "oldest_queued_delivery_minutes": 33.1,
    "oldest_queued_digest_minutes": None,
    "channels": {
        name: {
            "configured": name != "sms",
            "held": "auth_failed" if name == "email" else None,
            "paused": name == "telegram",
            "state": "held" if name == "email" else "open",
            "code": "auth_failed" if name == "email" else None,
            "since": "2026-01-16T12:00:00+00:00" if name == "email" else None,
            "next_try_at": None,
            "waiting": 7 if name == "email" else 0,
            "oldest_due_delivery_minutes": 25.5 if name == "email" else None,
            "oldest_due_digest_minutes": None,
            "next_due_at": {"deliveries": None, "digests": None},
            "in_doubt": {"lapsed": 1, "waiting": 0, "failed": 2},
        }
        for name in ("email", "telegram", "sms", "account")
    },
    "last_success_minutes": 4.2,
    "last_run": {name: RUN[name] for name in ("run_id", "status", "started_at")},
    "schedule": {
        "expected_interval_minutes": 10,
        "last_scheduled_at": "2022-03-08T18:03:00+00:00",
        "last_late_seconds": 200,
        "missed_slots_24h": 4,
        "lost_runs_24h": 2,
    },
    "engine": {"timezone": "Europe/Amsterdam"},
}
FINDING = {"id": "no_channel", "message": "No channel is configured.", "hint": "Set credentials."}
PREFLIGHT: dict[str, Any] = {
    "ok": False,
    "db_ok": True,
    "migrations_ok": False,
    "channels_configured": {"email": True, "sms": False},
    "providers": {"email": "smtp"},
    "badge": None,
    "warnings": [FINDING],
    "errors": [FINDING | {"id": "migrations_pending"}],
}
RETRY: dict[str, Any] = {
    "kind": "deliveries",
    "dry_run": False,
    "eligible": 3,
    "requeued": 2,
    "excluded": {"recipient_invalid": 1},
    "by_channel": {"email": 2},
    "action_id": 7,
}
ACTIONS: dict[str, Any] = {
    "count": 1,
    "next_before": None,
    "actions": [
        {
            "id": 7,
            "created_at": "2026-01-16T12:30:11.567002+00:00",
            "action": "retry_failed",
            "token_key_id": "0123abcd",
            "parameters": {"kind": "deliveries", "include": ["unknown"], "channel": None},
            "result": {"eligible": 3, "excluded": {"recipient_invalid": 1}},
        }
    ],
}
PAUSED: dict[str, Any] = {
    "action": "pause",
    "channel": "all",
    "was_paused": False,
    "paused": [
        {"channel": None, "reason": "word " * 39, "paused_at": "2026-01-16T12:30:11+00:00"},
        {"channel": "sms", "reason": "why", "paused_at": "2026-01-16T12:31:11+00:00"},
    ],
    "action_id": 8,
}
SHOWN: list[Callable[[Style], list[str]]] = [
    lambda style: phase(style, PHASE),
    lambda style: phase(style, PHASE | {"status": "failed", "error_summary": "word " * 60}),
    lambda style: run_end(style, RUN | {"dry_run": True}, recorded=False),
    lambda style: runs(style, {"runs": [RUN, RUN | {"status": "running", "stale": True}]}),
    lambda style: run(style, {"run": RUN, "items": [PHASE]}),
    lambda style: health(style, HEALTH),
    lambda style: preflight(style, PREFLIGHT),
    lambda style: retry(style, RETRY),
    lambda style: actions(style, ACTIONS),
    lambda style: paused(style, PAUSED),
    lambda style: paused(style, PAUSED | {"paused": []}),
    lambda style: replay(style, {"stored": 3, "rejected": 1}),
]


def with_text(value: Any, text: str) -> Any:
    """The answer with every text of it hostile, but for times and the keys."""
    if isinstance(value, dict):
        return {key: with_text(part, text) for key, part in value.items()}
    if isinstance(value, list):
        return [with_text(part, text) for part in value]
    return value if not isinstance(value, str) or re.match(r"\d{4}-", value) else value + text


# -- layout ----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("shown", SHOWN)
def test_no_line_is_wider_than_the_terminal(
    shown: Callable[[Style], list[str]], width: int
) -> None:
    lines = shown(Style(width=width))
    assert lines
    assert max(map(width_of, lines)) <= width


@pytest.mark.parametrize("shown", SHOWN)
def test_colour_adds_codes_and_changes_nothing_else(shown: Callable[[Style], list[str]]) -> None:
    plain = "\n".join(shown(PHONE))
    assert "\x1b" not in plain
    assert CODES.sub("", "\n".join(shown(COLOURED))) == plain


def test_phase_tells_what_it_did_in_words_without_zeros() -> None:
    lines = phase(PHONE, PHASE)
    assert lines == [
        "c  send             success      1m11s",
        "    1200  deliveries: claimed",
        "    1198  deliveries: sent",
        "       2  deliveries: to be tried again",
        "    stopped early: cap",
    ]


def test_phase_with_nothing_to_do_says_so() -> None:
    assert phase(PHONE, PHASE | {"counts": {"deliveries": {"sent": 0}}})[1:] == ["   nothing to do"]


def test_of_a_channel_only_the_unusual_is_told() -> None:
    usual = {"configured": True, "held": False, "rate_limited": False, "paused": False}
    idle = {"channels": {"email": usual, "sms": usual | {"configured": False}}}
    assert phase(PHONE, PHASE | {"counts": idle})[1:] == ["   nothing to do"]
    seen = {"email": usual | {"paused": True}, "sms": usual | {"rate_limited": True}}
    counts = {"channels": seen, "deliveries": {"skipped_channel_disabled": 2}}
    assert phase(PHONE, PHASE | {"counts": counts})[1:] == [
        "    2  deliveries: skipped, switched off by the user",
        "    channel: email: paused",
        "    channel: sms: asked to slow down",
    ]


def test_unknown_counts_are_shown_under_their_names() -> None:
    counts = {"brand_new": 3, "flag": True, "code": "some_code"}
    assert phase(PHONE, PHASE | {"counts": counts})[1:] == [
        "    3  brand new",
        "    flag",
        "    code: some_code",
    ]


def test_failed_phase_says_why_in_red() -> None:
    lines = phase(COLOURED, PHASE | {"status": "failed", "counts": {}, "error_summary": "gone"})
    assert lines[1] == "\x1b[31m   gone\x1b[0m"


def test_runs_on_a_phone() -> None:
    stale = RUN | {"status": "running", "stale": True, "duration_ms": None, "error_summary": None}
    assert runs(PHONE, {"runs": [RUN, stale]}) == [
        "when (UTC)   trigger   phase  status    took  sent/failed",
        "01-16 12:30  schedule  all    failed  0.53 s       1198/0",
        "  5b0c6a1e-7f7b-4f5c-9a53-0d5c0c2f6b11",
        "  phase b: UndefinedTable 42P01: there is no table of this",
        "  name anywhere",
        "01-16 12:30  schedule  all    stale        -       1198/0",
        "  5b0c6a1e-7f7b-4f5c-9a53-0d5c0c2f6b11",
    ]


def test_runs_on_a_wide_terminal_take_a_line_each() -> None:
    lines = runs(Style(width=120), {"runs": [RUN | {"error_summary": None}]})
    assert len(lines) == 2
    assert lines[1].startswith("2026-01-16 12:30  schedule")
    assert lines[1].endswith(RUN["run_id"])
    assert runs(PHONE, {"runs": []}) == ["no run yet"]


def test_health_begins_with_what_is_wrong_and_what_to_do() -> None:
    lines = health(Style(width=80), HEALTH)
    assert lines[:9] == [
        "DEGRADED at 13:30 CET: Messages that are due wait since 12:57, on email.",
        "-> Look at what the last run says of sending.",
        "",
        "Last run: failed, started 13:30",
        "",
        "email: the provider refuses our password or key, since 13:00; 7 messages",
        "waiting, next try with the next run",
        "telegram: paused, 0 messages waiting",
        "sms: not configured",
    ]
    assert "oldest due delivery  33.1 min" in lines
    assert "oldest due digest    none" in lines
    assert not any("sending " in line for line in lines)  # all zero


def test_preflight_gives_each_finding_its_hint() -> None:
    lines = preflight(PHONE, PREFLIGHT)
    assert lines[0] == "failing, 1 error, 1 warning"
    assert lines[1:4] == [
        "  error: migrations_pending",
        "    No channel is configured.",
        "    -> Set credentials.",
    ]
    assert lines[4] == "  warning: no_channel"
    assert lines[-4:] == [
        "database    ok",
        "migrations  failed",
        "email       smtp",
        "sms         not configured",
    ]


def test_retry_says_what_was_left_out() -> None:
    assert retry(PHONE, RETRY) == [
        "2 of 3 deliveries queued again",
        "  by channel: email 2",
        "  left out: recipient_invalid 1",
        "audit entry 7",
    ]
    dry = retry(PHONE, RETRY | {"dry_run": True, "action_id": None})
    assert "nothing was changed" in " ".join(dry)
    assert len(dry) == 4


def test_rebuilding_says_what_was_wrong_and_since_when() -> None:
    answer = {"dry_run": False, "counts_mended": 3, "counts_stale_since": None, "action_id": 9}
    assert rebuilt(PHONE, answer) == ["3 counts corrected", "audit entry 9"]
    since = "2022-03-08T19:00:00+00:00"
    dry = rebuilt(PHONE, answer | {"dry_run": True, "counts_stale_since": since, "action_id": None})
    assert dry == [
        "3 counts would be corrected (dry run: nothing was changed)",
        "  changes were missed since 2022-03-08 19:00 UTC",
    ]


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [(None, "-"), (12, "0.01 s"), (59_000, "59.00 s"), (61_000, "1m01s"), (3_720_000, "1h02m")],
)
def test_durations(milliseconds: int | None, shown: str) -> None:
    assert duration(milliseconds) == shown


def test_the_documents_show_the_table_of_the_answer_that_they_show() -> None:
    examples = (CHECKOUT / "docs/examples.md").read_text()
    answer = json.loads(examples.split("`GET /health`\n```json\n")[1].split("\n```")[0])
    assert "\n".join(health(PHONE, answer)) in (CHECKOUT / "replit.md").read_text()


# -- hostile texts ---------------------------------------------------------------------------


@pytest.mark.parametrize("view", [
    (run, {"run": RUN, "items": [PHASE | {"error_summary": "x"}]}), (runs, {"runs": [RUN]}),
    (health, HEALTH), (preflight, PREFLIGHT), (retry, RETRY), (actions, ACTIONS), (paused, PAUSED),
])  # fmt: skip
def test_hostile_texts_break_no_line_and_smuggle_no_codes(
    view: tuple[Callable[..., list[str]], Any],
) -> None:
    shown, answer = view
    for line in shown(PHONE, with_text(answer, HOSTILE)):
        assert line.isprintable()
        assert width_of(line) <= 60


@given(st.text())
def test_cleaned_text_is_one_printable_line(text: str) -> None:
    assert clean(text).isprintable()


@given(st.text(), st.integers(1, 50))
def test_clipped_and_wrapped_texts_fit(text: str, width: int) -> None:
    assert width_of(clip(clean(text), width)) <= width
    lines = wrap(text, width)
    assert all(width_of(line) <= max(width, 2) for line in lines)
    assert "".join(lines).replace(" ", "") == clean(text).replace(" ", "")


@given(st.lists(st.tuples(st.text(), st.text(), st.integers()), max_size=4), st.integers(20, 90))
def test_tables_of_any_texts_fit(rows: list[tuple[str, str, int]], width: int) -> None:
    columns = [Column("first"), Column("second", status=True), Column("third", right=True)]
    lines = table(Style(width=width), columns, rows)
    assert len(lines) == len(rows) + 1
    assert all(line.isprintable() and width_of(line) <= width for line in lines)


# -- colour and progress ---------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environ", "coloured"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_colour_only_on_a_terminal_that_wants_it(
    stream: io.StringIO, environ: dict[str, str], coloured: bool
) -> None:
    assert style_of(stream, environ) == Style(width=80, colour=coloured)


@pytest.mark.parametrize(
    ("columns", "width"), [("60", 60), ("7", 40), ("500", 120), ("many", 80), ("0", 80)]
)
def test_width_of_the_environment(columns: str, width: int) -> None:
    assert style_of(io.StringIO(), {"COLUMNS": columns}).width == width


def test_progress_tells_rate_and_time_left_where_they_are_known() -> None:
    assert progress_text("messages", 100, 400, 10) == "... messages 100 of 400, 10/s, 30 s left"
    assert progress_text("messages", 15, None, 10) == "... messages 15, 1.5/s"
    assert progress_text("events", 1, 1000, 2) == (
        "... events fanned out 1 of 1000, 0.5/s, 33 min left"
    )
    assert progress_text("users", 50_000, None, 3) == "... users of one event 50000"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_progress_rewrites_its_line_on_a_terminal_and_takes_it_away() -> None:
    stream, clock = Terminal(), Clock()
    progress = Progress(stream, {"COLUMNS": "60"}, clock)
    for clock.now in (0.1, 1.9):
        progress.show("messages", 1, None)
    assert stream.getvalue() == ""  # a short phase is quiet
    for clock.now in (2.0, 2.1, 2.2):  # drawn, too soon, drawn
        progress.show("messages", 44, None)
    assert stream.getvalue().count("\r... messages 44") == 2
    assert "\n" not in stream.getvalue()
    progress.phase_ended()
    assert stream.getvalue().endswith("\r\x1b[K")
    clock.now = 4.0  # the next phase has its own two seconds
    progress.show("messages", 45, None)
    assert "45" not in stream.getvalue()


def test_progress_without_a_terminal_is_a_plain_line_now_and_then() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress(stream, {}, clock)
    for second in range(25):
        clock.now = float(second)
        progress.show("events", second, 100)
    progress.clear()
    lines = stream.getvalue().splitlines()
    assert [line.split()[4] for line in lines] == ["2", "12", "22"]
    assert "\x1b" not in stream.getvalue()


def test_progress_that_nobody_reads_disturbs_nothing() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress(stream, {}, clock)
    stream.close()
    clock.now = 5.0
    progress.show("events", 1, 2)
    progress.clear()


def test_health_tells_a_dead_schedule_from_a_dying_runner() -> None:
    shown = "\n".join(health(PHONE, HEALTH))
    for words in ("every 10 min", "3m20s late", "missed slots, 24 h", "4 slots", "2 runs"):
        assert words in shown
    never = HEALTH["schedule"] | {"last_scheduled_at": None}
    assert "slots" not in "\n".join(health(PHONE, HEALTH | {"schedule": never}))


def test_late_run_says_so_and_jitter_does_not() -> None:
    late = "\n".join(runs(PHONE, {"runs": [RUN | {"late_seconds": 400}]}))
    assert "started 6m40s late" in late
    assert "late" not in "\n".join(runs(PHONE, {"runs": [RUN | {"late_seconds": 9}]}))


def test_what_waits_and_is_in_doubt_shows_for_each_channel() -> None:
    text = "\n".join(health(PHONE, HEALTH))
    assert re.search(r"email +25\.5 min +3", text)
    assert re.search(r"telegram +none +3", text)
