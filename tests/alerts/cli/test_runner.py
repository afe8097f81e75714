"""The command line as real processes: exit codes, what is printed, what is recorded."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from psycopg2.extensions import connection as Connection

from app import create_app
from tests.support.queue_world import add_digest, delivery, queue_instants, statuses
from tests.support.run_world import (
    Runner,
    last_run,
)
from tests.support.world import (
    NOW,
    add_alert,
    add_delivery,
    add_pref,
    add_source_event,
    add_user,
    query,
    settings_for,
)

AT_NOW = ("--now", NOW.isoformat())
PHASE_KEYS = {"event", "phase", "status", "duration_ms", "counts"}
RUN_KEYS = {"event", "run_id", "status", "duration_ms", "dry_run", "phases", "recorded"}
TOKEN = "a-token-for-the-tests-that-is-long"


@pytest.fixture
def runner(database_url: str, tmp_path: Path) -> Runner:
    return Runner(database_url, tmp_path)


def add_work(conn: Connection) -> None:
    add_pref(conn, add_user(conn, "pro"))
    add_source_event(conn)
    queue_instants(conn, 3)
    add_digest(conn, add_user(conn), [add_alert(conn)])


# -- running phases --------------------------------------------------------------------------


def test_json_lines_are_one_a_phase_and_the_run(conn: Connection, runner: Runner) -> None:
    add_work(conn)
    code, lines = runner.json_lines("--phase", "all", *AT_NOW)
    assert code == 0
    assert [line["event"] for line in lines] == ["phase_finished"] * 4 + ["run_finished"]
    assert [line["phase"] for line in lines[:4]] == ["a", "b", "d", "c"]
    assert all(set(line) >= PHASE_KEYS and line["status"] == "success" for line in lines[:4])
    end = lines[4]
    assert set(end) >= RUN_KEYS
    assert (end["status"], end["dry_run"], end["recorded"]) == ("success", False, True)
    assert [phase["phase"] for phase in end["phases"]] == ["a", "b", "d", "c"]
    row = last_run(conn)
    assert (row["run_id"], row["duration_ms"]) == (end["run_id"], end["duration_ms"])
    assert row["counts"] == {line["phase"]: line["counts"] for line in lines[:4]}
    assert (row["triggered_by"], row["git_sha"]) == ("local", None)
    assert len(list((runner.folder / "outbox").glob("*.eml"))) >= 4


def test_people_get_lines_of_their_own(conn: Connection, runner: Runner) -> None:
    add_work(conn)
    done = runner("--phase", "all", *AT_NOW)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    starts = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert starts == ["a", "b", "d", "c", "run"]
    assert "success in" in lines[-1]
    assert not any(line.startswith("{") for line in lines)
    assert "@example.com" not in done.stdout + done.stderr


@pytest.mark.parametrize("ci", ["true", "1", "TRUE"])
def test_ci_switches_to_json(conn: Connection, runner: Runner, ci: str) -> None:
    done = runner("--phase", "d", CI=ci)
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == [
        "phase_finished",
        "run_finished",
    ]


@pytest.mark.parametrize(
    ("word", "status", "warned"),
    [
        ("", "success", False),
        ("YES", "success", False),
        ("on", "success", False),
        ("false", "skipped", False),
        ("Off", "skipped", False),
        ("maybe", "skipped", True),
    ],
)
def test_switch_turns_the_engine_off_and_the_run_says_so(
    conn: Connection, runner: Runner, word: str, status: str, warned: bool
) -> None:
    queue_instants(conn, 1)
    done = runner("--phase", "c", *AT_NOW, ALERTS_V2_ENABLED=word)
    assert done.returncode == 0
    assert ("WARNING" in done.stderr and "ALERTS_V2_ENABLED" in done.stderr) == warned
    row = last_run(conn)
    assert row["status"] == status
    assert statuses(conn) == ({"sent": 1} if status == "success" else {"queued": 1})
    if status == "skipped":
        assert "ALERTS_V2_ENABLED" in row["error_summary"]


def test_clock_of_the_environment_freezes_business_time(conn: Connection, runner: Runner) -> None:
    (row,) = queue_instants(conn, 1)
    assert runner("--phase", "c", ALERTS_CLOCK="2022-03-08T18:00:00Z").returncode == 0
    assert delivery(conn, row)["sent_at"] == NOW


def test_time_of_the_command_wins_over_the_environment(conn: Connection, runner: Runner) -> None:
    (row,) = queue_instants(conn, 1)
    later = NOW + timedelta(hours=2)
    runner("--phase", "c", "--now", later.isoformat(), ALERTS_CLOCK=NOW.isoformat())
    assert delivery(conn, row)["sent_at"] == later


# -- the admin endpoints without the server --------------------------------------------------


def test_dry_run_is_seen_through_the_endpoint(
    conn: Connection, database_url: str, runner: Runner
) -> None:
    """What the owner does first: a dry run of everything, and a look at the history."""
    add_work(conn)
    code, lines = runner.json_lines("--phase", "all", "--dry-run", *AT_NOW)
    assert (code, lines[4]["dry_run"]) == (0, True)
    assert statuses(conn)["queued"] == 3
    client = create_app(settings_for(database_url, INTERNAL_RUNNER_TOKEN=TOKEN)).test_client()
    headers = {"x-internal-token": TOKEN}
    listed = client.get("/internal/alerts/engine/runs?limit=5", headers=headers).get_json()
    assert listed["count"] == 1
    (run,) = listed["runs"]
    assert (run["run_id"], run["status"], run["dry_run"]) == (lines[4]["run_id"], "success", True)
    assert run["counts"]["c"]["deliveries"]["sent"] >= 3
    one = client.get(f"/internal/alerts/engine/runs/{run['run_id']}", headers=headers).get_json()
    assert [item["phase"] for item in one["items"]] == ["a", "b", "d", "c"]


def test_commands_print_what_the_endpoints_answer(
    conn: Connection, database_url: str, runner: Runner
) -> None:
    add_work(conn)
    runner("--phase", "all", *AT_NOW)
    run_id = last_run(conn)["run_id"]
    settings = settings_for(database_url, INTERNAL_RUNNER_TOKEN=TOKEN, ALERTS_CLOCK=NOW.isoformat())
    client = create_app(settings).test_client()
    for arguments, path in (
        (("runs", "--limit", "3"), "/runs?limit=3"),
        (("run", run_id), f"/runs/{run_id}"),
        (("health",), "/health"),
    ):
        done = runner.command(*arguments, "--json", ALERTS_CLOCK=NOW.isoformat())
        assert done.returncode == 0
        answer = client.get(
            f"/internal/alerts/engine{path}", headers={"x-internal-token": TOKEN}
        ).get_json()
        printed = json.loads(done.stdout)
        for moving in ("last_success_minutes",):  # ages go by the wall's clock
            printed.pop(moving, None)
            answer.pop(moving, None)
        assert printed == answer


def test_unknown_run_is_an_error(runner: Runner) -> None:
    done = runner.command("run", "no-such-run")
    assert done.returncode == 1
    assert "no run has this id" in done.stderr


def test_failures_are_queued_again_from_the_command_line(conn: Connection, runner: Runner) -> None:
    user = add_user(conn)
    kept = add_delivery(
        conn, user, add_alert(conn), status="failed", failure_code="recipient_invalid"
    )
    row = add_delivery(conn, user, add_alert(conn), status="failed", attempts=1)
    runner.environ["ALERTS_CLOCK"] = NOW.isoformat()
    dry = runner.command("retry-failed", "deliveries", "--dry-run", "--json")
    answer = json.loads(dry.stdout)
    assert (answer["eligible"], answer["requeued"], answer["action_id"]) == (1, 1, None)
    assert delivery(conn, row)["status"] == "failed"
    done = json.loads(runner.command("retry-failed", "deliveries", "--json").stdout)
    assert (done["requeued"], done["excluded"]) == (1, {"recipient_invalid": 1})
    assert delivery(conn, row)["status"] == "queued"
    assert delivery(conn, kept)["status"] == "failed"
    (action,) = query(conn, "SELECT * FROM alerts_admin_actions")
    assert (action["id"], action["token_key_id"]) == (done["action_id"], "cli")
