"""A phase that another session keeps from running: the run says so, and health counts the runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from alerts import db, phases
from alerts.health.report import get_health
from alerts.locks import lock_number
from tests.support.queue_world import queue_instants
from tests.support.run_world import phase_statuses
from tests.support.world import run, settings_for, value

LETTERS = [phase.letter for phase in phases.PHASES]


@contextmanager
def held(database_url: str, *letters: str) -> Iterator[int]:
    """Some other session holds the phases' locks; gives its process id."""
    keys = {phase.letter: phase.lock_key for phase in phases.PHASES}
    with closing(psycopg2.connect(database_url, application_name="somebody-else")) as other:
        for letter in letters:
            db.execute(other, "SELECT pg_advisory_lock(%s)", (lock_number(keys[letter]),))
        yield other.info.backend_pid
        db.execute(other, "SELECT pg_advisory_unlock_all()")  # its backend may end a little later


def reasons(conn: Connection) -> dict[str, str]:
    found: list[dict[str, Any]] = get_health(
        conn, settings_for("postgresql://unused"), datetime.now(UTC)
    )["reasons"]
    return {reason["code"]: f"{reason['message']} {reason['action']}" for reason in found}


@pytest.mark.parametrize("letter", LETTERS)
def test_a_phase_alone_that_is_locked_out_makes_the_run_skipped(
    conn: Connection, database_url: str, letter: str
) -> None:
    with held(database_url, letter):
        record = run(database_url, letter).record
    assert (record.status, record.error_summary) == ("skipped", "lock_not_acquired")
    assert record.counts == {letter: {"skipped": "lock_not_acquired"}}


@pytest.mark.parametrize("letter", LETTERS)
def test_among_all_it_is_skipped_and_the_run_a_success(
    conn: Connection, database_url: str, letter: str
) -> None:
    with held(database_url, letter):
        report = run(database_url)
    assert report.record.status == "success"
    expected = dict.fromkeys(LETTERS, "success") | {letter: "skipped"}
    assert phase_statuses(report) == expected


def test_all_of_them_make_it_skipped(conn: Connection, database_url: str) -> None:
    with held(database_url, *LETTERS):
        record = run(database_url).record
    assert (record.status, record.error_summary) == ("skipped", "lock_not_acquired")


@pytest.mark.parametrize("letter", LETTERS)
def test_health_counts_the_runs_in_a_row_and_says_who_holds_the_lock(
    conn: Connection, database_url: str, letter: str
) -> None:
    run(database_url)
    with held(database_url, letter) as pid:
        run(database_url)
        assert reasons(conn) == {}  # one run that meets another is nothing
        for count in (2, 3):
            run(database_url)
            (told,) = reasons(conn).values()
            assert f"Phase {letter.upper()} " in told
            assert f"in {count} runs" in told
            assert "somebody-else" in told
            assert f"pg_terminate_backend({pid})" in told
    assert "nobody holds its lock now" in reasons(conn)["phase_locked_out"]
    run(database_url)
    assert reasons(conn) == {}


def test_runs_of_other_phases_and_dry_runs_are_not_counted(
    conn: Connection, database_url: str
) -> None:
    with held(database_url, "c"):
        run(database_url)
        for _ in range(3):
            run(database_url, "a")
            run(database_url, dry_run=True)
        assert "phase_locked_out" not in reasons(conn)
        run(database_url, "c")
        assert "in 2 runs" in reasons(conn)["phase_locked_out"]


def test_several_phases_are_told_each(conn: Connection, database_url: str) -> None:
    with held(database_url, "b", "c"):
        for _ in range(2):
            run(database_url)
        found = get_health(conn, settings_for("postgresql://unused"), datetime.now(UTC))
    told = [r["message"] for r in found["reasons"] if r["code"] == "phase_locked_out"]
    assert [message.split(" (")[0] for message in told] == ["Phase B", "Phase C"]


def test_nothing_is_lost_meanwhile(conn: Connection, database_url: str) -> None:
    queue_instants(conn, 3)
    sent = "SELECT count(*) FROM user_alert_deliveries WHERE status = 'sent' AND channel = 'email'"
    with held(database_url, "c"):
        run(database_url)
        assert value(conn, sent) == 0
    run(database_url)
    assert value(conn, sent) == 3
