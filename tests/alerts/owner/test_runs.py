"""Real runner processes: what the monitor hears of a run, and what a run costs that tells."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg2.extensions import connection as Connection

from alerts.engine import Hooks, RunRequest, run_engine
from alerts.owner.telling import Telling
from alerts.phases.context import Stop
from tests.support.monitor_double import CHECK, Monitor
from tests.support.owner_world import OWNER_EMAIL, parsed, place_at
from tests.support.pg_proxy import PgProxy
from tests.support.provider_runs import environ as provider_environ
from tests.support.providers import Fault, HttpProvider
from tests.support.queue_world import queue_instants
from tests.support.run_world import Runner, last_run
from tests.support.web import CLOSED_PORT
from tests.support.world import NOW, query, settings_for, wait_until

AT_NOW = ("--now", NOW.isoformat())


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    with Monitor() as double:
        yield double


@pytest.fixture
def runner(database_url: str, tmp_path: Path, monitor: Monitor) -> Runner:
    found = Runner(database_url, tmp_path)
    found.environ["ALERTS_PING_URL"] = monitor.url
    return found


def test_a_run_is_told_from_start_to_end_with_its_id_and_the_health_it_left(
    conn: Connection, runner: Runner, monitor: Monitor
) -> None:
    done = runner("--phase", "all", *AT_NOW)
    assert done.returncode == 0, done.stderr
    run_id = last_run(conn)["run_id"]
    assert [(ping.kind, ping.rid) for ping in monitor.pings] == [
        ("start", run_id), ("success", run_id),
    ]  # fmt: skip
    body = monitor.pings[1].body
    assert body.startswith("OK at 19:00 CET: All is well: 0 messages went out")
    assert "Last run: success" in body
    assert CHECK not in done.stdout + done.stderr


def test_a_failed_run_says_so_and_why(conn: Connection, runner: Runner, monitor: Monitor) -> None:
    queue_instants(conn, 1)
    (runner.folder / "outbox").write_text("a file where the folder should be")
    assert runner("--phase", "all", *AT_NOW).returncode == 1
    assert monitor.kinds() == ["start", "fail"]
    assert monitor.pings[1].body.startswith("FAILING at 19:00 CET: ")


def test_a_run_that_is_skipped_has_come_all_the_same(
    conn: Connection, runner: Runner, monitor: Monitor
) -> None:
    assert runner("--phase", "all", *AT_NOW, ALERTS_V2_ENABLED="false").returncode == 0
    assert monitor.kinds() == ["start", "success"]
    assert last_run(conn)["status"] == "skipped"


def test_a_dry_run_says_nothing(runner: Runner, monitor: Monitor) -> None:
    assert runner("--phase", "all", "--dry-run", *AT_NOW).returncode == 0
    assert monitor.pings == []


def test_a_monitor_that_does_not_answer_costs_a_warning_and_little_time(
    runner: Runner, monitor: Monitor
) -> None:
    monitor.hang = True
    done = runner("--phase", "a", *AT_NOW)
    assert done.returncode == 0
    assert "the monitor could not be pinged" in done.stderr
    assert CHECK not in done.stdout + done.stderr


def test_settings_that_do_not_parse_are_a_failure_too(
    conn: Connection, runner: Runner, monitor: Monitor
) -> None:
    assert runner("--phase", "all", ALERTS_SEND_WORKERS="many").returncode == 1
    assert monitor.kinds() == ["start", "fail"]
    assert monitor.pings[1].rid == last_run(conn)["run_id"]


@pytest.mark.parametrize(
    ("url", "kinds", "body"),
    [
        ("", ["fail"], "Run failed: configuration error: DATABASE_URL\n"),
        (CLOSED_PORT, ["start", "fail"], "Run failed: OperationalError: connection refused\n"),
    ],
)
def test_without_a_database_the_monitor_hears_of_it(
    runner: Runner, monitor: Monitor, url: str, kinds: list[str], body: str
) -> None:
    done = runner("--phase", "all", DATABASE_URL=url)
    assert done.returncode == 1
    assert (monitor.kinds(), monitor.pings[-1].body) == (kinds, body)
    assert "hush" not in done.stderr + body


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_run_that_is_interrupted_has_failed(
    conn: Connection, runner: Runner, monitor: Monitor, name: str
) -> None:
    queue_instants(conn, 1, "telegram")
    with HttpProvider() as telegram:
        telegram.rule = lambda _: Fault("slow", seconds=1.0)
        environ = {**runner.environ, **provider_environ(telegram)["telegram"], "EMAIL_PROVIDER": ""}
        process = subprocess.Popen(
            [sys.executable, "-m", "alerts.runner", "--phase", "c", *AT_NOW],
            cwd=runner.folder, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        wait_until(lambda: telegram.requests)
        process.send_signal(signal.Signals[name])
        _, stderr = process.communicate(timeout=6)
    assert process.returncode == 1
    assert monitor.kinds() == ["start", "fail"]
    assert monitor.pings[1].body == f"Run failed: interrupted by {name}\n"
    assert CHECK.encode() not in stderr


def test_two_failed_runs_of_the_program_are_a_notice(
    conn: Connection, database_url: str, runner: Runner
) -> None:
    with place_at(database_url) as place:
        del place.environ["ALERTS_OWNER_TELEGRAM_CHAT_ID"]
        runner.environ |= {**place.environ, "TELEGRAM_BOT_TOKEN": "1:wrong"}
        queue_instants(conn, 1, "telegram")
        for _ in range(2):
            code, lines = runner.json_lines("--phase", "c", *AT_NOW, EMAIL_PROVIDER="smtp")
            assert (code, lines[-1]["status"]) == (1, "failed")
        (mail,) = place.mail.mails
    assert mail.recipient == OWNER_EMAIL
    assert "EnergyRiskIQ is failing: " in parsed(mail)["Subject"]
    told = query(conn, "SELECT * FROM alerts_notices")
    assert OWNER_EMAIL not in json.dumps(told, default=str)


# -- what it costs -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "most"),
    [({}, 0), ({"ALERTS_OWNER_EMAIL": OWNER_EMAIL}, 8), ({"ALERTS_PING_URL": "x"}, 7)],
    ids=["nobody", "owner", "monitor"],
)
def test_round_trips_and_connections_of_a_run_with_nothing_to_do(
    conn: Connection, database_url: str, monitor: Monitor, environ: dict[str, str], most: int
) -> None:
    environ = {name: monitor.url if value == "x" else value for name, value in environ.items()}
    for _ in range(2):  # the second finds what the first one did
        with PgProxy(database_url) as proxy:
            settings = settings_for(proxy.url, **environ)
            telling = Telling(settings, Stop(), dry_run=False, now=NOW)
            report = run_engine(settings, RunRequest(now=NOW), Hooks(on_start=telling.started))
            telling.ended(report.record, report.asked)
            wires = {wire.application: wire.round_trips for wire in proxy.wires}
    spent = wires.pop("alerts-owner", 0)
    assert spent <= most
    assert (spent > 0) == (most > 0)
    assert set(wires) == {"alerts-engine", "alerts-locks", "alerts-recorder"}
    assert sum(wires.values()) <= 27
