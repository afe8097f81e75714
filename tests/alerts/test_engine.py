"""The run as a whole: locks, phases that stand alone, lost connections, dry runs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from pkgutil import resolve_name

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from alerts import db, phases
from alerts.channels.base import Message
from alerts.engine import Hooks, RunRequest, run_engine
from alerts.locks import PhaseLocks
from alerts.phases import PHASES
from alerts.phases.context import Stop
from alerts.runs.record import RunItem
from alerts.settings.config import ConfigError, Settings
from tests.support.prefork import run_module
from tests.support.queue_world import delivery, queue_instants, row_of, statuses
from tests.support.run_world import (
    KILL_WHO_INSERTS_EVENTS,
    outbox_settings,
    phase_statuses,
    run_row,
    whole_world,
)
from tests.support.world import (
    NOW,
    RememberingChannel,
    add_source_event,
    all_channels,
    run,
    settings_for,
    value,
)


def end_connection(database_url: str, application: str) -> None:
    """What a failover does to a connection."""
    with psycopg2.connect(database_url) as conn, conn.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = %s",
            (application,),
        )
    conn.close()


# -- phases stand alone ----------------------------------------------------------------------


def test_phases_run_in_order_and_each_is_counted(conn: Connection, database_url: str) -> None:
    whole_world(conn)
    report = run(database_url)
    assert phase_statuses(report) == dict.fromkeys("abdc", "success")
    assert list(phase_statuses(report)) == ["a", "b", "d", "c"]
    assert list(report.record.counts) == ["a", "b", "d", "c"]


def test_single_phase_counts_under_its_letter(conn: Connection, database_url: str) -> None:
    report = run(database_url, "d")
    assert list(report.record.counts) == ["d"]
    assert run_row(conn, report)["phase"] == "d"


def test_failing_phase_is_recorded_and_the_later_ones_run(
    conn: Connection, database_url: str
) -> None:
    queue_instants(conn, 3)
    db.execute(conn, "ALTER TABLE risk_indices RENAME TO elsewhere")
    report = run(database_url)
    assert phase_statuses(report) == {"a": "failed", "b": "success", "d": "success", "c": "success"}
    assert report.record.status == "failed"
    summary = run_row(conn, report)["error_summary"]
    assert summary.startswith("phase a: ")
    assert "42P01" in summary
    assert statuses(conn)["sent"] >= 3


def test_listener_that_fails_stops_no_phase(conn: Connection, database_url: str) -> None:
    queue_instants(conn, 2)

    def broken(item: RunItem) -> None:
        raise BrokenPipeError

    hooks = Hooks(on_phase=broken, channels=all_channels())
    report = run_engine(settings_for(database_url), RunRequest(now=NOW), hooks)
    assert phase_statuses(report) == dict.fromkeys("abdc", "success")
    assert (report.record.status, report.recorded) == ("success", True)


def test_bug_between_the_phases_is_recorded(
    conn: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(choice: str) -> None:
        raise RuntimeError("someone@example.com")

    monkeypatch.setattr(phases, "chosen", broken)
    report = run(database_url)
    assert (report.record.status, report.recorded) == ("failed", True)
    assert "RuntimeError" in run_row(conn, report)["error_summary"]
    assert "example.com" not in run_row(conn, report)["error_summary"]


@pytest.mark.parametrize("step", ["access_of", "before_run.look"])
@pytest.mark.parametrize(
    ("signal", "summary"),
    [("SIGTERM", "interrupted by SIGTERM"), (None, "server closed the connection")],
)
def test_connection_that_ends_after_a_signal_is_recorded_as_that_signal(
    database_url: str, monkeypatch: pytest.MonkeyPatch, step: str, signal: str | None, summary: str
) -> None:
    stop = Stop()

    def ended_first(real: Callable[..., object], *arguments: object) -> object:
        if signal:
            stop.interrupt(signal)
        end_connection(database_url, "alerts-engine")
        return real(*arguments)

    module, _, name = f"alerts.engine.{step}".rpartition(".")
    real = getattr(resolve_name(module), name)
    monkeypatch.setattr(f"{module}.{name}", partial(ended_first, real))
    report = run_engine(settings_for(database_url), RunRequest(phase="all"), Hooks(stop=stop))
    assert report.record.status == "failed"
    assert summary in (report.record.error_summary or "")


def test_channel_that_cannot_be_closed_does_not_cost_the_record(
    conn: Connection, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alerts.channels.outbox import OutboxChannel

    def broken(channel: OutboxChannel) -> None:
        raise RuntimeError

    monkeypatch.setattr(OutboxChannel, "close", broken)
    settings = outbox_settings(database_url, tmp_path)
    report = run_engine(settings, RunRequest(now=NOW))
    assert (report.record.status, report.recorded) == ("success", True)


def test_past_the_deadline_no_phase_begins(conn: Connection, database_url: str) -> None:
    report = run(database_url, max_seconds=0.0)
    assert phase_statuses(report) == dict.fromkeys("abdc", "skipped")
    assert (report.record.status, report.record.error_summary) == ("skipped", "deadline")


def test_without_a_database_there_is_nothing_to_run_on() -> None:
    with pytest.raises(ConfigError, match="DATABASE_URL"):
        run_engine(Settings.from_env({}), RunRequest())


# -- locks -----------------------------------------------------------------------------------


@pytest.fixture
def other_runner(database_url: str) -> Iterator[PhaseLocks]:
    locks = PhaseLocks(partial(db.open_session, database_url, application_name="other"))
    yield locks
    locks.close()


def test_phase_whose_lock_is_held_is_skipped(
    conn: Connection, database_url: str, other_runner: PhaseLocks
) -> None:
    queue_instants(conn, 2)
    other_runner.acquire("alerts_v2_phase_b")
    report = run(database_url)
    assert report.record.status == "success"
    skipped = report.record.items[1]
    assert (skipped.phase, skipped.status) == ("b", "skipped")
    assert skipped.error_summary == "lock_not_acquired"
    assert skipped.counts == {"skipped": "lock_not_acquired"}
    assert statuses(conn) == {"sent": 2}


def test_run_whose_phases_are_all_locked_is_skipped(
    conn: Connection, database_url: str, other_runner: PhaseLocks
) -> None:
    queue_instants(conn, 2)
    for phase in PHASES:
        other_runner.acquire(phase.lock_key, keep_others=True)
    report = run(database_url)
    assert (report.record.status, report.record.error_summary) == ("skipped", "lock_not_acquired")
    assert run_row(conn, report)["status"] == "skipped"
    assert statuses(conn) == {"queued": 2}


def test_finished_phase_gives_its_lock_back(
    conn: Connection, database_url: str, other_runner: PhaseLocks
) -> None:
    queue_instants(conn, 1)
    got: list[bool] = []
    channel = RememberingChannel(
        lambda message: str(
            got.append(other_runner.acquire("alerts_v2_phase_a", keep_others=True))
            or got.append(other_runner.acquire("alerts_v2_phase_c", keep_others=True))
        )
    )
    run(database_url, channels=all_channels(email=channel), environ={"ALERTS_SEND_WORKERS": "1"})
    assert got[:2] == [True, False]


def test_phase_that_loses_its_lock_stops_before_its_next_claim(
    conn: Connection, database_url: str
) -> None:
    queue_instants(conn, 50)
    calls: list[str] = []

    def answer(message: Message) -> str | None:
        calls.append(message.key)
        if len(calls) == 1:
            end_connection(database_url, "alerts-locks")
        return None

    channel = RememberingChannel(answer)
    environ = {"ALERTS_SEND_WORKERS": "1"}
    report = run(database_url, "c", channels=all_channels(email=channel), environ=environ)
    assert report.record.status == "failed"
    assert "lock_lost" in (report.record.error_summary or "")
    counts = report.record.counts["c"]
    assert counts["stopped_early"] == "lock_lost"
    tally = counts["deliveries"]
    assert tally["claimed"] == 2 == tally["sent"] + tally["released"]
    assert statuses(conn) == {"sent": tally["sent"], "queued": 50 - tally["sent"]}
    assert run_row(conn, report)["counts"] == report.record.counts


# -- lost connections ------------------------------------------------------------------------


def test_phase_after_a_lost_connection_runs_on_a_new_one(
    conn: Connection, database_url: str
) -> None:
    queue_instants(conn, 3)
    add_source_event(conn)
    db.execute(conn, KILL_WHO_INSERTS_EVENTS)
    report = run(database_url)
    assert phase_statuses(report) == {"a": "failed", "b": "success", "d": "success", "c": "success"}
    assert report.record.status == run_row(conn, report)["status"] == "failed"
    assert statuses(conn)["sent"] >= 3


def test_connection_lost_while_sending_fails_the_phase_and_leaves_nothing_in_doubt(
    conn: Connection, database_url: str
) -> None:
    rows = queue_instants(conn, 10)
    all_under_way = threading.Barrier(8)

    def answer(message: Message) -> str | None:
        if row_of(message) in rows[:8] and all_under_way.wait(20) == 0:
            end_connection(database_url, "alerts-engine")
        return None

    channel = RememberingChannel(answer)
    report = run(database_url, "c", channels=all_channels(email=channel))
    assert report.record.status == run_row(conn, report)["status"] == "failed"
    sent = {row_of(message) for message in channel.sent}
    assert sent >= set(rows[:8])
    assert {row for row in rows if delivery(conn, row)["status"] == "sent"} == sent
    assert statuses(conn).get("sending") is None
    second = run(database_url, "c", channels=all_channels(email=channel))
    assert second.record.counts["c"]["deliveries"]["rescued"] == 0
    assert statuses(conn) == {"sent": len(channel.sent)} == {"sent": 10}


# -- dry runs --------------------------------------------------------------------------------


# -- several runners -------------------------------------------------------------------------


@pytest.mark.parametrize("round_", range(20))
def test_two_runners_at_once_send_each_message_once(
    conn: Connection, database_url: str, tmp_path: Path, round_: int
) -> None:
    count = 300
    queue_instants(conn, count, created_at=datetime.now(UTC) - timedelta(minutes=1))
    environ = {
        "DATABASE_URL": database_url,
        "EMAIL_PROVIDER": "outbox",
        "ALERTS_OUTBOX_DIR": str(tmp_path / "outbox"),
        "PATH": "/usr/bin:/bin",
    }
    start = partial(run_module, "alerts.runner", ["--phase", "c", "--log-json"], tmp_path)
    with ThreadPoolExecutor(2) as threads:
        runners = list(threads.map(start, [environ] * 2))
    assert [runner.returncode for runner in runners] == [0, 0]
    lines = [runner.stdout.splitlines()[0] for runner in runners]
    tallies = [json.loads(line)["counts"].get("deliveries", {}) for line in lines]
    assert sum(tally.get("sent", 0) for tally in tallies) == count
    assert value(conn, "SELECT max(attempts) FROM user_alert_deliveries") == 1
    assert statuses(conn) == {"sent": count}
    assert len(list((tmp_path / "outbox").iterdir())) == count
