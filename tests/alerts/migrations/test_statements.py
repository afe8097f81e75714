"""Cutting SQL files into statements: what psql would send, with the right lines."""

from __future__ import annotations

import psycopg2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg2 import errorcodes

from alerts import db
from alerts.db import Connection
from alerts.migrations.statements import split_statements

WHOLE_STATEMENTS = [
    "SELECT 1",
    "SELECT 'a;b', 'it''s; here', E'back\\\\slash; \\'quoted\\';'",
    'SELECT 1 AS "semi;colon""s"',
    "SELECT $$one; two$$, $tag$ $$ ; ' $tag$",
    "SELECT 1 /* a; /* nested; */ still; */ + 1",
    "SELECT 1 -- the end; not yet\n+ 1",
    "DO $body$\nBEGIN\n  PERFORM 1;\nEND\n$body$",
    "CREATE RULE r AS ON INSERT TO t DO ALSO (\n  SELECT 1; SELECT 2;\n)",
    "CREATE OR REPLACE FUNCTION f(a int) RETURNS int\nBEGIN ATOMIC\n"
    "  SELECT CASE WHEN a > 1 THEN 1 ELSE 2 END;\n  SELECT 3;\nEND",
    "SELECT 'über', 1::numeric(3, 1), a$b FROM (SELECT 2 AS a$b) AS t",
    "SELECT type'x'",
    "SELECT 'a\\', U&'d\\0061;t', B'01', N';', 'one;'\n  ';two'",
    "PREPARE p (int) AS SELECT $1, $1 || $2 AS d$b$",
    "SELECT 1 AS a$b$, 2 AS c$b$",
    "SELECT 3 @-- an operator, then; a comment ' $$ /*\n 2",
    'CREATE TABLE begin_at (declare int, "end" int, atomic int DEFAULT (1))',
    "CREATE FUNCTION g() RETURNS void LANGUAGE sql BEGIN /* ; */ ATOMIC\n  SELECT 1;\nEND",
]
GAPS = [";", ";\n", " ;\n\n-- between; statements\n", ";\n/* a block;\n comment */ ", ";;\n"]


@given(st.lists(st.tuples(st.sampled_from(WHOLE_STATEMENTS), st.sampled_from(GAPS))))
def test_every_statement_comes_back_whole_with_its_line(
    parts: list[tuple[str, str]],
) -> None:
    text, expected = "", []
    for statement, gap in parts:
        expected.append((statement, text.count("\n") + 1))
        text += statement + gap
    assert [(s.text, s.line) for s in split_statements(text)] == expected


# Pieces that open, close and hide one another.
PIECES = (
    "SELECT 1",
    ";",
    "'",
    "$$",
    "$a$",
    "--",
    "/*",
    "*/",
    '"',
    "E'",
    "\\",
    "(",
    ")",
    "\n",
    " x ",
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_what_the_server_can_read_whole_it_can_read_in_pieces(conn: Connection, text: str) -> None:
    if is_readable(conn, text):
        for statement in split_statements(text):
            assert is_readable(conn, statement.text), statement


def is_readable(conn: Connection, text: str) -> bool:
    """Whether the server's own parser takes the text: it reads all of it before running any."""
    with pytest.raises(psycopg2.Error) as caught:
        db.execute(conn, f"SELECT 1 / 0; {text}")
    return caught.value.pgcode == errorcodes.DIVISION_BY_ZERO


@given(st.text(alphabet="ab'\"$;-/*()E\n\\ "))
def test_any_text_is_cut_into_pieces_of_itself(text: str) -> None:
    for statement in split_statements(text):
        assert statement.text in text
        assert statement.text[:1].strip()
        assert statement.line_at(0) <= text.count("\n") + 1


@pytest.mark.parametrize("text", ["", "\n\n", "-- nothing\n", "/* nothing; at all */ ;"])
def test_comments_alone_are_no_statement(text: str) -> None:
    assert split_statements(text) == []


def test_an_unterminated_quote_does_not_hide_what_follows() -> None:
    assert [s.words[:1] for s in split_statements("SELECT 'abc;\nCOMMIT;")] == [
        ("SELECT",),
        ("COMMIT",),
    ]


def test_the_first_words_are_upper_case() -> None:
    (statement,) = split_statements("create or /* x */ replace view v AS select 1")
    assert statement.words == ("CREATE", "OR", "REPLACE", "VIEW")


@pytest.mark.parametrize(
    ("text", "line"),
    [("\nDO $$\nBEGIN\nEND $$", 2), ("DO\n  $a$ BEGIN END $a$", 2), ("DO\n\n'BEGIN END'", 3)],
)
def test_the_code_block_of_a_do_statement_is_found(text: str, line: int) -> None:
    (statement,) = split_statements(text)
    assert statement.body is not None
    assert statement.line_at(statement.body) == line
