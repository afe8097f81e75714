"""Every run leaves a row and its phases, and recording costs it next to nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import psycopg2
import pytest
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.channels.base import Message
from alerts.engine_observability import CLOSE_SECONDS, RunRecorder
from alerts.logs import bound
from alerts.runs.record import RunItem, RunRecord
from tests.support.pg_proxy import PgProxy
from tests.support.queue_world import add_digest, queue_instants, statuses
from tests.support.world import (
    NOW,
    RememberingChannel,
    add_alert,
    add_pref,
    add_source_event,
    add_user,
    all_channels,
    query,
    run,
)

STARTED = datetime(2022, 3, 8, 18, 0, tzinfo=UTC)
RUNS = "alerts_engine_runs"


def add_work(conn: Connection) -> None:
    """Something to do for every phase."""
    for plan in ("free", "pro"):
        add_pref(conn, add_user(conn, plan))
    add_source_event(conn)
    add_digest(conn, add_user(conn), [add_alert(conn)])
    queue_instants(conn, 3)


def stored(conn: Connection, run_id: str) -> dict[str, object]:
    (found,) = query(conn, f"SELECT * FROM {RUNS} WHERE run_id = %s", run_id)
    return found


def test_run_and_its_phases_are_stored_as_reported(conn: Connection, database_url: str) -> None:
    add_work(conn)
    environ = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": "schedule",
        "GITHUB_SHA": "0a1b2c",
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_REPOSITORY": "o/r",
        "GITHUB_RUN_ID": "17",
    }
    report = run(database_url, environ=environ)
    assert report.recorded
    found = stored(conn, report.record.run_id)
    record = report.record
    for name in ("started_at", "finished_at", "duration_ms", "counts", "error_summary"):
        assert found[name] == getattr(record, name)
    assert found["status"] == "success"
    assert found["triggered_by"] == "github_actions_schedule"
    assert found["ci_run_url"] == "https://github.com/o/r/actions/runs/17"
    assert (found["git_sha"], found["phase"], found["dry_run"]) == ("0a1b2c", "all", False)
    items = query(conn, "SELECT * FROM alerts_engine_run_items ORDER BY id")
    assert [item["phase"] for item in items] == ["a", "b", "d", "c"]
    for item, reported in zip(items, record.items, strict=True):
        assert item["counts"] == reported.counts == record.counts[reported.phase]
        assert item["started_at"] == reported.started_at
        assert item["finished_at"] == reported.finished_at
        assert (item["status"], item["duration_ms"]) == ("success", reported.duration_ms)


def spool(folder: Path) -> dict[str, str]:
    """Where a run that cannot be recorded leaves its record."""
    return {"ALERTS_RUN_SPOOL": str(folder / "spool.jsonl")}


@contextmanager
def renamed(conn: Connection) -> Iterator[str]:
    db.execute(conn, f"ALTER TABLE {RUNS} RENAME TO runs_elsewhere")
    yield ""
    db.execute(conn, f"ALTER TABLE runs_elsewhere RENAME TO {RUNS}")


@contextmanager
def locked(conn: Connection) -> Iterator[str]:
    db.execute(conn, f"BEGIN; LOCK TABLE {RUNS}")
    yield ""
    db.execute(conn, "ROLLBACK")


@contextmanager
def without_rights(conn: Connection) -> Iterator[str]:
    role = sql.Identifier(f"limited_{conn.info.dbname}")
    everything = "IN SCHEMA public TO {}"
    for text in (
        "CREATE ROLE {}",
        f"GRANT ALL ON ALL TABLES {everything}",
        f"GRANT ALL ON ALL SEQUENCES {everything}",
        f"REVOKE ALL ON {RUNS} FROM {{}}",
    ):
        db.execute(conn, sql.SQL(text).format(role))
    yield f"?options=-c%20role%3D{role.string}"
    db.execute(conn, sql.SQL("DROP OWNED BY {}; DROP ROLE {}").format(role, role))


@pytest.mark.parametrize("trouble", [renamed, locked, without_rights])
def test_run_succeeds_where_it_cannot_be_recorded(
    conn: Connection,
    database_url: str,
    tmp_path: Path,
    trouble: Callable[[Connection], AbstractContextManager[str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    queue_instants(conn, 5)
    with caplog.at_level(logging.WARNING), trouble(conn) as suffix:
        started = time.monotonic()
        report = run(database_url + suffix, "c", environ=spool(tmp_path))
        took = time.monotonic() - started
    assert (report.record.status, report.recorded) == ("success", False)
    assert took < CLOSE_SECONDS + 2
    assert "could not be recorded" in caplog.text
    assert statuses(conn) == {"sent": 5}
    assert query(conn, f"SELECT status FROM {RUNS} WHERE status <> 'running'") == []


def test_database_that_swallows_packets_costs_five_seconds(
    conn: Connection, database_url: str, tmp_path: Path
) -> None:
    queue_instants(conn, 5)
    with PgProxy(database_url) as proxy:
        proxy.swallow = lambda wire: wire.application == "alerts-recorder"
        started = time.monotonic()
        report = run(proxy.url, "c", environ=spool(tmp_path))
        took = time.monotonic() - started
    assert (report.record.status, report.recorded) == ("success", False)
    assert CLOSE_SECONDS <= took < CLOSE_SECONDS + 2


def test_last_write_stores_the_whole_run_when_the_first_failed(
    conn: Connection, database_url: str
) -> None:
    add_work(conn)
    db.execute(conn, f"ALTER TABLE {RUNS} RENAME TO runs_elsewhere")

    def answer(message: Message) -> str | None:
        with psycopg2.connect(database_url) as other, other.cursor() as cursor:
            cursor.execute(f"ALTER TABLE IF EXISTS runs_elsewhere RENAME TO {RUNS}")
        other.close()
        return None

    environ = {"ALERTS_SEND_WORKERS": "1"}
    channels = all_channels(email=RememberingChannel(answer))
    report = run(database_url, channels=channels, environ=environ)
    assert report.recorded
    found = stored(conn, report.record.run_id)
    assert (found["status"], found["counts"]) == ("success", report.record.counts)
    items = query(conn, "SELECT phase FROM alerts_engine_run_items ORDER BY started_at")
    assert [item["phase"] for item in items] == ["a", "b", "d", "c"]


def test_four_phases_take_at_most_six_statements(conn: Connection, database_url: str) -> None:
    add_work(conn)
    with PgProxy(database_url) as proxy:
        assert run(proxy.url).recorded
        (wire,) = proxy.of("alerts-recorder")
    assert len(wire.statements) <= 6


def test_run_with_nothing_to_do_takes_three_connections_and_few_round_trips(
    conn: Connection, database_url: str, record_property: Callable[[str, object], None]
) -> None:
    with PgProxy(database_url) as proxy:
        report = run(proxy.url)
        assert (report.record.status, report.recorded) == ("success", True)
        names = sorted(wire.application for wire in proxy.wires)
        round_trips = {wire.application: wire.round_trips for wire in proxy.wires}
        # Two of each connection's are the password's exchange, where there is one.
    assert names == ["alerts-engine", "alerts-locks", "alerts-recorder"]
    record_property("round_trips", round_trips)
    assert sum(round_trips.values()) <= 27, round_trips


# -- the recorder by itself ------------------------------------------------------------------


def record(status: str = "running", items: int = 0, run_id: str = "one") -> RunRecord:
    finished = None if status == "running" else STARTED + timedelta(seconds=9)
    done = tuple(
        RunItem(letter, STARTED, STARTED, 1, "success", {"events_created": 1})
        for letter in "abdc"[:items]
    )
    return RunRecord(
        run_id, "local", "all", STARTED, False, status=status, finished_at=finished,
        duration_ms=None if finished is None else 9000, items=done,
    )  # fmt: skip


@pytest.fixture
def make(database_url: str) -> Callable[[], RunRecorder]:
    opening = partial(db.open_session, database_url, application_name="recorder")
    return lambda: RunRecorder(opening, bound(logging.getLogger("alerts.test")))


def test_writing_the_same_record_twice_changes_nothing(
    conn: Connection, make: Callable[[], RunRecorder]
) -> None:
    final = record("success", 4)
    for _ in range(2):
        assert make().close(final)
    assert query(conn, f"SELECT count(*) AS n FROM {RUNS}") == [{"n": 1}]
    assert query(conn, "SELECT count(*) AS n FROM alerts_engine_run_items") == [{"n": 4}]


def test_run_that_has_ended_stays_ended_whatever_arrives_late(
    conn: Connection, make: Callable[[], RunRecorder]
) -> None:
    assert make().close(record("success", 4))
    make().close(record("running", 1))
    assert stored(conn, "one")["status"] == "success"


def test_final_record_is_never_lost_to_the_write_before_it(
    conn: Connection, make: Callable[[], RunRecorder]
) -> None:
    """Closing while an earlier record is under way, at every moment of its write."""
    for attempt in range(60):
        run_id = f"run {attempt}"
        recorder = make()
        recorder.submit(record(run_id=run_id))
        time.sleep(attempt / 10_000)
        assert recorder.close(record("success", 4, run_id))
    assert query(conn, f"SELECT DISTINCT status FROM {RUNS}") == [{"status": "success"}]


def test_closing_hands_the_final_record_over_in_one_step(
    conn: Connection, make: Callable[[], RunRecorder]
) -> None:
    """Between the word that the run ends and its record the thread may not look and leave."""
    recorder = make()
    recorder.submit(record())
    announce = recorder._closing.set

    def announce_slowly() -> None:
        announce()
        recorder._thread.join(0.3)

    recorder._closing.set = announce_slowly  # type: ignore[method-assign]
    assert recorder.close(record("success", 4))
    assert stored(conn, "one")["status"] == "success"


def test_what_json_cannot_hold_costs_the_record_only(
    make: Callable[[], RunRecorder], caplog: pytest.LogCaptureFixture
) -> None:
    bad = record("success", 1)
    item = replace(bad.items[0], counts={"when": NOW})
    with caplog.at_level(logging.WARNING):
        assert not make().close(replace(bad, items=(item,)))
    assert "recording the run failed" in caplog.text
