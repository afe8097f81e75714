"""What an operator reads when a migration fails, and what stays unsaid."""

from __future__ import annotations

from pathlib import Path

import pytest

from alerts import migrations
from alerts.migrations.files import Migration
from tests.support.migrating import CATALOGUE, Write, query, recorded, refusal, writer


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes migration files into a folder of the test."""
    return writer(tmp_path)


# SQL errors: file, line, and a database left as it was


@pytest.mark.parametrize(
    ("sql", "line", "expected"),
    [
        ("CREATE TABLE t (n INT);\nSELECT 1;\n\n-- c\nINSERT INTO t\nSELECT\n  nope;\n", 7, "nope"),
        ("CREATE TABLE t ();\nSELECT 1;\n/* c\n*/ CREATE TABLE t (\n);\n", 4, "already exists"),
        ("SELECT 1;\nSELECT 2;\nCREATE TABLE ü (\n  n INT,\n);\n", 5, "syntax error"),
        ("SELECT 1;\nDO $$\nBEGIN\n  PERFORM 1;\n  PERFORM nope();\nEND\n$$;\n", 5, "nope()"),
        ("SELECT 1;\n\nDO\n$$\nBEGIN\n  EXECUTE 'SELECT x';\nEND $$;", 6, '"x" does not exist'),
        ("DO $$\nBEGIN\n  not plpgsql;\nEND\n$$;", 3, "syntax error"),
        ("SELECT 1;\nDO $$\nBEGIN\n  PERFORM 1;\n  COMMIT;\nEND $$;", 5, "invalid transaction"),
        ("SELECT 'abc;\nSELECT 1;", 1, "unterminated"),
        ("CREATE TABLE t ();\nCREATE INDEX CONCURRENTLY i ON t ((1));", 2, "transaction block"),
        ("SELECT 1;\nVACUUM;", 2, "use a form of the command that allows it"),
        ("SELECT 1;\nCOPY pg_class FROM STDIN;", 2, "COPY"),
        ("SELECT 1;\nCREATE TABLE u (n INT", 2, "at end of input"),
        ("SELECT 1;\n/* the rest\nDROP TABLE kept;", 2, "unterminated /* comment"),
        ("SELECT 1;\nCOPY pg_class (relname) FROM stdin;\n1\tit's; $$\n\\.\n", 2, "use INSERT"),
        ("SELECT 1;\n\\connect other\nSELECT 1;", 2, "no \\commands"),
        ("-- a dump\n\n\\restrict a8f'x\nSELECT 1;", 3, "no \\commands"),
        ("SELECT 1;\nSELECT 2\n  AS n \\gset\n", 3, "no \\commands"),
        ("SELECT 1;\n/* a /* b; */\n SELECT 2;", 2, "unterminated /* comment"),
        ("SELECT 1;\nSELECT $a$ ;\n SELECT 2;", 2, "unterminated dollar-quoted string"),
        ('SELECT 1;\nSELECT "a;\n SELECT 2;', 2, "unterminated quoted identifier"),
        ("SELECT 1;\r\nSELECT\r\n  nope;\r\n", 3, "nope"),
        ("\ufeffSELECT 1;\n\nSELECT nope -- the end", 3, "nope"),
        ("SELECT 'ü;\n', $x$;\n$x$, E'\\';\n';\n/* ;\n/* ; */ */ SELECT 1 / 0;", 6, "division"),
    ],
)
def test_an_sql_error_names_file_and_line_and_undoes_the_file(
    empty_database_url: str, write: Write, sql: str, line: int, expected: str
) -> None:
    migrations.migrate(empty_database_url, write(_0001_first="CREATE TABLE kept ()"))
    before = query(empty_database_url, CATALOGUE)
    message = refusal(empty_database_url, write(_0002_broken=sql))
    assert message.startswith(f"0002_broken.sql, line {line}: "), message
    assert expected in message
    assert query(empty_database_url, CATALOGUE) == before
    assert recorded(empty_database_url) == ["0001_first"]


def test_a_failing_first_file_leaves_an_empty_database_empty(
    empty_database_url: str, write: Write
) -> None:
    before = query(empty_database_url, CATALOGUE)
    refusal(empty_database_url, write(_0001_broken="CREATE TABLE t (); SELECT nope"))
    assert query(empty_database_url, CATALOGUE) == before


def test_files_before_the_failing_one_stay_applied(empty_database_url: str, write: Write) -> None:
    directory = write(_0001_a="CREATE TABLE t ()", _0002_b="SELECT nope", _0003_c="SELECT 1")
    refusal(empty_database_url, directory)
    assert recorded(empty_database_url) == ["0001_a"]
    write(_0002_b="SELECT 1")
    assert migrations.migrate(empty_database_url, directory) == ["0002_b", "0003_c"]


def test_a_deferred_constraint_is_blamed_on_its_file(empty_database_url: str, write: Write) -> None:
    sql = (
        "CREATE TABLE a (id INT PRIMARY KEY);"
        "CREATE TABLE b (a INT CONSTRAINT b_a_fkey REFERENCES a DEFERRABLE INITIALLY DEFERRED);"
        "INSERT INTO b VALUES (4711);"
    )
    message = refusal(empty_database_url, write(_0001_a=sql))
    assert message.startswith("0001_a.sql, at its end (deferred constraints): ")
    assert 'constraint "b_a_fkey", table "b"' in message
    assert "4711" not in message


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1;\nCOMMIT;",
        "SELECT 1;\nbegin;",
        "SELECT 1;\n/* x */ Rollback;",
        "SELECT 1;\nEND",
        "SELECT 1;\nPREPARE TRANSACTION 'x';",
        "SELECT 1;\nSET search_path = x;",
        "SELECT 1;\nSET SESSION ROLE x;",
    ],
)
def test_what_would_leave_the_transaction_is_refused_before_anything_runs(
    empty_database_url: str, write: Write, sql: str
) -> None:
    directory = write(_0001_a="CREATE TABLE t ()", _0002_b=sql)
    assert "0002_b.sql, line 2: " in refusal(empty_database_url, directory)
    assert query(empty_database_url, "SELECT to_regclass('t')") == [(None,)]


@pytest.mark.parametrize("sql", ["COMMIT; SELECT 1", "COMMIT AND CHAIN; CREATE TABLE t ()"])
def test_a_transaction_that_ended_all_the_same_is_noticed(
    empty_database_url: str, write: Write, monkeypatch: pytest.MonkeyPatch, sql: str
) -> None:
    monkeypatch.setattr(Migration, "refuse_what_breaks_the_transaction", lambda _: None)
    message = refusal(empty_database_url, write(_0001_a=sql))
    assert "0001_a.sql ended its transaction" in message


def test_settings_and_constraint_modes_of_one_transaction_are_allowed(
    empty_database_url: str, write: Write
) -> None:
    directory = write(_0001_a="SET LOCAL work_mem = '8MB'; SET CONSTRAINTS ALL DEFERRED")
    assert migrations.migrate(empty_database_url, directory) == ["0001_a"]


# What is shown, and what never is


def test_what_a_migration_raises_is_shown_whole(empty_database_url: str, write: Write) -> None:
    sql = (
        "DO $$\nBEGIN\n  RAISE NOTICE 'looking at %', 'rows';\n  RAISE EXCEPTION 'old rows'\n"
        "    USING DETAIL = 'two of them', HINT = 'see SELECT 1';\nEND $$"
    )
    lines: list[str] = []
    message = refusal(empty_database_url, write(_0001_a=sql), report=lines.append)
    assert message == "0001_a.sql, line 4: old rows\nDETAIL: two of them\nHINT: see SELECT 1"
    assert lines == ["  NOTICE:  looking at rows"]


def test_notices_of_objects_that_exist_already_are_left_out(
    empty_database_url: str, write: Write
) -> None:
    directory = write(_0001_a="CREATE TABLE t (); CREATE TABLE IF NOT EXISTS t ()")
    lines: list[str] = []
    migrations.migrate(empty_database_url, directory, report=lines.append)
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("CREATE UNIQUE INDEX people_key ON people (email)", 'constraint "people_key"'),
        ("ALTER TABLE people ADD CONSTRAINT c CHECK (email IS NULL)", 'constraint "c"'),
        ("ALTER TABLE people ALTER phone SET NOT NULL", 'column "phone"'),
        ("ALTER TABLE people ALTER email TYPE INT USING email::int", 'type integer: "..."'),
    ],
)
def test_values_of_rows_are_not_shown(
    empty_database_url: str, write: Write, sql: str, expected: str
) -> None:
    query(
        empty_database_url,
        "CREATE TABLE people (email, phone) AS VALUES ('a@b.example', NULL), ('a@b.example', NULL)",
    )
    message = refusal(empty_database_url, write(_0001_a=sql))
    assert expected in message
    assert "SQLSTATE 2" in message
    assert "a@b.example" not in message


def test_details_about_definitions_are_shown(empty_database_url: str, write: Write) -> None:
    sql = "CREATE TABLE t (n INT); CREATE VIEW v AS SELECT n FROM t; DROP TABLE t"
    message = refusal(empty_database_url, write(_0001_a=sql))
    assert "DETAIL: view v depends on table t" in message


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:gehe/im@127.0.0.1/db",
        "postgresql://user:12/geheim@127.0.0.1/db",
        "postgresql://user:x@geheim@127.0.0.1/db",
        "postgresql://user:geheim%@127.0.0.1/db",
        "geheim",
    ],
)
def test_a_malformed_address_is_not_shown(url: str, write: Write) -> None:
    message = refusal(url, write(_0001_a="SELECT 1"))
    assert message.startswith("DATABASE_URL ")
    assert "geh" not in message
    assert "im@" not in message
