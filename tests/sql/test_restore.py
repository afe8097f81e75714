"""Backups made with pg_dump come back with pg_restore: every row, and counts that are true."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db, migrations
from scripts.dev.place import find_place
from tests.support import CHECKOUT
from tests.support.health_counts import fill, kept, recounted, stale, statements
from tests.support.old_deployment import connect
from tests.support.queue_world import assert_each_in_its_place
from tests.support.world import NOW, lease, query, value

Tool = Callable[..., subprocess.CompletedProcess[str]]
TABLES = (
    "users", "plan_settings", "alert_events", "user_alert_deliveries", "user_alert_digests",
    "user_alert_digest_items", "alerts_send_queue", "alerts_leases", "alerts_digest_waiting",
)  # fmt: skip


@pytest.fixture
def tool(conn: Connection) -> Tool:
    """Runs one of PostgreSQL's programs, as the embedded server brings them along."""
    state = CHECKOUT / ".dev" / "db"
    state.mkdir(parents=True, exist_ok=True)
    place = find_place(state)
    if int(place.version) != conn.server_version // 10_000:
        pytest.skip("the programs at hand are of another version than the server")

    def run(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [str(place.binary(name)), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    return run


@pytest.fixture
def dump(conn: Connection, database_url: str, tool: Tool, tmp_path: Path) -> Callable[..., Path]:
    """Makes a backup of a database with rows, some of their counts folded and some not."""
    fill(conn)
    for text in statements():
        db.execute(conn, text)
    db.execute(conn, "SELECT alerts_health_fold()")
    db.execute(conn, "UPDATE user_alert_deliveries SET attempts = 4 WHERE id % 7 = 0")
    queued = query(conn, "SELECT id FROM alerts_send_queue WHERE source = 'deliveries' ORDER BY id")
    lease(conn, [row["id"] for row in queued[::3]], claimed_until=NOW)
    db.execute(conn, "UPDATE plan_settings SET monthly_price_usd = 7.77 WHERE plan_code = 'pro'")

    def make(*options: str) -> Path:
        file = tmp_path / "alerts.dump"
        done = tool("pg_dump", "--format=custom", f"--file={file}", *options, database_url)
        assert done.returncode == 0, done.stderr
        return file

    return make


def rows_of(conn: Connection) -> dict[str, list[dict[str, Any]]]:
    return {table: query(conn, f"SELECT * FROM {table} ORDER BY 1, 2") for table in TABLES}


def test_a_whole_backup_in_an_empty_database_counts_on(
    conn: Connection, dump: Callable[..., Path], empty_database_url: str, tool: Tool
) -> None:
    done = tool("pg_restore", "--no-owner", f"--dbname={empty_database_url}", dump())
    assert (done.returncode, done.stderr) == (0, "")
    assert migrations.status_of(empty_database_url).ok
    with closing(connect(empty_database_url)) as restored:
        assert rows_of(restored) == rows_of(conn)
        assert kept(restored) == recounted(restored)
        db.execute(restored, "SET search_path = ''")
        db.execute(restored, "DELETE FROM public.user_alert_deliveries WHERE id % 3 = 1")
        db.execute(restored, "RESET search_path")
        assert kept(restored) == recounted(restored)
        assert_each_in_its_place(restored)
        assert not stale(restored)


def test_the_rows_alone_in_a_migrated_database_are_counted_by_it(
    conn: Connection, dump: Callable[..., Path], fresh_url: str, tool: Tool
) -> None:
    left_out = [f"--exclude-table={name}" for name in ("schema_migrations", "alerts_health_*")]
    rows = dump("--data-only", *left_out)
    with closing(connect(fresh_url)) as restored:
        for own in ("plan_settings", "alerts_keys"):  # which may be other ones
            db.execute(restored, f"DELETE FROM {own}")
        done = tool("pg_restore", "--single-transaction", f"--dbname={fresh_url}", rows)
        assert (done.returncode, done.stderr) == (0, "")
        assert rows_of(restored) == rows_of(conn)
        assert_each_in_its_place(restored)
        assert kept(restored) == recounted(restored)
        assert not stale(restored)


@pytest.mark.parametrize("kind", ["data only", "triggers off"])
def test_whatever_a_restore_without_care_leaves_is_rebuilt(
    conn: Connection, dump: Callable[..., Path], fresh_url: str, tool: Tool, kind: str
) -> None:
    options = {"data only": ["--data-only"], "triggers off": []}[kind]
    how = {"data only": [], "triggers off": ["--data-only", "--disable-triggers"]}[kind]
    done = tool("pg_restore", *how, f"--dbname={fresh_url}", dump(*options))
    # Plans, keys and the record of migrations are there already, and are refused as a whole.
    refused = [line for line in done.stderr.splitlines() if "COPY failed for table" in line]
    assert len(refused) == 3, done.stderr
    with closing(connect(fresh_url)) as restored:
        for table, rows in rows_of(conn).items():
            if table != "plan_settings":
                assert query(restored, f"SELECT * FROM {table} ORDER BY 1, 2") == rows
        if kind == "data only":  # counted by the triggers, and the counts restored besides
            assert value(restored, "SELECT count(*) FROM alerts_health_differences()") > 0
        db.execute(restored, "SELECT alerts_health_rebuild(), alerts_queue_rebuild()")
        assert kept(restored) == recounted(restored)
        assert_each_in_its_place(restored)
