"""A signal ends a run within five seconds, in every phase, with nothing lost and all recorded."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from tests.support.pg_proxy import PgProxy
from tests.support.providers import BOT_TOKEN, Fault, HttpProvider
from tests.support.queue_world import queue_instants, statuses
from tests.support.run_world import Runner, last_run, whole_world
from tests.support.world import add_alert, add_user, query, value, wait_until

LIMIT_SECONDS = 5.5  # five, and the start of a process on a busy machine
BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@contextmanager
def running(runner: Runner, *arguments: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "alerts.runner", *arguments, "--log-json"],
        cwd=runner.folder,
        env={**runner.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def end(process: subprocess.Popen[str], number: signal.Signals) -> dict[str, object]:
    """Signal the run; its last JSON line. It has to end in time, with exit code 1."""
    started = time.monotonic()
    process.send_signal(number)
    output, errors = process.communicate(timeout=20)
    assert time.monotonic() - started < LIMIT_SECONDS
    assert process.returncode == 1, errors
    assert "Traceback" not in errors
    last: dict[str, object] = json.loads(output.splitlines()[-1])
    return last


def waiting_for_a_lock(conn: Connection) -> bool:
    return bool(
        value(
            conn,
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'alerts-engine' AND wait_event_type = 'Lock'",
        )
    )


@BOTH
@pytest.mark.parametrize(
    ("phase", "table"),
    [("a", "risk_indices"), ("b", "user_channel_prefs"), ("d", "user_alert_digests")],
)
def test_signal_cancels_the_statement_of_a_phase(
    conn: Connection,
    database_url: str,
    tmp_path: Path,
    number: signal.Signals,
    phase: str,
    table: str,
) -> None:
    whole_world(conn)
    add_alert(conn)
    runner = Runner(database_url, tmp_path)
    locker = db.connect(database_url, application_name="locker")
    db.execute(locker, f"BEGIN; LOCK TABLE {table}")  # the statement takes as long as this
    arguments = ("--phase", "all", "--now", "2022-03-08T18:00:00+00:00")
    with running(runner, *arguments) as process:
        wait_until(lambda: waiting_for_a_lock(conn))
        told = end(process, number)
    locker.close()
    row = last_run(conn)
    assert told["status"] == row["status"] == "failed"
    assert row["error_summary"] == f"interrupted by {number.name}"
    assert told["recorded"] is True
    items = query(conn, "SELECT * FROM alerts_engine_run_items ORDER BY started_at, id")
    by_phase = {item["phase"]: item for item in items}
    assert by_phase[phase]["status"] == "failed"
    assert by_phase[phase]["error_summary"] == f"interrupted by {number.name}"
    order = ["a", "b", "d", "c"]
    assert [item["phase"] for item in items] == order
    for later in order[order.index(phase) + 1 :]:
        assert (by_phase[later]["status"], by_phase[later]["counts"]) == (
            "skipped",
            {"skipped": "signal"},
        )


@BOTH
def test_signal_while_sending_releases_what_has_not_started_without_an_attempt(
    conn: Connection, database_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    queue_instants(conn, 60, "telegram")
    environ = {
        "ALERTS_SEND_WORKERS": "2",
        "TELEGRAM_BOT_TOKEN": BOT_TOKEN,
        "ALERTS_DELIVERY_MAX_AGE_HOURS": "0",
        "ALERTS_PROVIDER_TIMEOUT_SECONDS": "60",
    }
    with HttpProvider() as provider:
        provider.rule = lambda request: Fault("hang") if len(provider.accepted) >= 6 else None
        environ["TELEGRAM_API_BASE"] = provider.url
        with running(Runner(database_url, tmp_path), "--phase", "c", **environ) as process:
            wait_until(lambda: len(provider.requests) >= 8)
            told = end(process, number)
    assert told["status"] == "failed"
    found = query(conn, "SELECT status, attempts, failure_code FROM user_alert_deliveries")
    assert statuses(conn) == {"sent": 6, "queued": 54}
    unknown = [row for row in found if row["failure_code"] == "outcome_unknown"]
    assert len(unknown) == 2  # the two calls under way had four seconds to answer
    assert all(row["attempts"] == 1 for row in unknown)
    released = [r for r in found if r["status"] == "queued" and r["failure_code"] is None]
    assert all(row["attempts"] == 0 for row in released)
    row = last_run(conn)
    assert row["error_summary"] == f"interrupted by {number.name}"
    counts = row["counts"]["c"]
    assert counts["stopped_early"] == "signal"
    assert (counts["deliveries"]["sent"], counts["deliveries"]["retried"]) == (6, 2)


def test_run_whose_database_went_silent_ends_all_the_same_and_is_kept(
    conn: Connection, database_url: str, tmp_path: Path
) -> None:
    """Nothing answers any more, not even the cancel request: the record goes to the spool."""
    whole_world(conn)
    spool = tmp_path / "spool.jsonl"
    locker = db.connect(database_url, application_name="locker")
    db.execute(locker, "BEGIN; LOCK TABLE risk_indices")
    with PgProxy(database_url) as proxy:
        runner = Runner(proxy.url, tmp_path)
        environ = {"ALERTS_RUN_SPOOL": str(spool)}
        with running(runner, "--phase", "a", **environ) as process:
            wait_until(lambda: waiting_for_a_lock(conn))
            proxy.swallow = lambda wire: True
            started = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=20)
            assert time.monotonic() - started < LIMIT_SECONDS
            assert process.returncode == 1
    locker.close()
    record = json.loads(spool.read_text())
    assert (record["status"], record["error_summary"]) == ("failed", "interrupted by SIGTERM")


def test_second_signal_changes_nothing(conn: Connection, database_url: str, tmp_path: Path) -> None:
    add_user(conn)
    add_alert(conn)
    locker = db.connect(database_url, application_name="locker")
    db.execute(locker, "BEGIN; LOCK TABLE user_channel_prefs")
    arguments = ("--phase", "b", "--now", "2022-03-08T18:00:00+00:00")
    with running(Runner(database_url, tmp_path), *arguments) as process:
        wait_until(lambda: waiting_for_a_lock(conn))
        process.send_signal(signal.SIGTERM)
        end(process, signal.SIGINT)
    locker.close()
    # Two that come at once reach a process in the order of their numbers.
    assert last_run(conn)["error_summary"] in ("interrupted by SIGTERM", "interrupted by SIGINT")


def test_signal_after_the_first_was_heard_is_no_error() -> None:
    script = """
import os, signal, time
from alerts.phases import Stop
from alerts.cli.signals import watching
stop = Stop()
with watching(stop):
    os.kill(os.getpid(), signal.SIGTERM)
    while stop.signal is None:
        time.sleep(0.001)
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGINT)
print(stop.signal)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "SIGTERM\n", "")
