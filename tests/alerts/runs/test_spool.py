"""Runs that the database would not take wait in a file, and are stored exactly once."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.runs import spool
from alerts.runs.record import RunItem, RunRecord
from tests.support.run_world import Runner, last_run
from tests.support.world import query, run, value

STARTED = datetime(2022, 3, 8, 18, 0, tzinfo=UTC)
ITEM = RunItem("a", STARTED, STARTED, 5, "success", {"events_created": 1})
RECORD = RunRecord(
    run_id="one", triggered_by="local", phase="all", started_at=STARTED, dry_run=False,
    status="success", finished_at=STARTED, duration_ms=9, items=(ITEM,),
)  # fmt: skip
RUNS = "alerts_engine_runs"


def keep(records: list[RunRecord]) -> Callable[[RunRecord], bool]:
    def store(record: RunRecord) -> bool:
        records.append(record)
        return True

    return store


def test_record_comes_back_as_it_went_in(tmp_path: Path) -> None:
    path, found = tmp_path / "sub" / "spool.jsonl", []
    spool.append(path, RECORD)
    assert spool.replay(path, keep(found)) == (1, 0)
    assert found == [RECORD]
    assert not path.exists()


def test_missing_spool_is_an_empty_one(tmp_path: Path) -> None:
    assert spool.replay(tmp_path / "none.jsonl", keep([])) == (0, 0)


def test_what_is_not_stored_stays_in_order(tmp_path: Path) -> None:
    path = tmp_path / "spool.jsonl"
    records = [replace(RECORD, run_id=f"run-{n}") for n in range(4)]
    for record in records:
        spool.append(path, record)
    stored: list[RunRecord] = []
    refusing = lambda record: len(stored) < 2 and keep(stored)(record)  # noqa: E731
    assert spool.replay(path, refusing) == (2, 0)
    assert spool.replay(path, keep(stored)) == (2, 0)
    assert stored == records


@pytest.mark.parametrize(
    "line", ["{", "[]", '"x"', "{}", '{"run_id": 1, "items": [{}]}', "\x00", '{"items": 3}']
)
def test_line_that_is_no_record_is_set_aside_and_keeps_nothing_back(
    tmp_path: Path, line: str
) -> None:
    path, found = tmp_path / "spool.jsonl", []
    path.write_text(line + "\n")
    spool.append(path, RECORD)
    assert spool.replay(path, keep(found)) == (1, 1)
    assert found == [RECORD]
    reason, *lines = (tmp_path / "spool.jsonl.rejected").read_text().split("\n")
    assert reason.startswith("# no run record")
    assert "\n".join(lines) == line + "\n"
    assert not path.exists()


def test_two_runners_at_once_store_each_record_once_and_lose_none(tmp_path: Path) -> None:
    path, stored = tmp_path / "spool.jsonl", []

    def work(number: int) -> None:
        if number % 2:
            spool.append(path, replace(RECORD, run_id=str(number)))
        else:
            spool.replay(path, keep(stored))

    with ThreadPoolExecutor(max_workers=8) as threads:
        list(threads.map(work, range(200)))
    spool.replay(path, keep(stored))
    assert sorted(int(record.run_id) for record in stored) == list(range(1, 200, 2))


def test_run_that_could_not_be_recorded_is_stored_by_the_next_one_once(
    conn: Connection, database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {"ALERTS_RUN_SPOOL": str(tmp_path / "spool.jsonl")}
    db.execute(conn, f"ALTER TABLE {RUNS} RENAME TO runs_elsewhere")
    lost = run(database_url, "a", environ=environ)
    db.execute(conn, f"ALTER TABLE runs_elsewhere RENAME TO {RUNS}")
    assert (lost.record.status, lost.recorded) == ("success", False)
    assert value(conn, f"SELECT count(*) FROM {RUNS}") == 0
    told = [
        json.loads(line)
        for line in capsys.readouterr().err.splitlines()
        if lost.record.run_id in line
    ]
    assert [line["record"]["run_id"] for line in told] == [lost.record.run_id]
    for _ in range(2):
        assert run(database_url, "a", environ=environ).recorded
    rows = query(conn, f"SELECT run_id, status, counts FROM {RUNS} ORDER BY started_at")
    assert len(rows) == 3
    assert rows[0] == {
        "run_id": lost.record.run_id,
        "status": "success",
        "counts": lost.record.counts,
    }
    assert value(conn, "SELECT count(*) FROM alerts_engine_run_items") == 3
    assert not (tmp_path / "spool.jsonl").exists()


def test_spool_that_cannot_be_written_is_named_and_the_record_is_still_told(
    conn: Connection,
    database_url: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("")
    environ = {"ALERTS_RUN_SPOOL": str(tmp_path / "file" / "spool.jsonl")}
    db.execute(conn, f"DROP TABLE {RUNS} CASCADE")
    with caplog.at_level(logging.ERROR):
        report = run(database_url, "a", environ=environ)
    assert (report.record.status, report.recorded) == ("success", False)
    assert "cannot be written" in caplog.text
    assert report.record.run_id in capsys.readouterr().err


def test_saved_spool_is_stored_by_the_command(
    conn: Connection, database_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "artifact.jsonl"
    spool.append(path, RECORD)
    runner = Runner(database_url, tmp_path)
    done = runner.command("replay-spool", str(path), "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"stored": 1, "rejected": 0})
    assert last_run(conn)["run_id"] == "one"
    assert not path.exists()
    again = runner.command("replay-spool", str(tmp_path))
    assert again.returncode == 1
    assert "Traceback" not in again.stderr
