"""What a run was meant for and how late it was; slots without a run, and runs that died."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.health.report import get_health
from alerts.runs.record import RunRecord
from alerts.runs.store import store
from tests.support.run_world import Runner, last_run
from tests.support.web import Admin, add_run, app_for
from tests.support.world import NOW, query, run, settings_for

NOON = datetime(2026, 1, 16, 12, 0, tzinfo=UTC)
SCHEDULE = "github_actions_schedule"
ON_SCHEDULE = {"GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": "schedule"}
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
Start = Callable[..., tuple[float, int]]


def at(minutes: float) -> datetime:
    return NOON + minutes * MINUTE


@pytest.fixture
def start(conn: Connection) -> Start:
    """Records a run that starts so many minutes after noon; its slot, likewise, and lateness."""

    def record(minutes: float, every: int = 10, by: str = SCHEDULE, **fields: Any) -> Any:
        run_id = fields.pop("run_id", f"{by} at {minutes}")
        store(conn, RunRecord(run_id, by, "all", at(minutes), False, interval_minutes=every,
                              **fields))  # fmt: skip
        (row,) = query(conn, "SELECT * FROM alerts_engine_runs WHERE run_id = %s", run_id)
        if row["scheduled_for"] is None:
            return None, row["late_seconds"]
        return (row["scheduled_for"] - NOON) / MINUTE, row["late_seconds"]

    return record


def test_first_scheduled_run_is_its_own_slot(start: Start) -> None:
    assert start(0.25) == (0.25, 0)


def test_slot_is_the_latest_whole_interval_before_the_start(start: Start) -> None:
    start(0)
    assert start(12) == (10, 120)
    assert start(20) == (20, 0)
    assert start(59.5) == (50, 570)


def test_lateness_does_not_add_up(start: Start) -> None:
    start(0)
    assert [start(n * 10 + 1 + n / 100) for n in range(1, 30)] == [
        (n * 10, round((1 + n / 100) * 60 * 10) // 10) for n in range(1, 30)
    ]


def test_changed_interval_goes_on_from_the_slot_before(start: Start) -> None:
    start(0)
    start(11)
    assert start(45, every=30) == (40, 300)
    assert start(56, every=5) == (55, 60)


def test_runs_by_hand_have_no_slot_and_move_none(start: Start) -> None:
    assert start(0, by="local") == (None, None)
    assert start(3) == (3, 0)
    assert start(7, by="github_actions_manual") == (None, None)
    assert start(14) == (13, 60)


def test_two_runs_may_have_the_same_slot(start: Start) -> None:
    start(0)
    start(11)
    assert start(13) == (10, 180)
    assert start(22) == (20, 120)


def test_starting_a_workflow_again_keeps_its_slot(start: Start) -> None:
    url = "https://github.com/o/r/actions/runs/1"
    start(0, ci_run_url=url)
    assert start(9, ci_run_url=url, run_id="again") == (0, 540)


def test_tick_that_shows_the_first_run_was_late_moves_the_slots_to_it(start: Start) -> None:
    start(0.7)
    assert start(10.2) == (10.2, 0)  # no run starts early: the first one was 30 s late
    assert start(20.7) == (20.2, 30)


def test_run_of_before_the_columns_counts_from_its_start(conn: Connection, start: Start) -> None:
    add_run(conn, triggered_by=SCHEDULE, started_at=at(0))
    assert start(21) == (20, 60)


def test_slot_is_kept_by_every_later_write(conn: Connection, start: Start) -> None:
    start(0)
    assert start(11, run_id="one") == (10, 60)
    done = {"status": "success", "finished_at": at(12), "duration_ms": 60_000}
    assert start(11, every=7, run_id="one", **done) == (10, 60)


def test_replayed_record_gets_the_slot_of_its_own_time(conn: Connection, start: Start) -> None:
    start(0)
    start(30)
    spooled = RunRecord("spooled", SCHEDULE, "all", at(12), False, interval_minutes=10)
    again = RunRecord.from_json(json.loads(spooled.as_line()))
    assert again == spooled
    assert start(12, run_id="spooled") == (10, 120)


def test_line_of_a_spool_of_before_is_still_a_record(start: Start) -> None:
    fields = RunRecord("old", SCHEDULE, "all", NOON, False).as_json()
    del fields["interval_minutes"]
    assert RunRecord.from_json(fields) == replace(
        RunRecord("old", SCHEDULE, "all", NOON, False), interval_minutes=10
    )


def test_engine_takes_the_interval_of_the_settings(conn: Connection, database_url: str) -> None:
    started = datetime.now(UTC) - 31 * MINUTE
    add_run(conn, triggered_by=SCHEDULE, started_at=started)
    environ = {**ON_SCHEDULE, "ALERTS_EXPECTED_INTERVAL_MINUTES": "15"}
    report = run(database_url, "a", environ=environ)
    found = last_run(conn)
    assert found["run_id"] == report.record.run_id
    assert found["scheduled_for"] == started + 30 * MINUTE
    assert 60 <= found["late_seconds"] < 120


def test_run_whose_settings_are_wrong_has_its_slot_too(
    conn: Connection, database_url: str, tmp_path: Path
) -> None:
    started = datetime.now(UTC) - 31 * MINUTE
    add_run(conn, triggered_by=SCHEDULE, started_at=started)
    Runner(database_url, tmp_path)(
        "--phase", "a", ALERTS_EXPECTED_INTERVAL_MINUTES="30", ALERTS_SEND_WORKERS="many",
        **ON_SCHEDULE,
    )  # fmt: skip
    found = last_run(conn)
    assert (found["status"], found["scheduled_for"]) == ("failed", started + 30 * MINUTE)


# -- what is shown -----------------------------------------------------------------------------


def schedule(conn: Connection, every: int = 10) -> dict[str, Any]:
    settings = settings_for("postgresql://x", ALERTS_EXPECTED_INTERVAL_MINUTES=str(every))
    found: dict[str, Any] = get_health(conn, settings, NOW)["schedule"]
    assert found.pop("expected_interval_minutes") == every
    return found


def add_scheduled(conn: Connection, minutes_ago: float, **columns: Any) -> datetime:
    started = datetime.now(UTC) - minutes_ago * MINUTE
    add_run(conn, triggered_by=SCHEDULE, started_at=started, **columns)
    return started


def record_runs(conn: Connection, *minutes_ago: float) -> datetime:
    """Scheduled runs as the recorder stores them; the start of the last."""
    now = datetime.now(UTC)
    for minutes in minutes_ago:
        started = now - minutes * MINUTE
        store(conn, RunRecord(f"{minutes} ago", SCHEDULE, "all", started, False))
    return started


def missed(conn: Connection, every: int = 10) -> int:
    found: int = schedule(conn, every)["missed_slots_24h"]
    return found


def test_without_a_scheduled_run_all_is_null_or_zero(conn: Connection) -> None:
    nothing = {
        "last_scheduled_at": None, "last_late_seconds": None, "missed_slots_24h": 0,
        "lost_runs_24h": 0,
    }  # fmt: skip
    assert schedule(conn) == nothing
    add_run(conn, started_at=datetime.now(UTC) - 5 * HOUR)
    add_run(conn, status="failed", error_summary="runner lost: no heartbeat since")
    assert schedule(conn) == nothing


def test_slots_without_a_run_are_missed_since_the_first_run(conn: Connection) -> None:
    newest = record_runs(conn, 85, 75, 45, 35, 5)
    found = schedule(conn)
    assert found["missed_slots_24h"] == 4  # 65, 55, 25 and 15 minutes ago
    assert found["last_scheduled_at"] == newest.isoformat()
    add_run(conn, started_at=datetime.now(UTC) - 14 * MINUTE)  # by hand: fills no slot
    assert missed(conn) == 4


def test_slot_that_is_not_over_is_not_missed(conn: Connection) -> None:
    record_runs(conn, 19.9)
    assert missed(conn) == 0
    record_runs(conn, 9.8)
    assert missed(conn) == 0


def test_slot_that_has_just_ended_is_missed(conn: Connection) -> None:
    record_runs(conn, 20.1)
    assert missed(conn) == 1


def test_late_run_fills_its_slot_and_two_fill_one(conn: Connection) -> None:
    record_runs(conn, 45, 29, 26, 15.5, 2)  # slots 45, 35, 35, 25 (at its end), 5
    assert missed(conn) == 1


def test_dead_cron_misses_every_slot_of_the_day(conn: Connection) -> None:
    add_scheduled(conn, 30 * 24 * 60, late_seconds=17)
    found = schedule(conn)
    assert found["missed_slots_24h"] in (143, 144)
    assert (found["last_late_seconds"], found["lost_runs_24h"]) == (17, 0)
    assert missed(conn, every=60) in (23, 24)


def test_whole_day_of_runs_misses_nothing(conn: Connection) -> None:
    for n in range(30 * 6):
        add_scheduled(conn, 3 + n * 10)
    assert missed(conn) == 0


def test_changed_interval_is_judged_by_the_present_one(conn: Connection) -> None:
    record_runs(conn, 65, 35, 5)
    assert missed(conn, every=30) == 0
    assert missed(conn, every=10) == 4


def test_runs_that_died_are_lost_and_fill_their_slots(conn: Connection) -> None:
    lost = "runner lost: no heartbeat since 2026-01-16T12:00:00+00:00"
    add_scheduled(conn, 45, status="failed", error_summary=lost)
    add_scheduled(conn, 35, status="failed", error_summary="phase a: no")
    add_scheduled(conn, 25, status="running")  # silent, and not closed yet
    add_scheduled(conn, 15, status="running", heartbeat_at=datetime.now(UTC))
    add_scheduled(conn, 5)
    add_scheduled(conn, 25 * 60, status="failed", error_summary=lost)
    add_run(conn, status="failed", error_summary=lost)  # by hand
    found = schedule(conn)
    assert found["lost_runs_24h"] == 2
    assert found["missed_slots_24h"] == 144 - 5


def test_runs_and_health_show_the_slot(conn: Connection, database_url: str, start: Start) -> None:
    start(0)
    start(12, run_id="late", status="success", finished_at=at(13), duration_ms=60_000)
    admin = Admin(app_for(database_url).test_client())
    late = admin.ok("/runs/late")["run"]
    assert (late["scheduled_for"], late["late_seconds"]) == (at(10).isoformat(), 120)
    assert admin.ok("/runs")["runs"][0] == late
    shown = admin.ok("/health")["schedule"]
    assert shown["expected_interval_minutes"] == 10
    assert shown["last_scheduled_at"] == at(12).isoformat()
    assert shown["last_late_seconds"] == 120


def test_tables_with_plain_timestamps_give_the_same_slots(conn: Connection, start: Start) -> None:
    db.execute(
        conn,
        "ALTER TABLE alerts_engine_runs ALTER started_at TYPE TIMESTAMP,"
        " ALTER heartbeat_at TYPE TIMESTAMP",
    )
    start(0)
    assert start(12) == (10, 120)
    add_scheduled(conn, 25)
    add_scheduled(conn, 5)
    assert schedule(conn)["missed_slots_24h"] in (142, 143)


# Started again


@pytest.mark.parametrize("minutes", [3, 9, 12, 25])
def test_a_job_that_was_started_again_fills_no_slot(start: Start, minutes: float) -> None:
    start(0)
    assert start(minutes, rerun=True) == (None, None)
    assert start(31) == (30, 60)  # and moves none


def test_a_job_that_was_started_again_is_not_the_last_scheduled_start(conn: Connection) -> None:
    now = datetime.now(UTC)
    first = now - 45 * MINUTE
    add_run(conn, triggered_by=SCHEDULE, started_at=first)
    before = schedule(conn)
    assert before["missed_slots_24h"] == 3
    for minutes in (25, 5):
        add_run(conn, triggered_by=SCHEDULE, started_at=now - minutes * MINUTE, rerun=True)
    assert schedule(conn) == before


def test_a_job_that_was_started_again_and_died_is_lost(conn: Connection) -> None:
    now = datetime.now(UTC)
    add_run(conn, triggered_by=SCHEDULE, started_at=now - 5 * MINUTE)
    dead = now - 3 * MINUTE
    add_run(conn, triggered_by=SCHEDULE, status="running", started_at=dead, rerun=True)
    assert schedule(conn)["lost_runs_24h"] == 1


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({**ON_SCHEDULE, "GITHUB_RUN_ATTEMPT": "2"}, (SCHEDULE, True)),
        ({**ON_SCHEDULE, "GITHUB_RUN_ATTEMPT": "11"}, (SCHEDULE, True)),
        ({**ON_SCHEDULE, "GITHUB_RUN_ATTEMPT": "1"}, (SCHEDULE, False)),
        ({**ON_SCHEDULE, "GITHUB_RUN_ATTEMPT": ""}, (SCHEDULE, False)),
        ({**ON_SCHEDULE, "GITHUB_RUN_ATTEMPT": "٢"}, (SCHEDULE, False)),
        ({**ON_SCHEDULE, "GITHUB_RUN_ATTEMPT": "9" * 40}, (SCHEDULE, False)),
        ({"GITHUB_RUN_ATTEMPT": "2"}, ("local", False)),
    ],
)
def test_the_attempt_is_told_by_github(
    conn: Connection, database_url: str, environ: dict[str, str], expected: tuple[str, bool]
) -> None:
    run(database_url, "a", environ=environ)
    row = last_run(conn)
    assert (row["triggered_by"], row["rerun"]) == expected
    assert (row["scheduled_for"] is None) == (expected != (SCHEDULE, False))
