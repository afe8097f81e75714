"""What the command line says when something is wrong."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from psycopg2.extensions import connection as Connection

from alerts.settings.config import DATABASE_URL_MISSING
from tests.support import CHECKOUT
from tests.support.providers import RESEND_KEY, Fault, HttpProvider
from tests.support.queue_world import lapse, queue_instants, statuses
from tests.support.run_world import (
    Runner,
    last_run,
)
from tests.support.world import NOW, wait_until

AT_NOW = ("--now", NOW.isoformat())


@pytest.fixture
def runner(database_url: str, tmp_path: Path) -> Runner:
    return Runner(database_url, tmp_path)


def test_held_channel_exits_with_one(conn: Connection, runner: Runner) -> None:
    queue_instants(conn, 2)
    (runner.folder / "outbox").write_text("a file where the folder should be")
    code, lines = runner.json_lines("--phase", "c", *AT_NOW)
    assert code == 1
    assert [line["status"] for line in lines] == ["failed", "failed"]
    assert lines[0]["counts"]["channels_held"] == {"email": "auth_failed"}
    assert statuses(conn) == {"queued": 2}
    assert last_run(conn)["status"] == "failed"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--phase", "x"),
        ("--phase", "a", "--phase", "b"),
        ("--phase", "a", "--health"),
        ("--phase", "a", "health"),
        ("--phase", "a", "--limit", "5"),
        ("--phase", "a", "--json"),
        ("--phase", "a", "--now", "yesterday"),
        ("--phase", "a", "--max-seconds", "0"),
        ("--phase", "a", "--batch-size", "many"),
    ],
)
def test_wrong_usage_exits_with_two(arguments: tuple[str, ...]) -> None:
    assert_usage(Runner("", CHECKOUT)(*arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("everything",),
        ("--health",),
        ("health", "--keep-days", "9"),
        ("health", "--now", "2022-03-08"),
        ("runs", "--limit", "201"),
        ("runs", "--status"),
        ("run",),
        ("delivery", "0"),
        ("retry-failed", "everything"),
        ("retry-failed", "digests", "--include", "all"),
        ("retry-failed", "digests", "--since-hours", "169"),
        ("prune", "--keep-days", "9", "--limit", "5"),
    ],
)
def test_wrong_usage_of_a_command_exits_with_two(arguments: tuple[str, ...]) -> None:
    assert_usage(Runner("", CHECKOUT).command(*arguments))


def assert_usage(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 2
    said, usage = done.stderr.splitlines()
    assert said.startswith("python -m alerts")
    assert usage.startswith("usage: python -m alerts")
    assert done.stdout == ""


def test_bad_value_is_named_recorded_and_ends_the_run_before_any_phase(
    conn: Connection, runner: Runner
) -> None:
    queue_instants(conn, 1)
    environ = {
        "ALERTS_SEND_ALLOWLIST_USER_IDS": "12,secret-value",
        "SMTP_URL": "smtp://someone:hunter2secret@",
        "GITHUB_ACTIONS": "true",
        "GITHUB_SHA": "0a1b2c",
    }
    code, lines = runner.json_lines("--phase", "c", *AT_NOW, **environ)
    assert code == 1
    assert [line["event"] for line in lines] == ["run_finished"]
    assert (lines[0]["status"], lines[0]["phases"]) == ("failed", [])
    row = last_run(conn)
    assert row["status"] == "failed"
    assert "ALERTS_SEND_ALLOWLIST_USER_IDS" in row["error_summary"]
    assert "SMTP_URL" in row["error_summary"]
    assert "secret" not in row["error_summary"]
    assert (row["triggered_by"], row["git_sha"]) == ("github_actions_manual", "0a1b2c")
    done = runner("--phase", "c", *AT_NOW, **environ)
    assert "hunter2" not in done.stdout + done.stderr
    assert "ALERTS_SEND_ALLOWLIST_USER_IDS" in done.stderr
    assert statuses(conn) == {"queued": 1}


STARTS: list[Callable[[Runner], subprocess.CompletedProcess[str]]] = [
    lambda runner: runner("--phase", "a"),
    lambda runner: runner("--phase", "all", "--log-json"),
    lambda runner: runner.command("health"),
    lambda runner: runner.command("runs", "--json"),
    lambda runner: runner.command("run", "x"),
    lambda runner: runner.command("prune", "--keep-days", "9"),
]


@pytest.mark.parametrize("start", STARTS)
def test_missing_database_is_named_with_the_whole_of_what_it_takes(
    tmp_path: Path, start: Callable[[Runner], subprocess.CompletedProcess[str]]
) -> None:
    done = start(Runner("", tmp_path))
    assert done.returncode == 1
    assert DATABASE_URL_MISSING in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_mail_server_is_named_with_the_whole_of_what_it_takes(tmp_path: Path) -> None:
    done = Runner("", tmp_path)("--phase", "a", SMTP_URL="mail.example.com:hunter2")
    assert "smtp://user:password@host:587 or smtps://user:password@host:465" in done.stderr
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize("start", STARTS)
def test_unreachable_database_is_said_without_the_password(
    tmp_path: Path, start: Callable[[Runner], subprocess.CompletedProcess[str]]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = start(Runner(f"postgresql://engine:hunter2secret@127.0.0.1:{port}/alerts", tmp_path))
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "refused" in said
    assert "hunter2" not in said
    assert "Traceback" not in said


def test_database_without_tables_fails_the_run_and_says_why(
    empty_database_url: str, tmp_path: Path
) -> None:
    code, lines = Runner(empty_database_url, tmp_path).json_lines("--phase", "all")
    assert code == 1
    (line,) = lines
    assert (line["status"], line["recorded"]) == ("failed", False)
    assert "42P01" in line["error_summary"]


def begin(runner: Runner, *arguments: str, stdout: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "alerts.runner", *arguments]
    return subprocess.Popen(
        command, cwd=runner.folder, env=runner.environ, stdout=stdout, stderr=subprocess.DEVNULL
    )


def test_output_that_nobody_reads_keeps_no_alert_back(conn: Connection, runner: Runner) -> None:
    queue_instants(conn, 3)
    reading, writing = os.pipe()
    os.close(reading)
    begin(runner, "--phase", "all", "--log-json", *AT_NOW, stdout=writing).wait(60)
    os.close(writing)
    assert last_run(conn)["status"] == "success"
    assert statuses(conn)["sent"] >= 3


def test_killed_runner_leaves_nothing_that_the_next_runs_do_not_send(
    conn: Connection, runner: Runner
) -> None:
    queue_instants(conn, 60)
    with HttpProvider() as provider:
        provider.rule = lambda _: Fault(how="hang") if len(provider.requests) > 20 else None
        runner.environ |= {
            "EMAIL_PROVIDER": "resend",
            "EMAIL_FROM": "alerts@example.com",
            "RESEND_API_KEY": RESEND_KEY,
            "RESEND_API_BASE": provider.url,
        }
        doomed = begin(runner, "--phase", "c", *AT_NOW, stdout=subprocess.DEVNULL)
        wait_until(lambda: len(provider.requests) == len(provider.accepted) + 8)  # every worker
        wait_until(lambda: statuses(conn).get("sent") == len(provider.accepted))
        doomed.kill()
        doomed.wait(20)
        provider.rule = lambda _: None
        in_doubt = statuses(conn)["sending"]
        lapse(conn)
        code, lines = runner.json_lines("--phase", "c", *AT_NOW)
        assert (code, lines[0]["counts"]["deliveries"]["rescued"]) == (0, in_doubt)
        later = (NOW + timedelta(minutes=5)).isoformat()
        assert runner("--phase", "c", "--now", later).returncode == 0
    assert statuses(conn) == {"sent": 60}
    assert len({message.destination for message in provider.accepted}) == 60
