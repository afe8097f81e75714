"""`--every`: a run each so many seconds, whatever becomes of the one before."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.cli import repeating
from alerts.phases.context import Stop
from tests.alerts.cli.test_signals import LIMIT_SECONDS, running, waiting_for_a_lock
from tests.support.databases import TestServer
from tests.support.run_world import Runner, last_run, whole_world
from tests.support.world import query, settings_for, value, wait_until


class Day(Event):
    """A signal that comes at ``ends``, on a clock that waiting and running move."""

    def __init__(self, ends: float) -> None:
        super().__init__()
        self.now, self.ends = 0.0, ends

    def is_set(self) -> bool:
        return self.now >= self.ends

    def wait(self, timeout: float | None = None) -> bool:
        self.now += timeout or 0.0
        return self.is_set()


def starts(
    monkeypatch: pytest.MonkeyPatch, ends: float, *lasting: float, every: int = 10
) -> list[float]:
    """When runs start that last so long, the last length for all that follow."""
    day, found = Day(ends), []

    def run() -> int:
        found.append(day.now)
        day.now += lasting[min(len(found), len(lasting)) - 1]
        return 0

    monkeypatch.setattr(repeating, "time", SimpleNamespace(monotonic=lambda: day.now))
    settings = settings_for("postgresql://nobody@127.0.0.1/none")
    assert repeating.run_every(every, settings, run, Stop(signalled=day)) == 0
    return found


@pytest.mark.parametrize(
    ("lasting", "expected"),
    [
        ((1,), [0, 10, 20, 30]),
        ((9.999,), [0, 10, 20, 30]),  # lateness does not add up
        ((10,), [0, 20]),  # a slot that has just begun is over
        ((12, 1), [0, 20, 30]),
        ((35, 1), []),
        ((29, 1), [0, 30]),  # the slots that it outlasted are left out, not caught up
        ((0,), [0, 10, 20, 30]),
    ],
)
def test_runs_start_at_slots_and_never_pile_up(
    monkeypatch: pytest.MonkeyPatch, lasting: tuple[float, ...], expected: list[float]
) -> None:
    assert starts(monkeypatch, 35, *lasting) == (expected or [0])


def test_run_that_raises_does_not_end_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    day, calls = Day(25), []

    def run() -> int:
        calls.append(day.now)
        raise BrokenPipeError

    monkeypatch.setattr(repeating, "time", SimpleNamespace(monotonic=lambda: day.now))
    stop = Stop(signalled=day, deadline=1.0, last_resort=lambda: None)
    repeating.run_every(10, settings_for("postgresql://nobody@127.0.0.1/none"), run, stop)
    assert calls == [0, 10, 20]
    assert [record.levelname for record in caplog.records] == ["CRITICAL"] * 3
    assert (stop.deadline, stop.last_resort) == (None, None)  # no run's after its end


@pytest.mark.parametrize(
    ("every", "given", "expected"),
    [
        (None, None, None),
        (None, "7", "7"),
        (30, None, "2"),
        (30, " ", "2"),
        (30, "7", "7"),
        (120, None, "2"),
        (121, None, "3"),
        (86_400, None, "1440"),
    ],
)
def test_health_expects_what_every_says_unless_it_is_told_otherwise(
    every: int | None, given: str | None, expected: str | None
) -> None:
    environ = {} if given is None else {repeating.INTERVAL: given}
    assert repeating.expecting(environ, every).get(repeating.INTERVAL) == expected


def test_interval_that_health_would_miss_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    starts(monkeypatch, 1, 0, every=600)
    assert not caplog.records
    starts(monkeypatch, 1, 0, every=601)
    assert "--every 601 runs less often" in caplog.text


def runs(conn: Connection, status: str) -> int:
    return int(
        value(
            conn,
            "SELECT count(*) FROM alerts_engine_runs WHERE status = %s AND finished_at IS NOT NULL",
            status,
        )
    )


def test_process_outlives_its_database_and_ends_at_once_while_it_waits(
    test_server: TestServer, database_url: str, tmp_path: Path
) -> None:
    name = database_url.rpartition("/")[2].partition("?")[0]
    runner = Runner(database_url, tmp_path)
    admin = psycopg2.connect(test_server.url("postgres"))
    admin.autocommit = True
    with running(runner, "--phase", "all", "--every", "1") as process:
        conn = psycopg2.connect(database_url)
        conn.autocommit = True
        wait_until(lambda: runs(conn, "success") >= 3)
        conn.close()
        db.execute(admin, f"ALTER DATABASE {name} RENAME TO {name}_away")
        spool = tmp_path / "alerts_runs_spool.jsonl"
        wait_until(spool.exists)
        db.execute(admin, f"ALTER DATABASE {name}_away RENAME TO {name}")
        conn = psycopg2.connect(database_url)
        conn.autocommit = True
        wait_until(lambda: not spool.exists())
        before = runs(conn, "success")
        wait_until(lambda: runs(conn, "success") > before)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=20)
        assert time.monotonic() - started < LIMIT_SECONDS
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    lines: list[dict[str, Any]] = [json.loads(line) for line in output.splitlines()]
    ended = [line["run_id"] for line in lines if line["event"] == "run_finished"]
    assert len(set(ended)) == len(ended) >= 5
    assert set(ended) == {
        row["run_id"] for row in query(conn, "SELECT run_id FROM alerts_engine_runs")
    }
    assert runs(conn, "failed") >= 1
    state = query(conn, "SELECT interval_minutes FROM alerts_engine_state ORDER BY id DESC LIMIT 1")
    assert state[0]["interval_minutes"] == 2
    conn.close()
    admin.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_a_run_under_way_and_with_it_the_program(
    conn: Connection, database_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    whole_world(conn)
    locker = db.connect(database_url, application_name="locker")
    db.execute(locker, "BEGIN; LOCK TABLE risk_indices")
    with running(Runner(database_url, tmp_path), "--phase", "all", "--every", "1") as process:
        wait_until(lambda: waiting_for_a_lock(conn))
        started = time.monotonic()
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
        assert time.monotonic() - started < LIMIT_SECONDS
    locker.close()
    assert process.returncode == 0, errors
    assert last_run(conn)["error_summary"] == f"interrupted by {number.name}"
    assert value(conn, "SELECT count(*) FROM alerts_engine_runs") == 1


def test_killed_process_leaves_what_the_next_one_finishes(
    conn: Connection, database_url: str, tmp_path: Path
) -> None:
    whole_world(conn)
    locker = db.connect(database_url, application_name="locker")
    db.execute(locker, "BEGIN; LOCK TABLE risk_indices")
    runner = Runner(database_url, tmp_path)
    with running(runner, "--phase", "all", "--every", "60") as process:
        wait_until(lambda: waiting_for_a_lock(conn))
        process.kill()
    locker.close()
    with running(runner, "--phase", "all", "--every", "60") as process:
        wait_until(lambda: runs(conn, "success") == 1)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 0


def test_wrong_setting_ends_it_at_start(database_url: str, tmp_path: Path) -> None:
    done = Runner(database_url, tmp_path)(
        "--phase", "all", "--every", "1", ALERTS_SEND_WORKERS="many"
    )
    assert done.returncode == 1
    assert "ALERTS_SEND_WORKERS" in done.stderr


@pytest.mark.parametrize("given", ["0", "86401", "0.5", "10s", "-1"])
def test_every_takes_whole_seconds_of_at_most_a_day(tmp_path: Path, given: str) -> None:
    done = Runner("", tmp_path)("--phase", "all", "--every", given)
    assert done.returncode == 2
    assert "--every takes a whole number from 1 to 86400" in done.stderr
