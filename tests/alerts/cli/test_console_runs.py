"""The command line on a terminal and without one, as real processes; the engine's progress."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import termios
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from psycopg2.extensions import connection as Connection

from alerts.engine import Hooks, RunRequest, run_engine
from alerts.phases import fanout
from tests.support.prefork import run_module
from tests.support.queue_world import queue_instants
from tests.support.run_world import Runner, last_run, whole_world
from tests.support.world import NOW, add_alert, add_user, all_channels, settings_for

AT_NOW = ("--now", NOW.isoformat())
SLOW = {"ALERTS_RATE_LIMIT_EMAIL_PER_MINUTE": "600"}


@pytest.fixture
def runner(database_url: str, tmp_path: Path) -> Runner:
    return Runner(database_url, tmp_path)


def on_terminal(
    runner: Runner,
    *arguments: str,
    module: str = "alerts.runner",
    columns: int = 60,
    **environ: str,
) -> str:
    """All that the program writes to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    given = {**runner.environ, "TERM": "xterm", **environ}
    shown = b""
    with ThreadPoolExecutor(1) as thread:
        ending = thread.submit(run_module, module, arguments, runner.folder, given, theirs)
        ending.add_done_callback(lambda _: os.close(theirs))
        with suppress(OSError):  # the other side is closed
            while part := os.read(ours, 65536):
                shown += part
        os.close(ours)
    assert ending.result().returncode == 0, shown
    return shown.decode()


def test_terminal_gets_colour_within_its_width(conn: Connection, runner: Runner) -> None:
    whole_world(conn)
    shown = on_terminal(runner, "--phase", "all", *AT_NOW)
    assert "\x1b[32msuccess" in shown
    plain = on_terminal(runner, "--phase", "all", *AT_NOW, NO_COLOR="1")
    assert "\x1b" not in plain
    assert max(map(len, plain.splitlines())) <= 60
    listed = on_terminal(runner, "runs", module="alerts", NO_COLOR="1")
    assert max(map(len, listed.splitlines())) <= 60
    assert last_run(conn)["run_id"] in listed


def test_long_phase_shows_its_progress_on_a_terminal(conn: Connection, runner: Runner) -> None:
    queue_instants(conn, 40)
    shown = on_terminal(runner, "--phase", "c", *AT_NOW, **SLOW)
    drawn = [part for part in shown.split("\r") if part.startswith("... messages ")]
    assert len(drawn) >= 2
    assert any("/s" in part and "left" in part for part in drawn)
    assert "\r\x1b[Kc  send" in shown  # the line is gone when the table comes


def test_long_phase_without_a_terminal_tells_progress_in_plain_lines(
    conn: Connection, runner: Runner
) -> None:
    queue_instants(conn, 40)
    done = runner("--phase", "c", *AT_NOW, **SLOW)
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("... messages ")
    assert "\x1b" not in done.stdout + done.stderr
    assert "... " not in done.stdout


def test_people_are_not_told_twice(conn: Connection, runner: Runner) -> None:
    whole_world(conn)
    done = runner("--phase", "all", *AT_NOW)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "INFO" in runner("--phase", "all", "--log-json", *AT_NOW).stderr


def test_answers_are_tables_for_people_and_json_for_programs(
    conn: Connection, runner: Runner
) -> None:
    whole_world(conn)
    runner("--phase", "all", *AT_NOW)
    run_id = last_run(conn)["run_id"]
    runner.environ["ALERTS_CLOCK"] = NOW.isoformat()
    for arguments, expected in (
        (("runs",), "sent/failed"),
        (("run", run_id), "fan out"),
        (("health",), "oldest due delivery"),
        (("preflight",), "migrations  ok"),
        (("retry-failed", "deliveries", "--dry-run"), "would be queued again"),
    ):
        shown = on_terminal(runner, *arguments, module="alerts", NO_COLOR="1")
        assert expected in shown
        assert max(map(len, shown.splitlines())) <= 60
        told = on_terminal(runner, *arguments, "--json", module="alerts")
        assert isinstance(json.loads(told), dict)
        told = on_terminal(runner, *arguments, module="alerts", CI="true")
        assert isinstance(json.loads(told), dict)
        assert isinstance(json.loads(runner.command(*arguments).stdout), dict)


# -- the engine's side -----------------------------------------------------------------------


def progress_of(database_url: str, phase: str, **environ: str) -> list[tuple[str, int, int | None]]:
    calls: list[tuple[str, int, int | None]] = []
    hooks = Hooks(
        channels=all_channels(),
        progress=lambda name, done, total: calls.append((name, done, total)),
    )
    settings = settings_for(database_url, **environ)
    assert run_engine(settings, RunRequest(phase=phase, now=NOW), hooks).record.status == "success"
    return calls


def test_fan_out_tells_each_range_and_each_event(
    conn: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fanout, "USERS_PER_RANGE", 2)
    for _ in range(5):
        add_user(conn, "pro")
    for _ in range(2):
        add_alert(conn)
    of_users = [("users", 2, None), ("users", 4, None)]
    assert progress_of(database_url, "b") == [
        *of_users,
        ("events", 1, 2),
        *of_users,
        ("events", 2, 2),
    ]


def test_sending_knows_how_many_there_are_once_all_are_claimed(
    conn: Connection, database_url: str
) -> None:
    queue_instants(conn, 30)
    calls = progress_of(database_url, "c")
    assert {name for name, _, _ in calls} == {"messages"}
    assert [done for _, done, _ in calls] == sorted(done for _, done, _ in calls)
    assert calls[-1] == ("messages", 30, 30)


def test_sending_up_to_the_cap_counts_to_the_cap(conn: Connection, database_url: str) -> None:
    queue_instants(conn, 30)
    calls = progress_of(database_url, "c", ALERTS_MAX_SEND_PER_RUN="10")
    assert calls[-1] == ("messages", 10, 10)
