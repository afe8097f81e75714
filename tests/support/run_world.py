"""Whole runs for tests: work for every phase, the command as a process, the recorded runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from psycopg2.extensions import connection as Connection

from alerts.engine import RunReport
from alerts.settings.config import Settings
from tests.support import CHECKOUT
from tests.support.prefork import run_module
from tests.support.queue_world import add_digest
from tests.support.world import (
    NOW,
    add_alert,
    add_channel_pref,
    add_delivery,
    add_index,
    add_pref,
    add_source_event,
    add_user,
    query,
    settings_for,
)

KILL_WHO_INSERTS_EVENTS = """
CREATE FUNCTION end_session() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_terminate_backend(pg_backend_pid());
    RETURN NULL;
END
$$;
CREATE TRIGGER end_session AFTER INSERT ON alert_events
FOR EACH STATEMENT EXECUTE FUNCTION end_session();
"""


def whole_world(conn: Connection) -> None:
    """Insert work of every kind for every phase."""
    for plan in ("free", "personal", "trader", "pro", None):
        user = add_user(conn, plan, telegram="77001", phone="+31610000001")
        add_pref(conn, user)
    add_channel_pref(conn, user, "email", digest_only=True)
    add_pref(conn, add_user(conn, "pro", email=None))
    add_source_event(conn)
    add_index(conn, 85)
    yesterday = NOW - timedelta(days=1)
    old = add_alert(conn, created_at=yesterday, headline="Yesterday")
    digest_user = add_user(conn)
    add_delivery(conn, digest_user, old, kind="digest", created_at=yesterday)
    add_digest(conn, digest_user, [add_alert(conn)], "telegram", window_end=yesterday)
    lost = add_user(conn, "pro")
    add_delivery(conn, lost, add_alert(conn), status="sending")
    add_delivery(conn, lost, add_alert(conn), created_at=NOW - timedelta(days=8))
    add_delivery(conn, lost, add_alert(conn), attempts=1, next_retry_at=NOW - timedelta(minutes=1))


def outbox_settings(database_url: str, folder: Path, **environ: str) -> Settings:
    return settings_for(
        database_url, EMAIL_PROVIDER="outbox", ALERTS_OUTBOX_DIR=str(folder / "outbox"), **environ
    )


def phase_statuses(report: RunReport) -> dict[str, str]:
    return {item.phase: item.status for item in report.record.items}


def run_row(conn: Connection, report: RunReport) -> dict[str, Any]:
    (row,) = query(conn, "SELECT * FROM alerts_engine_runs WHERE run_id = %s", report.record.run_id)
    return row


def last_run(conn: Connection) -> dict[str, Any]:
    return query(conn, "SELECT * FROM alerts_engine_runs ORDER BY id DESC LIMIT 1")[0]


class Runner:
    """Starts `python -m alerts.runner`, or `python -m alerts` with :meth:`command`, in an
    environment that contains only what a test sets."""

    def __init__(self, database_url: str, folder: Path) -> None:
        self.folder = folder
        self.environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(CHECKOUT),
            "DATABASE_URL": database_url,
            "EMAIL_PROVIDER": "outbox",
            "ALERTS_OUTBOX_DIR": str(folder / "outbox"),
        }

    def __call__(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return self._start("alerts.runner", *arguments, **environ)

    def command(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return self._start("alerts", *arguments, **environ)

    def _start(
        self, module: str, *arguments: str, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        given = {**self.environ, **environ}
        if given["PYTHONPATH"] == str(CHECKOUT):
            return run_module(module, arguments, self.folder, given)
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=self.folder,
            env=given,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def json_lines(self, *arguments: str, **environ: str) -> tuple[int, list[dict[str, Any]]]:
        done = self(*arguments, "--log-json", **environ)
        for line in done.stderr.splitlines():
            if not line.startswith("::"):  # a workflow command, which GitHub removes
                json.loads(line)  # logs are JSON too
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]
