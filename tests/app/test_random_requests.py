"""Random and hostile requests by the OpenAPI document to the real app: no fault, no answer that it
does not describe, nothing valid refused, nothing invalid taken."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from psycopg2.extensions import connection as Connection

from tests.support import CHECKOUT
from tests.support.gunicorn import serving
from tests.support.queue_rows import add_digest
from tests.support.web import add_item, add_run
from tests.support.world import NOW, add_alert, add_delivery, add_user, query

TOKEN = "a-token-for-random-requests"
EXAMPLES = 3  # of each operation, besides some hundred deliberate ones on the edges


def some_of_everything(conn: Connection) -> None:
    run_id = add_run(conn)
    (run,) = query(conn, "SELECT started_at FROM alerts_engine_runs WHERE run_id = %s", run_id)
    add_item(conn, run_id, "a", run["started_at"])
    user = add_user(conn)
    for status in ("sent", "queued", "failed", "skipped"):
        add_delivery(conn, user, add_alert(conn), status=status, created_at=NOW)
    add_digest(conn, user, window_end=NOW - timedelta(hours=1))


@pytest.mark.slow
def test_random_requests_find_nothing(database_url: str, conn: Connection, tmp_path: Path) -> None:
    some_of_everything(conn)
    with serving(
        database_url,
        tmp_path / "log",
        INTERNAL_RUNNER_TOKEN=TOKEN,
        ALERTS_CLOCK=NOW.isoformat(),
        ALERTS_MAX_SEND_PER_RUN="1000000",  # the most that it can be, as the document says
    ) as served:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli"),
                *(
                    "--config-file",
                    str(CHECKOUT / "tests" / "support" / "schemathesis.toml"),
                    "run",
                ),
                f"http://127.0.0.1:{served.port}/openapi.json",
                *("--header", f"x-internal-token: {TOKEN}"),
                *("--phases", "coverage,fuzzing", "--max-examples", str(EXAMPLES)),
                # Wrong tokens are answered ever more slowly; test_openapi tries every route.
                *("--checks", "all", "--exclude-checks", "ignored_auth"),
                *("--workers", "4", "--continue-on-failure", "--no-color"),
                *(("--seed", "1") if "ALERTS_TEST_ON_CI" in os.environ else ()),
            ],
            cwd=tmp_path,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(CHECKOUT),
                "SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks",
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
