"""What a run says on GitHub Actions, as real processes and as texts."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.cli import github
from alerts.runs.record import RunItem, RunRecord
from alerts.settings.config import DATABASE_URL_MISSING
from tests.support.providers import RESEND_KEY, Fault, HttpProvider
from tests.support.queue_world import queue_instants, statuses
from tests.support.run_world import Runner, last_run, whole_world
from tests.support.world import NOW, add_alert, add_delivery, add_user, query, wait_until

AT_NOW = ("--now", NOW.isoformat())
TITLE = "title=Alerts engine::"
STARTS = [lambda runner: runner("--phase", "all"), lambda runner: runner.command("preflight")]


@pytest.fixture
def runner(database_url: str, tmp_path: Path) -> Runner:
    return on_github(Runner(database_url, tmp_path))


def on_github(runner: Runner) -> Runner:
    runner.environ |= {
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": "schedule",
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_REPOSITORY": "o/r",
        "GITHUB_RUN_ID": "17",
        "GITHUB_STEP_SUMMARY": str(runner.folder / "summary.md"),
    }
    return runner


def summary_of(runner: Runner) -> str:
    return (runner.folder / "summary.md").read_text()


def annotations(stderr: str) -> list[tuple[str, str]]:
    """Level and text of every workflow command."""
    found = []
    for line in stderr.splitlines():
        if line.startswith("::"):
            match = re.fullmatch(rf"::(error|warning) {TITLE}(.+)", line)
            assert match, line
            found.append((match[1], match[2]))
    return found


def test_summary_tables_the_phases_with_what_they_did(conn: Connection, runner: Runner) -> None:
    whole_world(conn)
    done = runner("--phase", "all", *AT_NOW)
    assert done.returncode == 0, done.stderr
    row = last_run(conn)
    lines = summary_of(runner).splitlines()
    assert re.fullmatch(r"### Alerts engine: success, \d+\.\d s", lines[0])
    assert lines[2] == "| phase | status | duration | did |"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[4:8]]
    assert [cell[0].split()[0] for cell in cells] == ["a", "b", "d", "c"]
    assert all(cell[1] == "success" for cell in cells)
    assert all(re.fullmatch(r"\d+\.\d s", cell[2]) for cell in cells)
    counts = row["counts"]
    assert cells[0][3] == f"{counts['a']['events_created']} events created"
    assert f"{counts['b']['deliveries_created']} deliveries created" in cells[1][3]
    sent = counts["c"]["deliveries"]["sent"] + counts["c"]["digests"]["sent"]
    assert f"{sent} sent" in cells[3][3]
    assert f"Run [`{row['run_id']}`](https://github.com/o/r/actions/runs/17)" in lines
    assert row["ci_run_url"] == "https://github.com/o/r/actions/runs/17"
    assert not [level for level, _ in annotations(done.stderr) if level == "error"]


def test_summary_tells_what_waits_longest(conn: Connection, runner: Runner) -> None:
    row = add_delivery(conn, add_user(conn), add_alert(conn), created_at=NOW - timedelta(minutes=7))
    runner("--phase", "a", ALERTS_CLOCK=NOW.isoformat())
    assert "Oldest queued: delivery 7.0 min, digest none" in summary_of(runner)
    assert query(conn, "SELECT status FROM user_alert_deliveries WHERE id = %s", row)


def test_second_run_of_a_job_adds_to_the_summary(conn: Connection, runner: Runner) -> None:
    for phase in ("a", "b"):
        runner("--phase", phase, "--dry-run", *AT_NOW)
    assert summary_of(runner).count("### Alerts engine: success, dry run, ") == 2


def test_annotations_stay_out_of_the_json_lines(conn: Connection, runner: Runner) -> None:
    queue_instants(conn, 1)
    (runner.folder / "outbox").write_text("a file where the folder should be")
    code, lines = runner.json_lines("--phase", "c", *AT_NOW)
    assert code == 1
    assert lines[-1]["event"] == "run_finished"


# -- a red run says why in its first annotation ------------------------------------------------


def test_held_channel_is_the_first_annotation(conn: Connection, runner: Runner) -> None:
    queue_instants(conn, 2)
    (runner.folder / "outbox").write_text("a file where the folder should be")
    done = runner("--phase", "all", *AT_NOW)
    assert done.returncode == 1
    level, text = annotations(done.stderr)[0]
    assert level == "error"
    assert "refused our password or key since" in text
    assert "2 messages on email wait" in text
    own = annotations(done.stderr)[-2]
    assert own[0] == "error"
    assert own[1].startswith("Run failed: phase c: ")
    assert text.partition(" Renew")[0] in summary_of(runner)
    assert "**Why:** phase c: " in summary_of(runner)


def test_unreachable_database_is_the_first_annotation(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    runner = on_github(Runner(f"postgresql://me:hunter2secret@127.0.0.1:{port}/x", tmp_path))
    done = runner("--phase", "all")
    assert done.returncode == 1
    found = annotations(done.stderr)
    assert found[0][0] == "error"
    assert "refused" in found[0][1]
    assert found[-1] == ("warning", "The run could not be recorded in the database.")
    summary = summary_of(runner)
    assert "could not be recorded" in summary
    assert "Oldest queued" not in summary
    assert "hunter2" not in done.stderr + summary


def test_wrong_setting_is_the_first_annotation(conn: Connection, runner: Runner) -> None:
    done = runner("--phase", "all", ALERTS_SEND_WORKERS="many")
    assert done.returncode == 1
    (first, text), own = annotations(done.stderr)
    assert first == "error"
    assert re.match(
        r"The run of \d\d:\d\d failed: configuration error: ALERTS_SEND_WORKERS\.", text
    )
    assert own == ("error", "Run failed: configuration error: ALERTS_SEND_WORKERS")
    assert "ALERTS_SEND_WORKERS" in summary_of(runner)


@pytest.mark.parametrize("start", STARTS)
def test_missing_database_is_the_first_annotation(
    tmp_path: Path, start: Callable[[Runner], CompletedProcess[str]]
) -> None:
    done = start(on_github(Runner("", tmp_path)))
    assert done.returncode == 1
    level, text = annotations(done.stderr)[0]
    assert level == "error"
    assert text.startswith(DATABASE_URL_MISSING)


def test_preflight_annotates_each_error(empty_database_url: str, tmp_path: Path) -> None:
    done = on_github(Runner(empty_database_url, tmp_path)).command("preflight")
    assert done.returncode == 1
    errors = json.loads(done.stdout)["errors"]
    assert [text for _, text in annotations(done.stderr)] == [
        f"{error['message']} {error['hint']}" for error in errors
    ]


def test_lost_lock_is_the_first_annotation(conn: Connection, runner: Runner) -> None:
    queue_instants(conn, 40)
    with HttpProvider() as provider:
        provider.rule = lambda _: Fault(how="hang") if len(provider.requests) > 5 else None
        environ = {
            "EMAIL_PROVIDER": "resend",
            "EMAIL_FROM": "alerts@example.com",
            "RESEND_API_KEY": RESEND_KEY,
            "RESEND_API_BASE": provider.url,
            "ALERTS_SEND_WORKERS": "2",
            "ALERTS_PROVIDER_TIMEOUT_SECONDS": "2",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "alerts.runner", "--phase", "c", *AT_NOW],
            cwd=runner.folder,
            env={**runner.environ, **environ},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: len(provider.requests) > 5)
        db.execute(
            conn,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'alerts-locks' AND datname = current_database()",
        )
        _, stderr = process.communicate(timeout=40)
    assert process.returncode == 1
    level, text = annotations(stderr)[0]
    assert level == "error"
    assert "lock_lost" in text
    assert "lock_lost" in summary_of(runner)
    assert statuses(conn).get("queued")


# -- nothing here can fail a run ---------------------------------------------------------------


def test_summary_that_cannot_be_written_costs_a_warning(conn: Connection, runner: Runner) -> None:
    (runner.folder / "summary.md").mkdir()
    done = runner("--phase", "a", *AT_NOW)
    assert done.returncode == 0
    assert "GITHUB_STEP_SUMMARY cannot be written" in done.stderr
    assert last_run(conn)["status"] == "success"


@pytest.mark.parametrize("start", STARTS)
def test_elsewhere_nothing_is_said(
    conn: Connection, runner: Runner, start: Callable[[Runner], CompletedProcess[str]]
) -> None:
    queue_instants(conn, 1)
    (runner.folder / "outbox").write_text("a file where the folder should be")
    runner.environ |= {"GITHUB_ACTIONS": "", "ALERTS_CLOCK": NOW.isoformat()}
    done = start(runner)
    assert annotations(done.stderr) == []
    assert not (runner.folder / "summary.md").exists()


# -- texts -------------------------------------------------------------------------------------

STARTED = datetime(2026, 1, 16, 12, 0, tzinfo=UTC)
RECORD = RunRecord(
    "one", "local", "all", STARTED, False, status="success", finished_at=STARTED, duration_ms=1500
)


def item(status: str = "success", error: str | None = None, **counts: object) -> RunItem:
    return RunItem("c", STARTED, STARTED, 20, status, dict(counts), error)


def test_message_of_several_lines_stays_one_command() -> None:
    bad = replace(RECORD, status="failed", error_summary="50% lost\r\n::set-output name=x::y")
    (command,) = github.workflow_commands(bad, recorded=True)
    assert command == (f"::error {TITLE}Run failed: 50%25 lost%0D%0A::set-output name=x::y")


def test_text_of_an_error_cannot_leave_its_cell() -> None:
    bad = item("failed", "a | b\r\n| c | <img src=x> & d")
    text = github.summary(RECORD.with_item(bad), recorded=True, health=None)
    (line,) = [line for line in text.splitlines() if line.startswith("| c ")]
    assert line == (r"| c send | failed | 0.0 s | a \| b \| c \| &lt;img src=x> &amp; d |")


def test_early_stop_and_strange_counts_are_warnings() -> None:
    run = RECORD.with_item(item(stopped_early="cap", warning="counts_do_not_add_up"))
    assert github.workflow_commands(run, recorded=False) == [
        f"::warning {TITLE}phase c (send) stopped early: it had sent as many messages as a run may "
        "(ALERTS_MAX_SEND_PER_RUN)",
        f"::warning {TITLE}phase c (send): its counts do not add up, which is a defect of the "
        "engine",
        f"::warning {TITLE}The run could not be recorded in the database.",
    ]


def test_skipped_run_is_a_warning() -> None:
    skipped = replace(RECORD, status="skipped", error_summary="lock_not_acquired")
    assert github.workflow_commands(skipped, recorded=True) == [
        f"::warning {TITLE}Run skipped: another run is doing it"
    ]


def test_phase_that_was_locked_out_of_a_run_that_did_the_others_is_a_warning() -> None:
    items = (item(), replace(item("skipped", "lock_not_acquired"), phase="c"))
    record = replace(RECORD, status="success", error_summary=None, items=items)
    assert github.workflow_commands(record, recorded=True) == [
        f"::warning {TITLE}phase c (send) skipped: another run is doing it"
    ]


def test_phase_without_work_says_so_and_counts_of_both_kinds_are_added() -> None:
    idle, busy = item(), item(deliveries={"sent": 3, "failed": 0}, digests={"sent": 2})
    for done, told in ((idle, "nothing to do"), (busy, "5 sent")):
        text = github.summary(RECORD.with_item(done), recorded=True, health=None)
        assert f"| c send | success | 0.0 s | {told} |" in text
    assert "Run `one`" in text
