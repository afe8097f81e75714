"""`GET /runs` and `GET /runs/{run_id}` over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from tests.support.web import Admin, add_item, add_run

RUN_KEYS = [
    "run_id", "triggered_by", "phase", "status", "started_at", "finished_at", "duration_ms",
    "counts", "error_summary", "git_sha", "created_at", "dry_run", "rerun", "ci_run_url",
    "scheduled_for", "late_seconds", "clock_skew_seconds", "stale",
]  # fmt: skip
ITEM_KEYS = [
    "phase", "started_at", "finished_at", "duration_ms", "status", "counts", "error_summary",
]  # fmt: skip
START = datetime(2026, 1, 16, 12, 30, 11, 567002, tzinfo=UTC)


def pages(admin: Admin, **params: Any) -> list[list[str]]:
    """The run ids of every page, following next_before."""
    found: list[list[str]] = []
    while True:
        page = admin.ok("/runs", **params)
        assert page["count"] == len(page["runs"])
        found.append([run["run_id"] for run in page["runs"]])
        if page["next_before"] is None:
            return found
        params["before"] = page["next_before"]


def test_without_runs_there_is_an_empty_page(admin: Admin) -> None:
    assert admin.ok("/runs") == {"count": 0, "next_before": None, "runs": []}


def test_a_run_has_the_fields_of_the_contract(admin: Admin, conn: Connection) -> None:
    run_id = add_run(
        conn,
        started_at=START,
        finished_at=START + timedelta(milliseconds=534),
        duration_ms=534,
        counts={"a": {"events_created": 2}, "c": {"channels_held": {}}},
        git_sha="0123abc",
        ci_run_url="https://github.com/o/r/actions/runs/1",
        created_at=START,
    )
    (run,) = admin.ok("/runs")["runs"]
    assert list(run) == RUN_KEYS
    assert run == {
        "run_id": run_id,
        "triggered_by": "local",
        "phase": "all",
        "status": "success",
        "started_at": "2026-01-16T12:30:11.567002+00:00",
        "finished_at": "2026-01-16T12:30:12.101002+00:00",
        "duration_ms": 534,
        "counts": {"a": {"events_created": 2}, "c": {"channels_held": {}}},
        "error_summary": None,
        "git_sha": "0123abc",
        "created_at": "2026-01-16T12:30:11.567002+00:00",
        "dry_run": False,
        "rerun": False,
        "ci_run_url": "https://github.com/o/r/actions/runs/1",
        "scheduled_for": None,
        "late_seconds": None,
        "clock_skew_seconds": None,
        "stale": False,
    }
    assert admin.ok(f"/runs/{run_id}") == {"run": run, "items": []}


def test_times_are_utc_whatever_the_database_prefers(admin: Admin, conn: Connection) -> None:
    db.execute(
        conn,
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET TimeZone = ''America/New_York''',"
        " current_database()); END $$",
    )
    run_id = add_run(conn, started_at=START.astimezone(timezone(timedelta(hours=9))))
    assert admin.ok(f"/runs/{run_id}")["run"]["started_at"] == START.isoformat()


def test_items_come_in_the_order_they_ran(admin: Admin, conn: Connection) -> None:
    run_id = add_run(conn, started_at=START)
    for seconds, phase in ((4, "c"), (1, "a"), (3, "d"), (2, "b")):
        add_item(conn, run_id, phase, START + timedelta(seconds=seconds))
    items = admin.ok(f"/runs/{run_id}")["items"]
    assert [item["phase"] for item in items] == ["a", "b", "d", "c"]
    assert list(items[0]) == ITEM_KEYS
    assert items[0] == {
        "phase": "a",
        "started_at": "2026-01-16T12:30:12.567002+00:00",
        "finished_at": "2026-01-16T12:30:12.567002+00:00",
        "duration_ms": 12,
        "status": "success",
        "counts": {"events_created": 1},
        "error_summary": None,
    }


def test_items_of_the_same_instant_come_in_the_order_they_were_written(
    admin: Admin, conn: Connection
) -> None:
    run_id = add_run(conn, started_at=START)
    for phase in ("a", "b", "d", "c"):
        add_item(conn, run_id, phase, START)
    assert [i["phase"] for i in admin.ok(f"/runs/{run_id}")["items"]] == ["a", "b", "d", "c"]


# Stale


@pytest.mark.parametrize(
    ("status", "heartbeat_age", "stale"),
    [
        ("running", 100, True),
        ("running", 60, False),
        ("running", None, True),  # started long ago and never heard of
        ("success", 1000, False),
        ("failed", 1000, False),
    ],
)
def test_a_running_run_without_heartbeat_reads_as_stale(
    admin: Admin, conn: Connection, status: str, heartbeat_age: int | None, stale: bool
) -> None:
    now = datetime.now(UTC)
    heartbeat = None if heartbeat_age is None else now - timedelta(seconds=heartbeat_age)
    started = now - timedelta(hours=1)
    run_id = add_run(conn, status=status, started_at=started, heartbeat_at=heartbeat)
    assert admin.ok("/runs")["runs"][0]["stale"] is stale
    assert admin.ok(f"/runs/{run_id}")["run"]["stale"] is stale


def test_a_run_that_has_just_started_is_not_stale(admin: Admin, conn: Connection) -> None:
    add_run(conn, status="running", heartbeat_at=None)
    assert admin.ok("/runs")["runs"][0]["stale"] is False


# Pages and filters


def test_the_newest_run_comes_first_and_the_default_page_has_fifty(
    admin: Admin, conn: Connection
) -> None:
    ids = [add_run(conn, started_at=START + timedelta(seconds=n)) for n in range(51)]
    page = admin.ok("/runs")
    assert [run["run_id"] for run in page["runs"]] == ids[:0:-1]
    assert pages(admin) == [ids[:0:-1], ids[:1]]


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 10, 200])
def test_following_next_before_visits_every_run_once(
    admin: Admin, conn: Connection, limit: int
) -> None:
    # Several of the same instant: the cursor must not lose or repeat them.
    ids = [add_run(conn, started_at=START + timedelta(seconds=n // 4)) for n in range(10)]
    found = pages(admin, limit=limit)
    assert [run_id for page in found for run_id in page] == ids[::-1]
    assert all(len(page) == limit for page in found[:-1])
    assert found[-1]  # never an empty last page


def test_new_runs_do_not_disturb_whoever_is_turning_pages(admin: Admin, conn: Connection) -> None:
    ids = [add_run(conn, started_at=START + timedelta(seconds=n)) for n in range(6)]
    params: dict[str, Any] = {"limit": 2}
    seen: list[str] = []
    while True:
        page = admin.ok("/runs", **params)
        seen += [run["run_id"] for run in page["runs"]]
        add_run(conn, started_at=START + timedelta(days=1))
        if page["next_before"] is None:
            break
        params["before"] = page["next_before"]
    assert seen == ids[::-1]


@pytest.mark.parametrize("filters", [
    {"status": "failed"}, {"phase": "b"}, {"triggered_by": "github_actions_schedule"},
    {"status": "failed", "phase": "all"},
    {"status": "success", "phase": "b", "triggered_by": "local"},
])  # fmt: skip
def test_filters_join_and_hold_on_every_page(
    admin: Admin, conn: Connection, filters: dict[str, str]
) -> None:
    rows = []
    for n in range(24):
        row = {
            "status": ("success", "failed", "skipped")[n % 3],
            "phase": ("all", "b")[n // 3 % 2],
            "triggered_by": ("local", "github_actions_schedule")[n // 6 % 2],
        }
        rows.append((add_run(conn, started_at=START + timedelta(seconds=n), **row), row))
    wanted = [run_id for run_id, row in rows[::-1] if filters.items() <= row.items()]
    assert len(wanted) >= 2
    found = pages(admin, limit=2, **filters)
    assert [run_id for page in found for run_id in page] == wanted


def test_every_word_of_a_filter_is_taken(admin: Admin, conn: Connection) -> None:
    add_run(conn)
    words = {
        "status": ["running", "success", "failed", "skipped"],
        "phase": ["a", "b", "c", "d", "all"],
        "triggered_by": ["github_actions_schedule", "github_actions_manual", "local"],
    }
    for name, values in words.items():
        for value in values:
            runs = admin.ok("/runs", **{name: value})["runs"]
            assert all(run[name] == value for run in runs)


@pytest.mark.parametrize(("name", "value"), [
    ("limit", "0"), ("limit", "201"), ("limit", "-1"), ("limit", "1.5"), ("limit", ""),
    ("limit", "ten"), ("limit", " 5"), ("limit", "٥"), ("limit", "9" * 400), ("limit", "1e2"),
    ("status", "done"), ("status", ""), ("status", "SUCCESS"), ("status", "x\0"),
    ("phase", "e"), ("phase", "A"), ("triggered_by", "cron"), ("triggered_by", "'; --"),
    ("before", ""), ("before", "yesterday"), ("before", "1"), ("before", "1.2.3"), ("before", "."),
    ("before", "-1.1"), ("before", "9" * 18 + ".1"), ("before", "1." + "9" * 19),
    ("before", "١.١"), ("before", "1.²"), ("before", "1.1\0"),
])  # fmt: skip
def test_a_value_out_of_range_is_400_with_the_name(admin: Admin, name: str, value: str) -> None:
    status, body = admin.get("/runs", **{name: value})
    assert (status, body["error"]["code"]) == (400, "bad_parameter")
    assert f"Parameter {name} " in body["error"]["message"]


@pytest.mark.parametrize("query", ["limit=5&limit=5", "status=failed&limit=3&status=failed"])
def test_a_repeated_parameter_is_400_with_the_name(admin: Admin, query: str) -> None:
    status, body = admin.get(f"/runs?{query}")
    assert status == 400
    assert (
        f"Parameter {query.partition('=')[0]} is given more than once" in body["error"]["message"]
    )


def test_an_unknown_parameter_is_400_with_the_name_and_those_known(admin: Admin) -> None:
    for path in ("/runs", "/runs/some-id", "/health"):
        status, body = admin.get(path, offset=5)
        assert status == 400
        assert "Parameter offset is not known here" in body["error"]["message"]
    assert (
        "status, phase, triggered_by, before, limit"
        in admin.get("/runs", x=1)[1]["error"]["message"]
    )


def test_a_name_that_is_none_is_not_repeated(admin: Admin) -> None:
    for name in ("<script>", "a" * 41, "ключ", "\0", ""):
        status, body = admin.get("/runs", **{name: "1"})
        assert status == 400
        assert "(not shown)" in body["error"]["message"]


@pytest.mark.parametrize("run_id", [
    "unknown", "\0", "a\0b", "x" * 5000, "ü–€🔑", "%", "%s", "%(run_id)s", "' OR true --", "..",
    "\\", "00000000-0000-0000-0000-000000000000", " ", "\n", "\x7f",
])  # fmt: skip
def test_an_unknown_run_is_404_whatever_its_id_looks_like(
    admin: Admin, conn: Connection, run_id: str
) -> None:
    add_run(conn)
    status, body = admin.get(f"/runs/{quote(run_id, safe='')}")
    assert status == 404
    assert body["error"]["code"] in ("run_not_found", "not_found")


@pytest.mark.parametrize("run_id", ["a/b", "/", "a%2Fb", "%FF"])
def test_an_id_with_a_slash_or_bytes_that_are_no_text_is_404(admin: Admin, run_id: str) -> None:
    status, body = admin.get(f"/runs/{run_id.replace('/', '%2F')}")
    assert status == 404
    assert set(body["error"]) == {"code", "message"}
