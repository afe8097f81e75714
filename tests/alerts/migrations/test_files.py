"""Which files are migrations, and which sequences of them are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.migrating import query, refusal


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["0001_a.sql", "0003_c.sql"], "the number 0002 is missing"),
        (["0002_b.sql"], "the number 0001 is missing"),
        (["0001_a.sql", "0001_b.sql"], "0001 is used twice: 0001_a.sql, 0001_b.sql"),
        (["0000_a.sql"], "begin at 0001"),
        (["0001_a.sql", "2_b.sql"], "badly named: 2_b.sql"),
        (["0001_a.sql", "0002_B.sql"], "badly named: 0002_B.sql"),
        (["0001_a.sql", "0002_b.SQL"], "badly named: 0002_b.SQL"),
        (["0001_a.sql", "0002_b.sq"], "badly named: 0002_b.sq"),
        (["README.md"], "contains no migrations"),
    ],
)
def test_files_out_of_sequence_are_refused_by_name(
    empty_database_url: str, tmp_path: Path, names: list[str], expected: str
) -> None:
    for name in names:
        (tmp_path / name).write_text("SELECT 1")
    assert expected in refusal(empty_database_url, tmp_path)
    assert query(empty_database_url, "SELECT to_regclass('schema_migrations')") == [(None,)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"SELECT 1;\nSELECT '\xff'", "0001_a.sql, line 2: not UTF-8"),
        (b"SELECT '\0'", "contains a NUL"),
        (b"-- later\n", "contains no SQL statement"),
    ],
)
def test_a_file_that_is_no_sql_text_is_refused(
    empty_database_url: str, tmp_path: Path, content: bytes, expected: str
) -> None:
    (tmp_path / "0001_a.sql").write_bytes(content)
    assert expected in refusal(empty_database_url, tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert "nowhere is not a folder" in refusal("postgresql://unused", tmp_path / "nowhere")
