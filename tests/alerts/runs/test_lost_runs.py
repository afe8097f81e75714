"""A run's heart beats; one that went silent is closed by the next run."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db, engine_observability
from alerts.channels.base import Message
from tests.support.providers import BOT_TOKEN, Fault, HttpProvider
from tests.support.queue_world import lapse, queue_instants, statuses
from tests.support.run_world import Runner
from tests.support.world import RememberingChannel, all_channels, query, run, value, wait_until

RUNS = "alerts_engine_runs"


def add_silent_run(conn: Connection, run_id: str, seconds: int) -> None:
    db.execute(
        conn,
        f"INSERT INTO {RUNS} (run_id, triggered_by, phase, started_at, status, heartbeat_at)"
        " SELECT %s, 'local', 'all', t - interval '1 hour', 'running', t"
        " FROM (SELECT clock_timestamp() - %s * interval '1 second' AS t) AS x",
        (run_id, seconds),
    )


def test_next_run_closes_a_silent_one_and_leaves_one_that_lives(
    conn: Connection, database_url: str
) -> None:
    add_silent_run(conn, "lost", 91)
    add_silent_run(conn, "alive", 80)
    run(database_url, "a")
    found = {row["run_id"]: row for row in query(conn, f"SELECT * FROM {RUNS}")}
    assert found["lost"]["status"] == "failed"
    assert found["lost"]["error_summary"].startswith("runner lost: no heartbeat since 20")
    assert found["lost"]["duration_ms"] >= 3_600_000
    assert found["lost"]["finished_at"] is not None
    assert found["alive"]["status"] == "running"


def test_unfinished_phases_of_a_lost_run_are_closed_with_it(
    conn: Connection, database_url: str
) -> None:
    """Phases are stored when they end; those of other writers may be open."""
    add_silent_run(conn, "lost", 91)
    db.execute(
        conn,
        "INSERT INTO alerts_engine_run_items (run_id, phase, started_at, status)"
        " VALUES ('lost', 'a', now(), 'success')",
    )
    run(database_url, "a")
    (item,) = query(conn, "SELECT * FROM alerts_engine_run_items WHERE run_id = 'lost'")
    assert (item["status"], item["error_summary"]) == ("failed", "runner lost")
    assert item["finished_at"] is not None


def test_recording_survives_that_closing_fails(conn: Connection, database_url: str) -> None:
    """Another connection holds the silent run's row: the new run is recorded all the same."""
    add_silent_run(conn, "lost", 91)
    db.execute(conn, f"BEGIN; SELECT * FROM {RUNS} WHERE run_id = 'lost' FOR UPDATE")
    report = run(database_url, "a")
    db.execute(conn, "ROLLBACK")
    assert report.recorded
    assert (
        value(conn, f"SELECT status FROM {RUNS} WHERE run_id = %s", report.record.run_id)
        == "success"
    )


def test_heart_of_a_long_run_beats(
    conn: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_observability, "HEARTBEAT_SECONDS", 0.2)
    monkeypatch.setattr(engine_observability, "PROGRESS_SECONDS", 0.05)
    queue_instants(conn, 1)
    beats: set[Any] = set()

    def answer(message: Message) -> str | None:
        def heard() -> bool:
            with db.connect(database_url, application_name="listener") as other:
                beats.update(r["heartbeat_at"] for r in query(other, f"SELECT * FROM {RUNS}"))
            other.close()
            return len(beats) >= 3

        wait_until(heard)
        return None

    assert run(database_url, "c", channels=all_channels(email=RememberingChannel(answer))).recorded
    assert len(beats) >= 3


def hang_after(provider: HttpProvider, accepted: int) -> list[object]:
    """Let the provider hang once it took so many; the requests that hang, which are in doubt."""
    hanging: list[object] = []

    def rule(request: object) -> Fault | None:
        if len(provider.accepted) < accepted:
            return None
        hanging.append(request)
        return Fault("hang")

    provider.rule = rule
    return hanging


def test_killed_run_is_finished_by_the_next_and_nothing_is_lost(
    conn: Connection, database_url: str, tmp_path: Path
) -> None:
    """SIGKILL in the middle of sending: the next run rescues, sends and closes."""
    queue_instants(conn, 40, "telegram")
    environ = {"ALERTS_SEND_WORKERS": "4", "TELEGRAM_BOT_TOKEN": BOT_TOKEN}
    with HttpProvider() as provider:
        hanging = hang_after(provider, 10)
        environ["TELEGRAM_API_BASE"] = provider.url
        runner = Runner(database_url, tmp_path)
        command = [sys.executable, "-m", "alerts.runner", "--phase", "c", "--log-json"]
        environ["ALERTS_DELIVERY_MAX_AGE_HOURS"] = "0"
        with subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**runner.environ, **environ},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            wait_until(lambda: hanging and statuses(conn).get("sent", 0) >= 10)
            process.send_signal(signal.SIGKILL)
        provider.rule = lambda request: None
        in_doubt = statuses(conn).get("sending", 0)
        assert 0 < in_doubt <= 40
        lapse(conn)
        db.execute(conn, f"UPDATE {RUNS} SET heartbeat_at = now() - interval '2 minutes'")
        environ["ALERTS_RETRY_BASE_SECONDS"] = "1"
        wait_until(
            lambda: (
                runner("--phase", "c", **environ).returncode == 0 and statuses(conn) == {"sent": 40}
            )
        )
    rows = query(conn, f"SELECT status, error_summary FROM {RUNS} ORDER BY id")
    assert rows[0]["status"] == "failed"
    assert rows[0]["error_summary"].startswith("runner lost")
    assert {row["status"] for row in rows[1:]} == {"success"}


def test_killed_run_that_parks_leaves_at_most_its_workers_in_doubt(
    conn: Connection, database_url: str, tmp_path: Path
) -> None:
    """Recorded one by one, and claimed only as many as there are workers."""
    queue_instants(conn, 60, "telegram")
    workers = 4
    with HttpProvider() as provider:
        hanging = hang_after(provider, 10)
        environ = {
            "ALERTS_SEND_WORKERS": str(workers),
            "ALERTS_RECORD_BATCH": "1",
            "ALERTS_ON_UNKNOWN_OUTCOME": "park",
            "ALERTS_DELIVERY_MAX_AGE_HOURS": "0",
            "TELEGRAM_BOT_TOKEN": BOT_TOKEN,
            "TELEGRAM_API_BASE": provider.url,
        }
        runner = Runner(database_url, tmp_path)
        command = [sys.executable, "-m", "alerts.runner", "--phase", "c", "--log-json"]
        with subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**runner.environ, **environ},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            wait_until(lambda: hanging and statuses(conn).get("sent", 0) >= 8)
            process.send_signal(signal.SIGKILL)
        taken = len(provider.accepted)
        in_doubt = statuses(conn)["sending"]
        assert 0 < in_doubt <= workers
        provider.rule = lambda request: None
        lapse(conn)
        assert runner("--phase", "c", **environ).returncode == 0
        found = statuses(conn)
        assert found["failed"] == in_doubt  # parked, for someone to look at
        assert found["sent"] + found["failed"] == 60
        # Nobody got a message twice, and only those in doubt may have got none.
        assert taken <= len(provider.accepted) <= 60
