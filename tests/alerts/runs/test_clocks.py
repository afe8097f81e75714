"""Runs are ordered by the database's clock, whatever the clock of the machine that they ran on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db, engine, engine_observability, migrations
from alerts.health.report import get_health
from alerts.runs.record import RunItem, RunRecord
from alerts.runs.store import SKEW_SECONDS, store
from tests.support.web import Admin, add_run, app_for
from tests.support.world import query, run, settings_for, value

HOUR = timedelta(hours=1)
SETTINGS = settings_for("postgresql://unused")
OFF = [timedelta(hours=20), timedelta(minutes=3), timedelta(hours=-20), timedelta(days=-4000)]
SetClock = Callable[[timedelta], None]


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[SetClock]:
    """Sets the clock of the machine that runs the engine so far ahead of the real one."""
    ahead = [timedelta(0)]

    class Skewed(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + ahead[0]

    for module in (engine, engine_observability):
        monkeypatch.setattr(module, "datetime", Skewed)

    def set_(by: timedelta) -> None:
        ahead[0] = by

    yield set_


def health_of(conn: Connection) -> dict[str, Any]:
    return get_health(conn, SETTINGS, datetime.now(UTC))


def reasons(conn: Connection) -> list[str]:
    return [reason["code"] for reason in health_of(conn)["reasons"]]


def is_of_now(conn: Connection, moment: datetime) -> bool:
    return bool(abs((value(conn, "SELECT clock_timestamp()") - moment).total_seconds()) < 60)


@pytest.mark.parametrize("off", OFF)
def test_times_are_told_by_the_clock_of_the_database(
    conn: Connection, database_url: str, set_clock: SetClock, off: timedelta
) -> None:
    set_clock(off)
    report = run(database_url)
    assert report.recorded
    (row,) = query(conn, "SELECT * FROM alerts_engine_runs")
    times = [row["started_at"], row["finished_at"]]
    for item in query(conn, "SELECT * FROM alerts_engine_run_items"):
        times += [item["started_at"], item["finished_at"]]
    assert len(times) == 10
    assert all(is_of_now(conn, moment) for moment in times)
    assert row["started_at"] <= row["finished_at"]
    assert row["duration_ms"] == report.record.duration_ms
    assert abs(row["clock_skew_seconds"] - off.total_seconds()) <= 2


@pytest.mark.parametrize("off", OFF)
def test_nothing_ends_before_it_began_though_its_first_write_was_long_on_its_way(
    conn: Connection, off: timedelta
) -> None:
    began = datetime.now(UTC) + off
    ended = began + timedelta(milliseconds=60)
    item = RunItem("a", began, ended, 60, "success", {})
    record = RunRecord("r", "local", "a", began, dry_run=False).with_item(item)
    store(conn, record, told_at=began - timedelta(seconds=9))
    store(conn, replace(record, status="success", finished_at=ended), told_at=ended)
    for table in ("alerts_engine_runs", "alerts_engine_run_items"):
        (row,) = query(conn, f"SELECT started_at, finished_at FROM {table}")
        assert row["started_at"] <= row["finished_at"]


@pytest.mark.parametrize("off", OFF)
def test_no_run_is_hidden_by_one_of_another_clock(
    conn: Connection, database_url: str, set_clock: SetClock, off: timedelta
) -> None:
    def fails() -> str:
        db.execute(conn, "ALTER TABLE alert_events RENAME TO elsewhere")
        run_id = run(database_url, "b").record.run_id
        db.execute(conn, "ALTER TABLE elsewhere RENAME TO alert_events")
        return run_id

    for clocks in ((off, timedelta(0)), (timedelta(0), off)):
        set_clock(clocks[0])
        run(database_url, "a")
        set_clock(clocks[1])
        failed = fails()
        health = health_of(conn)
        assert health["last_run"]["run_id"] == failed
        assert "last_run_failed" in [reason["code"] for reason in health["reasons"]]
        assert 0 <= health["last_success_minutes"] < 1
        listed = query(conn, "SELECT run_id FROM alerts_engine_runs ORDER BY started_at DESC")
        assert listed[0]["run_id"] == failed


@pytest.mark.parametrize(
    ("off", "told"),
    [
        (timedelta(hours=20), "20 hours ahead of the database's"),
        (timedelta(days=-3), "3 days behind the database's"),
        (timedelta(minutes=5), "5 minutes ahead of"),
        (timedelta(seconds=-45), "45 seconds behind"),
    ],
)
def test_a_clock_that_is_off_is_a_reason_until_it_is_set(
    conn: Connection, database_url: str, set_clock: SetClock, off: timedelta, told: str
) -> None:
    set_clock(off)
    run(database_url, "a")
    (reason,) = health_of(conn)["reasons"]
    assert reason["code"] == "clock_skew"
    # A second passes while the run is recorded.
    assert told in reason["message"] or f"{off.total_seconds():.0f}"[:2] in reason["message"]
    set_clock(timedelta(0))
    run(database_url, "a")
    assert reasons(conn) == []


def test_what_a_write_takes_is_no_skew(
    conn: Connection, database_url: str, set_clock: SetClock
) -> None:
    set_clock(-timedelta(seconds=SKEW_SECONDS - 1))
    report = run(database_url, "a")
    (row,) = query(conn, "SELECT * FROM alerts_engine_runs")
    assert row["started_at"] == report.record.started_at
    assert reasons(conn) == []


@pytest.mark.parametrize("ahead", [timedelta(seconds=2), 20 * HOUR, timedelta(days=300_000)])
def test_whoever_writes_no_run_lies_ahead(conn: Connection, ahead: timedelta) -> None:
    later = datetime.now(UTC) + ahead
    add_run(conn, started_at=later, finished_at=later)
    failed = add_run(conn, status="failed", started_at=datetime.now(UTC))
    db.execute(conn, "UPDATE alerts_engine_runs SET finished_at = %s", (later,))
    for row in query(conn, "SELECT started_at, finished_at, clock_timestamp() AS now"
                     " FROM alerts_engine_runs"):  # fmt: skip
        assert row["started_at"] <= row["now"]
        assert row["finished_at"] <= row["now"]
    health = health_of(conn)
    assert health["last_run"]["run_id"] == failed
    assert health["last_success_minutes"] >= 0


def test_a_running_run_has_no_end(conn: Connection) -> None:
    add_run(conn, status="running", started_at=datetime.now(UTC) + HOUR)
    assert value(conn, "SELECT finished_at FROM alerts_engine_runs") is None


def test_a_slot_is_found_by_the_clock_of_the_database(conn: Connection) -> None:
    now = datetime.now(UTC)
    add_run(conn, triggered_by="github_actions_schedule", started_at=now - timedelta(minutes=11))
    ahead = now + 20 * HOUR
    record = RunRecord("x", "github_actions_schedule", "all", ahead, False)
    store(conn, record, told_at=ahead)
    (row,) = query(conn, "SELECT * FROM alerts_engine_runs WHERE run_id = 'x'")
    assert row["scheduled_for"] == now - timedelta(minutes=1)
    assert 59 <= row["late_seconds"] <= 61
    schedule = get_health(conn, SETTINGS, now)["schedule"]
    assert schedule["missed_slots_24h"] == 0
    assert is_of_now(conn, datetime.fromisoformat(schedule["last_scheduled_at"]))


def test_a_record_without_a_clock_of_its_own_keeps_its_times(conn: Connection) -> None:
    """As of a spool: which clock it was told by is not known."""
    then = datetime.now(UTC) - 20 * HOUR
    item = RunItem("a", then, then, 1, "success")
    record = RunRecord("x", "local", "a", then, False, status="success", finished_at=then,
                       duration_ms=1, items=(item,))  # fmt: skip
    store(conn, record)
    (row,) = query(conn, "SELECT * FROM alerts_engine_runs")
    assert (row["started_at"], row["clock_skew_seconds"]) == (then, None)
    assert reasons(conn) == ["no_recent_success"]


def test_the_web_apps_own_clock_makes_no_age_negative(conn: Connection, database_url: str) -> None:
    add_run(conn)
    behind = datetime.now(UTC) - 20 * HOUR
    client = app_for(database_url, ALERTS_CLOCK=behind.isoformat()).test_client()
    health = Admin(client).ok("/health")
    ages = ("last_success_minutes", "oldest_queued_delivery_minutes")
    assert all(health[name] is None or health[name] >= 0 for name in ages)


def test_runs_that_lay_ahead_before_are_put_right_by_the_migration(
    empty_database_url: str, tmp_path: Path
) -> None:
    import psycopg2

    migrations.migrate(empty_database_url)
    conn = psycopg2.connect(empty_database_url)
    conn.autocommit = True
    trigger = "alerts_engine_runs_not_ahead"
    db.execute(conn, f"DROP TRIGGER {trigger} ON alerts_engine_runs")
    ahead = datetime.now(UTC) + 20 * HOUR
    add_run(conn, started_at=ahead, finished_at=ahead)
    db.execute(conn, (migrations.MIGRATIONS_DIR / "0005_run_history.sql").read_text())
    (row,) = query(conn, "SELECT * FROM alerts_engine_runs")
    assert is_of_now(conn, row["started_at"])
    assert is_of_now(conn, row["finished_at"])
    conn.close()


def test_the_skew_is_shown_with_the_run(
    conn: Connection, database_url: str, set_clock: SetClock
) -> None:
    set_clock(20 * HOUR)
    run(database_url, "a")
    (shown,) = Admin(app_for(database_url).test_client()).ok("/runs")["runs"]
    assert 72_000 <= shown["clock_skew_seconds"] <= 72_010
    assert json.dumps(shown)
