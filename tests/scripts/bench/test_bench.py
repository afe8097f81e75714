"""The benchmarks run, each on a database of its own, and tell what they measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from tests.support import CHECKOUT

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def bench(database_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(CHECKOUT / "scripts" / "bench" / "run.py"), *arguments],
        check=False,
        env={"DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        timeout=180,
    )


def bench_databases(database_url: str) -> set[str]:
    conn = psycopg2.connect(database_url)
    try:
        cursor = conn.cursor()
        cursor.execute("SELECT datname FROM pg_database WHERE datname LIKE 'alerts\\_bench\\_%'")
        return {name for (name,) in cursor.fetchall()}
    finally:
        conn.close()


def test_every_benchmark_runs_and_table_json_and_document_agree(
    database_url: str, tmp_path: Path
) -> None:
    before = bench_databases(database_url)
    document, rows_file = tmp_path / "page.md", tmp_path / "rows.json"
    document.write_text(f"Before.\n{BEGIN}\nold\n{END}\nAfter.\n")
    ran = bench(database_url, "--sizes", "0.01", "--json", str(rows_file), "--docs", str(document))
    assert ran.returncode == 0, ran.stderr
    rows: list[dict[str, Any]] = json.loads(rows_file.read_text())
    table = ran.stdout[ran.stdout.index("| benchmark") :].strip()
    assert document.read_text() == f"Before.\n{BEGIN}\n{table}\n{END}\nAfter.\n"
    lines = table.splitlines()[2:]
    assert len(lines) == len(rows) >= 13
    for line, row in zip(lines, rows, strict=True):
        assert row["value"] > 0
        assert row["reference_value"] > 0
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[:1] + cells[2:5] == [
            row["benchmark"],
            row["figure"],
            row["reference"],
            row["target"],
        ]
        assert cells[5] == ("yes" if row["met"] else "no")
    assert bench_databases(database_url) <= before


@pytest.mark.parametrize(
    ("arguments", "named"), [(("--only", "fanoot"), "fanoot"), (("--sizes", "ten"), "--sizes")]
)
def test_what_is_not_known_is_a_usage_error(arguments: tuple[str, ...], named: str) -> None:
    ran = bench("", *arguments)
    assert ran.returncode == 2
    assert named in ran.stderr


def test_a_document_without_the_markers_is_left_alone(database_url: str, tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("No markers.\n")
    ran = bench(database_url, "--only", "runs", "--sizes", "0.01", "--docs", str(document))
    assert ran.returncode == 1
    assert BEGIN in ran.stderr
    assert document.read_text() == "No markers.\n"
