"""A spool may hold anything: what can be stored is, and what never can be keeps nothing back."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.runs import spool
from alerts.runs.record import RunRecord
from tests.alerts.runs.test_spool import RECORD, STARTED, keep
from tests.support.run_world import Runner
from tests.support.world import query, run, value

FIELDS = RECORD.as_json()
ITEM = FIELDS["items"][0]
Line = dict[str, Any]

NEVER: dict[str, Line] = {
    "an unknown status": {"status": "exploded"},
    "an unknown phase": {"phase": "z"},
    "a status that lacks its end": {"finished_at": None},
    "an end that lacks its status": {"status": "running"},
    "a NUL in a text": {"error_summary": "a\0b"},
    "a NUL in the id": {"run_id": "a\0b"},
    "half a character": {"error_summary": "\ud800"},
    "half a character in the id": {"run_id": "\udcff"},
    "a NUL in a count": {"items": [{**ITEM, "counts": {"a": "\0"}}]},
    "a text that is too long": {"error_summary": "x" * 2001},
    "a duration that no column holds": {"duration_ms": 2**70},
    "a duration below zero": {"duration_ms": -1},
    "a duration of a phase that no column holds": {"items": [{**ITEM, "duration_ms": 2**63}]},
    "an interval that no clock has": {"interval_minutes": 2**62},
    "an unknown phase of an item": {"items": [{**ITEM, "phase": "x"}]},
    "an unknown status of an item": {"items": [{**ITEM, "status": "running"}]},
    "the same phase twice": {"items": [ITEM, ITEM]},
    "a start before time": {"started_at": "0001-01-01T00:00:00+01:00"},
    "a start after time": {"started_at": "9999-12-31T23:59:59-01:00"},
    "an item before time": {"items": [{**ITEM, "started_at": "0001-01-01T00:00:00+14:00"}]},
    "a number for a text": {"run_id": 7},
    "a text for a number": {"duration_ms": "9"},
    "a text for a truth": {"dry_run": "no"},
    "a truth for a number": {"interval_minutes": True},
    "a list for a text": {"phase": ["all"]},
    "a list for the counts": {"items": [{**ITEM, "counts": []}]},
    "a field that is not known": {"colour": "red"},
    "no start": {"started_at": None},
}


def lines_of(path: Path) -> list[str]:
    return path.read_text().split("\n")


@pytest.mark.parametrize("kind", NEVER)
def test_a_record_that_the_database_will_never_take_is_set_aside_with_the_reason(
    conn: Connection, database_url: str, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "spool.jsonl"
    bad = json.dumps({**FIELDS, **NEVER[kind]})
    spool.append(path, replace(RECORD, run_id="before"))
    with path.open("a") as file:
        file.write(bad + "\n")
    spool.append(path, replace(RECORD, run_id="behind"))
    assert run(database_url, "a", environ={"ALERTS_RUN_SPOOL": str(path)}).recorded
    rows = query(conn, "SELECT run_id FROM alerts_engine_runs ORDER BY id")
    assert {"before", "behind"} <= {row["run_id"] for row in rows}
    assert len(rows) == 3
    assert not path.exists()
    reason, line, end = lines_of(tmp_path / "spool.jsonl.rejected")
    assert (line, end) == (bad, "")
    assert reason.startswith(("# no run record (", "# the database will not take it ("))


def test_what_was_set_aside_can_be_replayed_as_it_is(
    conn: Connection, database_url: str, tmp_path: Path
) -> None:
    path, aside = tmp_path / "spool.jsonl", tmp_path / "spool.jsonl.rejected"
    path.write_text(json.dumps({**FIELDS, "status": "succes"}) + "\n")
    runner = Runner(database_url, tmp_path)
    done = runner.command("replay-spool", str(path), "--json")
    assert json.loads(done.stdout) == {"stored": 0, "rejected": 1}
    assert "23514" in lines_of(aside)[0]
    aside.write_text(aside.read_text().replace('"succes"', '"success"'))
    done = runner.command("replay-spool", str(aside), "--json")
    assert json.loads(done.stdout) == {"stored": 1, "rejected": 0}
    assert value(conn, "SELECT status FROM alerts_engine_runs") == "success"
    assert not aside.exists()


TROUBLE = [
    "ALTER TABLE alerts_engine_runs RENAME TO elsewhere",
    "ALTER TABLE alerts_engine_runs RENAME COLUMN error_summary TO elsewhere",
    "ALTER DATABASE {name} SET default_transaction_read_only = on",
]


@pytest.mark.parametrize("trouble", TROUBLE)
def test_a_database_in_trouble_takes_it_later(
    conn: Connection, database_url: str, tmp_path: Path, trouble: str
) -> None:
    path = tmp_path / "spool.jsonl"
    spool.append(path, RECORD)
    db.execute(conn, trouble.format(name=conn.info.dbname))
    done = Runner(database_url, tmp_path).command("replay-spool", str(path), "--json")
    assert json.loads(done.stdout) == {"stored": 0, "rejected": 0}
    assert lines_of(path) == [RECORD.as_line(), ""]


# Lines


LINE_ENDS = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\r", "\r\n"]


@pytest.mark.parametrize("end", LINE_ENDS)
def test_a_text_may_hold_whatever_unicode_calls_the_end_of_a_line(tmp_path: Path, end: str) -> None:
    path, found = tmp_path / "spool.jsonl", []
    record = replace(RECORD, error_summary=f"a{end}b")
    spool.append(path, record)
    with path.open("ab") as file:  # and as another program may write it
        file.write(json.dumps(record.as_json(), ensure_ascii=False).encode() + b"\n")
    assert spool.replay(path, keep(found)) == (2, 0)
    assert found == [record, record]


@given(text=st.text(st.characters(exclude_categories=())))
def test_any_text_comes_back(text: str) -> None:
    record = replace(RECORD, error_summary=text)
    line = record.as_line()
    assert line.isascii()
    assert "\n" not in line
    assert RunRecord.from_json(json.loads(line)) == record


def test_half_a_line_of_a_writer_that_was_killed_takes_no_other_with_it(tmp_path: Path) -> None:
    path, found = tmp_path / "spool.jsonl", []
    path.write_text(RECORD.as_line()[:50])
    spool.append(path, RECORD)
    assert spool.replay(path, keep(found)) == (1, 1)
    assert found == [RECORD]


def test_bytes_that_are_no_text_are_set_aside_alone(tmp_path: Path) -> None:
    path, found = tmp_path / "spool.jsonl", []
    path.write_bytes(b"\xff\xfe\x00\n\n   \n")
    spool.append(path, RECORD)
    assert spool.replay(path, keep(found)) == (1, 1)


def test_who_dies_while_the_rest_is_written_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "spool.jsonl"
    records = [replace(RECORD, run_id=str(n)) for n in range(3)]
    for record in records:
        spool.append(path, record)
    stored: list[RunRecord] = []
    one: Callable[[RunRecord], bool] = lambda record: not stored and keep(stored)(record)  # noqa: E731
    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
        patch.setattr(os, "fsync", refuse)
        spool.replay(path, one)
    again: list[RunRecord] = []
    assert spool.replay(path, keep(again)) == (3, 0)
    assert again == records


def refuse(descriptor: int) -> None:
    raise OSError("no space")


def test_a_record_of_a_clock_ahead_is_stored_as_of_now(
    conn: Connection, database_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "spool.jsonl"
    for years in (100, 900):
        later = timedelta(days=365 * years)
        item = replace(RECORD.items[0], started_at=STARTED + later, finished_at=STARTED + later)
        spool.append(
            path,
            replace(RECORD, run_id=str(years), started_at=STARTED + later,
                    finished_at=STARTED + later, items=(item,)),
        )  # fmt: skip
    done = Runner(database_url, tmp_path).command("replay-spool", str(path), "--json")
    assert json.loads(done.stdout) == {"stored": 2, "rejected": 0}
    for table in ("alerts_engine_runs", "alerts_engine_run_items"):
        for row in query(conn, f"SELECT started_at, finished_at, now() FROM {table}"):
            assert row["started_at"] <= row["now"]
            assert row["finished_at"] <= row["now"]
