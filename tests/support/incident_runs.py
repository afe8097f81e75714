"""Runs that end badly, made for the incidents: one that is killed, one that nobody records."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from unittest import mock

from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.engine import RunRequest, run_engine
from tests.support.provider_runs import environ as provider_environ
from tests.support.providers import Fault, HttpProvider
from tests.support.queue_world import queue_instants
from tests.support.run_world import Runner
from tests.support.web import add_run
from tests.support.world import query, settings_for, wait_until

SILENT_SECONDS = 100


def refuse_inserts(conn: Connection, table: str) -> None:
    """From now on the table takes no row."""
    db.execute(
        conn,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'no more rows'; END $$",
    )
    db.execute(
        conn,
        f"CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()",
    )


def killed_run(conn: Connection, url: str, folder: Path, stack: ExitStack) -> dict[str, datetime]:
    """A runner that is killed while the provider hangs, some time ago; when it started and was
    last heard of."""
    provider = stack.enter_context(HttpProvider())
    provider.rule = lambda request: Fault("hang")
    queue_instants(conn, 3, created_at=datetime.now().astimezone() - timedelta(minutes=1))
    runner = Runner(url, folder)
    process = subprocess.Popen(
        [sys.executable, "-m", "alerts.runner", "--phase", "c"],
        cwd=folder,
        env={**runner.environ, "EMAIL_PROVIDER": "", **provider_environ(provider)["brevo"]},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: provider.requests and query(conn, "SELECT FROM alerts_engine_runs"))
    process.send_signal(signal.SIGKILL)
    process.wait()
    return _as_if_before(conn)


def _as_if_before(conn: Connection) -> dict[str, datetime]:
    db.execute(
        conn,
        "UPDATE alerts_engine_runs SET started_at = started_at - %(ago)s * interval '1 second',"
        " heartbeat_at = heartbeat_at - %(ago)s * interval '1 second'",
        {"ago": SILENT_SECONDS},
    )
    row = query(conn, "SELECT started_at, heartbeat_at FROM alerts_engine_runs")[0]
    return {"run": row["started_at"], "heard": row["heartbeat_at"]}


def unrecorded_run(
    conn: Connection, url: str, folder: Path, stack: ExitStack
) -> dict[str, datetime]:
    """A run that sends while the database takes no record of it; the last sign of a recorded run,
    and when a message went out."""
    before = datetime.now().astimezone() - timedelta(minutes=50)
    add_run(conn, started_at=before, heartbeat_at=before)
    refuse_inserts(conn, "alerts_engine_runs")
    provider = stack.enter_context(HttpProvider())
    queue_instants(conn, 2, created_at=datetime.now().astimezone() - timedelta(minutes=1))
    with mock.patch("alerts.engine_observability.RETRY_SECONDS", (0.01, 0.01)):
        report = run_engine(
            settings_for(url, **provider_environ(provider)["brevo"]), RunRequest(phase="c")
        )
    assert not report.recorded
    gone = query(conn, "SELECT last_success_at FROM alerts_channel_state WHERE channel = 'email'")
    return {"since": before + timedelta(seconds=1), "gone": gone[0]["last_success_at"]}
