"""A prune that is killed half way: what it removed stands in the audit, the next one goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.repair import prune
from tests.support.run_world import Runner
from tests.support.world import NOW, add_alert, query, value, wait_until

ROWS = 4 * prune.BATCH
OLD = NOW - timedelta(days=60)
COMMAND = ("prune", "--keep-days", "30", "--json")
USERS = "INSERT INTO users (email) SELECT n || '@example.com' FROM generate_series(1, %s) AS n"
DELIVERIES = """
INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, status, sent_at, created_at)
SELECT id, %(event)s, 'email', 'sent', %(old)s, %(old)s FROM users
"""
# Each batch then takes long enough to be met half way.
SLOW = """
CREATE FUNCTION take_a_moment() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(0.5);
    RETURN NULL;
END
$$;
CREATE TRIGGER take_a_moment AFTER DELETE ON user_alert_deliveries
FOR EACH STATEMENT EXECUTE FUNCTION take_a_moment()
"""


def left(conn: Connection) -> int:
    found: int = value(conn, "SELECT count(*) FROM user_alert_deliveries")
    return found


def pruning(conn: Connection) -> bool:
    """The killed one's server process ends with the statement that it was at."""
    return bool(
        value(
            conn,
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'alerts-prune'",
        )
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_killed_prune_is_gone_on_with(
    conn: Connection, database_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    db.execute(conn, USERS, (ROWS,))
    db.execute(conn, DELIVERIES, {"event": add_alert(conn, created_at=OLD), "old": OLD})
    db.execute(conn, SLOW)
    runner = Runner(database_url, tmp_path)
    runner.environ["ALERTS_CLOCK"] = NOW.isoformat()
    process = subprocess.Popen(
        [sys.executable, "-m", "alerts", *COMMAND],
        cwd=runner.folder, env=runner.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        wait_until(lambda: left(conn) < ROWS)
        process.send_signal(number)
        output, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode != 0
    assert output == ""
    assert "Traceback" not in errors
    wait_until(lambda: not pruning(conn))
    removed = ROWS - left(conn)
    assert 0 < removed < ROWS
    (action,) = query(conn, "SELECT action, result FROM alerts_admin_actions")
    assert (action["action"], action["result"]["deliveries"]) == ("prune", removed)

    db.execute(conn, "DROP FUNCTION take_a_moment() CASCADE")
    done = runner.command(*COMMAND)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["removed"]["deliveries"] == ROWS - removed
    assert left(conn) == 0
