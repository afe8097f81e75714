"""Typed readers: what they take, what they refuse, and that all three ways in use them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from alerts.cli import options
from alerts.readers import (
    BOOLEAN,
    CURSOR,
    ID,
    IDS,
    LARGEST_ID,
    TIME,
    Parameter,
    Reader,
    choice,
    comma_list,
    integer,
    switch,
)
from alerts.settings.env import EnvReader
from app.errors import ApiError
from app.params import read_query

GOOD: list[tuple[Reader[Any], str, Any]] = [
    (integer(1, 200), "1", 1), (integer(1, 200), "200", 200), (integer(0, 5), "0", 0),
    (integer(0, 5), "05", 5),
    (ID, "1", 1), (ID, str(LARGEST_ID), 2**63 - 1),
    (IDS, "7", (7,)), (IDS, " 9 , 7,9", (7, 9)), (IDS, str(LARGEST_ID), (LARGEST_ID,)),
    (choice(("a", "b")), "b", "b"),
    (comma_list(("one", "two")), "two, one", ("two", "one")),
    (comma_list(("one", "two")), "one,", ("one",)),
    (BOOLEAN, "true", True), (BOOLEAN, "1", True), (BOOLEAN, "false", False),
    (BOOLEAN, "0", False),
    (TIME, "2022-03-08", datetime(2022, 3, 8, tzinfo=UTC)),
    (TIME, " 2022-03-08T18:00:00Z ", datetime(2022, 3, 8, 18, tzinfo=UTC)),
    (TIME, "2022-03-08T18:00+05:30", datetime(2022, 3, 8, 12, 30, tzinfo=UTC)),
    (CURSOR, "1646762400000000.7", "1646762400000000.7"),
    (CURSOR, f"0.{LARGEST_ID}", f"0.{LARGEST_ID}"),
]  # fmt: skip
NO_NUMBERS = (
    "",
    " 1",
    "1 ",
    "1\n",
    "-1",
    "+1",
    "1.0",
    "1e1",
    "0x1",
    "1_0",
    "٣",
    "１",
    "²",
    "9" * 25,
)
BAD: list[tuple[Reader[Any], tuple[str, ...]]] = [
    (integer(1, 200), ("0", "201", *NO_NUMBERS)),
    (ID, ("0", str(LARGEST_ID + 1), *NO_NUMBERS)),
    (IDS, ("", ",", "1,", "1;2", "0", "1,x", "٣", str(LARGEST_ID + 1))),
    (choice(("a", "b")), ("", "A", "a ", "c", "a,b")),
    (comma_list(("one", "two")), ("", ",", " , ", "three", "one two", "One")),
    (BOOLEAN, ("", "TRUE", "yes", "on", "2", "true ")),
    (TIME, ("", "yesterday", "2022-13-01", "2022-03-08T25:00", "1646762400", "٢٠٢٢-03-08",
            "0001-01-01", "0001-01-01T00:00+23:59", "9999-12-31T23:59:59-23:59", "3000-01-01")),
    (CURSOR, ("", "7", "7.", ".7", "1.2.3", "1.٣", "-1.1", f"1.{LARGEST_ID + 1}", f"{'9' * 18}.1")),
]  # fmt: skip


@pytest.mark.parametrize(("reader", "text", "value"), GOOD)
def test_a_good_text_is_read(reader: Reader[Any], text: str, value: object) -> None:
    assert reader.read(text) == value


@pytest.mark.parametrize(
    ("reader", "text"), [(reader, text) for reader, texts in BAD for text in texts]
)
def test_a_bad_text_is_refused(reader: Reader[Any], text: str) -> None:
    with pytest.raises(ValueError):
        reader.read(text)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for reader, _ in BAD:
        try:
            reader.read(text)
        except ValueError:
            continue


@pytest.mark.parametrize(
    ("text", "on"),
    [("true", True), (" ON ", True), ("0", False), ("No", False), ("maybe", None), ("", None)],
)
def test_a_switch_knows_when_it_was_not_understood(text: str, on: bool | None) -> None:
    assert switch(text) is on


# -- the three ways in -----------------------------------------------------------------------

READERS = {
    "N": integer(1, 200), "ID": ID, "WORD": choice(("a", "b")), "TIME": TIME, "CURSOR": CURSOR,
    "LIST": comma_list(("one", "two")), "IDS": IDS,
}  # fmt: skip


def of_environment(reader: Reader[Any], text: str) -> str:
    env = EnvReader({"NAME": text})
    env.value("NAME", None, reader)
    (problem,) = env.problems
    return problem.message


def of_query(reader: Reader[Any], text: str) -> str:
    with (
        Flask(__name__).test_request_context(query_string={"name": text}),
        pytest.raises(ApiError) as refused,
    ):
        read_query([Parameter("name", reader)])
    assert (refused.value.status, refused.value.code) == (400, "bad_parameter")
    return refused.value.message


def of_command(reader: Reader[Any], text: str, capsys: pytest.CaptureFixture[str]) -> str:
    command = options.command("x", "", [Parameter("name", reader)], lambda environ, **_: 0)
    assert options.main(command, "x", ["--name", text], {}) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("text", ["0", "nothing of the kind", "٣"])
def test_environment_query_and_command_line_refuse_in_the_same_words(
    reader: Reader[Any], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert of_environment(reader, text) == f"NAME got {text!r}; it takes {reader.takes}"
    assert of_query(reader, text) == f"Parameter name takes {reader.takes}."
    assert of_command(reader, text, capsys).splitlines()[0] == f"x: --name takes {reader.takes}"


@pytest.mark.parametrize(("reader", "text", "value"), GOOD)
def test_environment_query_and_command_line_take_the_same(
    reader: Reader[Any], text: str, value: object
) -> None:
    assert EnvReader({"NAME": text}).value("NAME", None, reader) == value
    with Flask(__name__).test_request_context(query_string={"name": text}):
        assert read_query([Parameter("name", reader)]) == {"name": value}
    if reader is not BOOLEAN:  # there it is a flag
        found: list[object] = []

        def act(environ: object, name: object) -> int:
            found.append(name)
            return 0

        command = options.command("x", "", [Parameter("name", reader)], act)
        assert options.main(command, "x", ["--name", text], {}) == 0
        assert found == [value]
