"""A database that hangs under the engine: the run ends, and the next one makes good what is left.

Nothing is lost and nothing is done twice, wherever an answer is lost: a statement that was
committed and not answered is found done, one that never arrived is done again.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from tests.alerts.cli.test_signals import LIMIT_SECONDS, running
from tests.support.pg_proxy import PgProxy, Wire
from tests.support.run_world import Runner, last_run, phase_statuses, whole_world
from tests.support.waking import silent_server
from tests.support.world import (
    NOW,
    RememberingChannel,
    add_alert,
    all_channels,
    query,
    run,
    wait_until,
)

pytestmark = pytest.mark.slow

# A statement of each phase: what it does is committed by itself.
STATEMENTS = {
    "a": "INSERT INTO alert_events",
    "b": "INSERT INTO user_alert_deliveries",
    "d": "INSERT INTO user_alert_digests",
    "c": "FOR UPDATE SKIP LOCKED",
}
RESULT = """
SELECT d.user_id, e.headline, d.channel, d.delivery_kind, d.status, d.failure_code
FROM user_alert_deliveries AS d
JOIN alert_events AS e ON e.id = d.alert_event_id
ORDER BY 1, 2, 3, 4
"""


@pytest.fixture
def proxy(database_url: str) -> Iterator[PgProxy]:
    with PgProxy(database_url) as proxy:
        yield proxy


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is asked after a statement at once."""
    monkeypatch.setattr("alerts.db.watch.FIRST_LOOK_SECONDS", 0.2)
    monkeypatch.setattr("alerts.db.watch.SECOND_OPINION_SECONDS", 0.1)


def world(conn: Connection) -> None:
    whole_world(conn)
    add_alert(conn)
    # Rows in doubt from before are another subject.
    for source in ("deliveries", "digests"):
        db.execute(
            conn,
            f"DELETE FROM user_alert_{source} WHERE id IN"
            f" (SELECT unnest(ids) FROM alerts_leases WHERE source = '{source}')",
        )
    db.execute(conn, "DELETE FROM alerts_leases")


def lapse_claims(conn: Connection) -> None:
    """As two minutes later: what the lost run had claimed is free."""
    db.execute(conn, "UPDATE alerts_leases SET until = now() - interval '1 minute'")


def result(conn: Connection) -> list[dict[str, Any]]:
    return query(conn, RESULT)


@pytest.fixture
def expected(test_server: Any) -> list[dict[str, Any]]:
    """What a run without trouble makes of the same world."""
    name = test_server.create(migrated=True)
    conn = db.connect(test_server.url(name), application_name="expected")
    world(conn)
    assert run(test_server.url(name)).record.status == "success"
    found = result(conn)
    conn.close()
    test_server.drop(name)
    return found


def sent_by(channels: dict[str, RememberingChannel]) -> list[str]:
    return [f"{name} {m.key}" for name, channel in channels.items() for m in channel.sent]


@pytest.mark.parametrize("lost", ["swallow", "swallow_answers"])
@pytest.mark.parametrize("phase", STATEMENTS)
def test_a_lost_answer_costs_a_phase_and_nothing_else(
    conn: Connection,
    proxy: PgProxy,
    impatient: None,
    expected: list[dict[str, Any]],
    phase: str,
    lost: str,
) -> None:
    world(conn)

    def concerned(wire: Wire) -> bool:
        return wire.application == "alerts-engine" and any(
            STATEMENTS[phase] in statement for statement in wire.statements[-1:]
        )

    setattr(proxy, lost, concerned)
    channels = all_channels()
    started = time.monotonic()
    first = run(proxy.url, channels=channels)
    assert time.monotonic() - started < 15
    assert phase_statuses(first)[phase] == "failed"
    assert "did not answer" in (first.record.error_summary or "")
    assert first.recorded
    setattr(proxy, lost, lambda wire: False)
    lapse_claims(conn)
    second = run(proxy.url, channels=channels, now=NOW)
    assert second.record.status == "success", second.record.error_summary
    third = run(proxy.url, channels=channels, now=NOW.replace(hour=20))
    assert third.record.status == "success"
    found = result(conn)
    assert [{**row, "failure_code": None} for row in found if row["status"] == "sent"] == [
        {**row, "failure_code": None} for row in expected if row["status"] == "sent"
    ]
    assert len(found) == len(expected)
    assert len(set(sent_by(channels))) == len(sent_by(channels))  # nothing goes twice


def test_a_run_with_a_deadline_ends_though_nobody_answers_any_more(
    conn: Connection, proxy: PgProxy, tmp_path: Path
) -> None:
    """In real time, as a process."""
    world(conn)
    arguments = ("--phase", "all", "--max-seconds", "2", "--now", NOW.isoformat())
    locker = db.connect(proxy.url, application_name="locker")
    db.execute(locker, "BEGIN; LOCK TABLE risk_indices")
    environ = {"ALERTS_RUN_SPOOL": str(tmp_path / "spool")}
    started = time.monotonic()
    with running(Runner(proxy.url, tmp_path), *arguments, **environ) as process:
        wait_until(lambda: waits_for_a_lock(conn))
        proxy.swallow = lambda wire: True
        process.communicate(timeout=40)
    assert process.returncode == 1
    assert time.monotonic() - started < 22
    assert (tmp_path / "spool").exists()  # the record could not be stored, and is kept


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_whose_statement_hangs_and_its_record_is_whole(
    conn: Connection, proxy: PgProxy, tmp_path: Path, number: signal.Signals
) -> None:
    world(conn)
    locker = db.connect(proxy.url, application_name="locker")
    db.execute(locker, "BEGIN; LOCK TABLE risk_indices")
    with running(Runner(proxy.url, tmp_path), "--phase", "all") as process:
        wait_until(lambda: waits_for_a_lock(conn))
        # The engine's connections hang; those of the recorder do not.
        proxy.swallow = lambda wire: wire.application != "alerts-recorder"
        started = time.monotonic()
        process.send_signal(number)
        process.communicate(timeout=20)
        assert time.monotonic() - started < 5
    assert process.returncode == 1
    row = last_run(conn)
    assert (row["status"], row["error_summary"]) == ("failed", f"interrupted by {number.name}")
    items = query(conn, "SELECT phase, status FROM alerts_engine_run_items ORDER BY id")
    assert [item["status"] for item in items] == ["failed", "skipped", "skipped", "skipped"]


def test_a_signal_ends_a_run_that_hangs_while_claiming_and_the_next_run_stores_its_record(
    conn: Connection, proxy: PgProxy, tmp_path: Path
) -> None:
    world(conn)
    proxy.swallow = lambda wire: any(STATEMENTS["c"] in s for s in wire.statements)
    environ = {"ALERTS_RUN_SPOOL": str(tmp_path / "spool"), "ALERTS_DELIVERY_MAX_AGE_HOURS": "0"}
    with running(Runner(proxy.url, tmp_path), "--phase", "all", **environ) as process:
        wait_until(lambda: any(proxy.swallow(wire) for wire in proxy.wires))
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        assert time.monotonic() - started < 5
    assert process.returncode == 1
    run_id = last_run(conn)["run_id"]
    proxy.swallow = lambda wire: False
    assert run(proxy.url, environ=environ).record.status == "success"
    (row,) = query(conn, "SELECT * FROM alerts_engine_runs WHERE run_id = %s", run_id)
    assert (row["status"], row["error_summary"]) == ("failed", "interrupted by SIGTERM")


@pytest.mark.parametrize("options", ["", "?connect_timeout=2"], ids=["cut off", "given up"])
def test_a_signal_ends_a_run_that_still_waits_for_its_first_connection(
    tmp_path: Path, options: str
) -> None:
    spool = tmp_path / "spool"
    with silent_server() as port:
        runner = Runner(f"postgresql://u@127.0.0.1:{port}/x{options}", tmp_path)
        with running(runner, "--phase", "all", ALERTS_RUN_SPOOL=str(spool)) as process:
            wait_until(lambda: connected_to(port))
            started = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=20)
            assert time.monotonic() - started < LIMIT_SECONDS
    assert process.returncode == 1
    assert json.loads(spool.read_text())["error_summary"] == "interrupted by SIGTERM"


def connected_to(port: int) -> bool:
    """Whether somebody is connected to, or waits at, that port of this machine."""
    return any(
        c.raddr and c.raddr.port == port
        for c in psutil.net_connections("tcp")
        if c.status != "NONE"
    )


def waits_for_a_lock(conn: Connection) -> bool:
    return bool(
        query(
            conn,
            "SELECT FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'alerts-engine' AND wait_event_type = 'Lock'",
        )
    )
