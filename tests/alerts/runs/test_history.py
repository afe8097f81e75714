"""Run history: the cursor, the plan of its queries, and the command line's same answers."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts import paging as cursors
from alerts.cli import commands
from alerts.runs import history
from tests.support.web import CLOSED_PORT, Admin, add_item, add_run, app_for
from tests.support.world import query, run

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
START = datetime(2026, 1, 16, 12, 30, tzinfo=UTC)


@given(st.text(max_size=40) | st.from_regex(r"\A[0-9]{1,20}\.[0-9]{1,20}\Z"))
def test_a_cursor_is_taken_whole_or_refused(text: str) -> None:
    try:
        assert cursors.checked_cursor(text) == text
    except ValueError:
        return
    moment, row_id = cursors.parse_cursor(text)
    assert moment.tzinfo is not None
    assert 0 <= row_id < 2**63


@given(
    st.integers(0, 10**17 - 1).map(lambda us: EPOCH + timedelta(microseconds=us)),
    st.integers(1, 10**18 - 1),
)
def test_a_cursor_leads_back_to_its_row(moment: datetime, row_id: int) -> None:
    cursor = cursors.cursor(moment, row_id)
    assert cursors.parse_cursor(cursor) == (moment, row_id)


def test_a_bad_cursor_is_refused_by_the_function_too(conn: Connection) -> None:
    with pytest.raises(ValueError, match="cursor"):
        history.list_runs(conn, before="yesterday")


def test_a_page_reads_the_index_however_long_the_history(conn: Connection) -> None:
    db.execute(
        conn,
        "INSERT INTO alerts_engine_runs (run_id, triggered_by, phase, started_at, finished_at,"
        " status) SELECT n::text, 'local', 'all', now() - n * interval '1 minute', now(), 'success'"
        " FROM generate_series(1, 20000) AS n; ANALYZE alerts_engine_runs",
    )
    first = history.list_runs(conn, limit=50)
    parameters = dict.fromkeys(("status", "phase", "triggered_by"))
    cursor = cursors.parse_cursor(first["next_before"])
    for before_time, before_id in ((None, None), cursor):
        place = {"before_time": before_time, "before_id": before_id, "limit": 50, "stale": 90}
        rows = db.fetch_all(conn, "EXPLAIN " + history.LIST_RUNS, {**parameters, **place})
        plan = "\n".join(row["QUERY PLAN"] for row in rows)
        assert "idx_alerts_engine_runs_started" in plan
        assert "Sort" not in plan


# The command line


def command(
    capsys: pytest.CaptureFixture[str], database_url: str, *arguments: str
) -> tuple[int, str]:
    """Exit code and standard output of the command."""
    capsys.readouterr()
    code = commands.main([*arguments, "--json"], {"DATABASE_URL": database_url})
    return code, capsys.readouterr().out


def test_the_command_line_gives_the_endpoints_json(
    database_url: str, conn: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [add_run(conn, started_at=START + timedelta(seconds=n)) for n in range(55)]
    add_item(conn, ids[-1], "a", START)
    admin = Admin(app_for(database_url).test_client())
    for arguments, path, params in (
        (["runs"], "/runs", {}),
        (["runs", "--status", "failed"], "/runs", {"status": "failed"}),
        (["runs", "--phase", "a"], "/runs", {"phase": "a"}),
        (["runs", "--triggered-by", "local"], "/runs", {"triggered_by": "local"}),
        (["runs", "--limit", "3"], "/runs", {"limit": 3}),
        (["run", ids[-1]], f"/runs/{ids[-1]}", {}),
    ):
        code, output = command(capsys, database_url, *arguments)
        assert (code, json.loads(output)) == (0, admin.ok(path, **params))
    place = admin.ok("/runs")["next_before"]
    code, output = command(capsys, database_url, "runs", "--before", place)
    assert (code, json.loads(output)) == (0, admin.ok("/runs", before=place))
    assert json.loads(output)["count"] == 5


@pytest.mark.parametrize("run_id", ["unknown", "a\0b", "%s", "ü" * 3000, ""])
def test_an_unknown_run_is_exit_code_1(
    database_url: str, capsys: pytest.CaptureFixture[str], run_id: str
) -> None:
    assert command(capsys, database_url, "run", run_id) == (1, "")


@pytest.mark.parametrize("arguments", [["runs"], ["run", "x"], ["health"]])
def test_a_database_that_is_down_is_exit_code_1_without_its_address(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    capsys.readouterr()
    code = commands.main(arguments, {"DATABASE_URL": CLOSED_PORT})
    shown = capsys.readouterr()
    assert (code, shown.out) == (1, "")
    assert "the database failed" in shown.err
    for inside in ("hush-hush", "somebody", "Traceback"):
        assert inside not in shown.err


@pytest.mark.parametrize("limit", ["0", "201", "x", "-1"])
def test_a_limit_out_of_range_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], limit: str
) -> None:
    environ = {"DATABASE_URL": CLOSED_PORT}
    assert commands.main(["runs", f"--limit={limit}"], environ) == 2
    assert "--limit takes a whole number from 1 to 200" in capsys.readouterr().err


def test_a_real_run_is_found_with_its_phases(database_url: str, conn: Connection) -> None:
    report = run(database_url)
    found = history.get_run(conn, report.record.run_id)
    assert found is not None
    assert [item["phase"] for item in found["items"]] == ["a", "b", "d", "c"]
    assert found["run"]["counts"] == {i["phase"]: i["counts"] for i in found["items"]}
    assert found["run"]["duration_ms"] == report.record.duration_ms
    assert history.list_runs(conn)["runs"] == [found["run"]]
    assert query(conn, "SELECT count(*) FROM alerts_engine_runs")[0]["count"] == 1
