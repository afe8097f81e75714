"""A dry run counts what a real one would do, and changes nothing."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.engine import Hooks, RunRequest, run_engine
from alerts.locks import PhaseLocks
from alerts.runs.record import RunItem
from tests.support.queue_world import queue_instants
from tests.support.run_world import (
    KILL_WHO_INSERTS_EVENTS,
    outbox_settings,
    phase_statuses,
    run_row,
    whole_world,
)
from tests.support.world import (
    NOW,
    add_source_event,
    query,
)


def everything(
    conn: Connection, *, leave_out: tuple[str, ...] = ()
) -> dict[str, list[dict[str, Any]]]:
    tables = query(
        conn,
        "SELECT relname FROM pg_class WHERE relkind = 'r'"
        " AND relnamespace = 'public'::regnamespace AND relname NOT LIKE 'alerts_engine_run%'",
    )
    return {
        row["relname"]: query(conn, f"SELECT t::text AS t FROM {row['relname']} AS t ORDER BY 1")
        for row in tables
        if row["relname"] not in leave_out
    }


def test_dry_run_changes_no_row_and_counts_what_the_real_run_does(
    conn: Connection, database_url: str, tmp_path: Path
) -> None:
    whole_world(conn)
    settings = outbox_settings(database_url, tmp_path)
    before = everything(conn)
    assert {"alert_events", "user_alert_deliveries", "user_alert_digests"} <= set(before)
    dry = run_engine(settings, RunRequest(now=NOW, dry_run=True))
    assert everything(conn) == before
    assert not (tmp_path / "outbox").exists()
    real = run_engine(settings, RunRequest(now=NOW))
    assert dry.record.status == real.record.status == "success"
    assert dry.record.counts == real.record.counts
    assert real.record.counts["c"]["deliveries"]["sent"] > 3
    assert real.record.counts["d"]["digests_created"] > 0
    assert everything(conn) != before
    assert [run_row(conn, report)["dry_run"] for report in (dry, real)] == [True, False]
    assert run_row(conn, dry)["counts"] == dry.record.counts


def test_second_and_tenth_run_change_nothing_that_the_first_did(
    conn: Connection, database_url: str, tmp_path: Path
) -> None:
    whole_world(conn)
    settings = outbox_settings(database_url, tmp_path)
    assert run_engine(settings, RunRequest(now=NOW)).record.status == "success"
    state = "alerts_engine_state"  # holds the last run
    after_the_first = everything(conn, leave_out=(state,))
    sent = sorted(path.name for path in (tmp_path / "outbox").iterdir())
    for _ in range(9):
        assert run_engine(settings, RunRequest(now=NOW)).record.status == "success"
        assert everything(conn, leave_out=(state,)) == after_the_first
        assert len(query(conn, f"SELECT * FROM {state}")) == 1
    assert sorted(path.name for path in (tmp_path / "outbox").iterdir()) == sent


def test_dry_run_ignores_rate_limits(conn: Connection, database_url: str, tmp_path: Path) -> None:
    queue_instants(conn, 50)
    settings = outbox_settings(database_url, tmp_path, ALERTS_RATE_LIMIT_EMAIL_PER_MINUTE="60")
    report = run_engine(settings, RunRequest(phase="c", now=NOW, dry_run=True))
    assert report.record.counts["c"]["deliveries"]["sent"] == 50
    assert (report.record.duration_ms or 0) < 20_000  # with the limit it would be 49 seconds


def test_dry_run_keeps_its_locks_as_long_as_its_transaction(
    conn: Connection, database_url: str, tmp_path: Path
) -> None:
    """A real run of an earlier phase would wait for the rows that the dry run has locked."""
    locks = PhaseLocks(partial(db.open_session, database_url, application_name="other"))
    got: dict[str, bool] = {}

    def try_lock(item: RunItem) -> None:
        got[item.phase] = locks.acquire("alerts_v2_phase_a")

    settings = outbox_settings(database_url, tmp_path)
    run_engine(settings, RunRequest(now=NOW, dry_run=True), Hooks(on_phase=try_lock))
    assert got == dict.fromkeys("abdc", False)
    assert locks.acquire("alerts_v2_phase_a")
    locks.close()


def test_phase_that_fails_in_a_dry_run_leaves_the_others_working(
    conn: Connection, database_url: str, tmp_path: Path
) -> None:
    whole_world(conn)
    db.execute(conn, "ALTER TABLE risk_indices RENAME TO elsewhere")
    before = everything(conn)
    report = run_engine(outbox_settings(database_url, tmp_path), RunRequest(now=NOW, dry_run=True))
    assert phase_statuses(report) == {"a": "failed", "b": "success", "d": "success", "c": "success"}
    assert report.record.counts["c"]["deliveries"]["sent"] > 0
    assert everything(conn) == before


def test_dry_run_that_loses_its_connection_says_so_for_the_phases_after_it(
    conn: Connection, database_url: str, tmp_path: Path
) -> None:
    add_source_event(conn)
    db.execute(conn, KILL_WHO_INSERTS_EVENTS)
    report = run_engine(outbox_settings(database_url, tmp_path), RunRequest(now=NOW, dry_run=True))
    assert phase_statuses(report) == dict.fromkeys("abdc", "failed")
    assert report.recorded
