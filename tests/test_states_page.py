"""docs/states.md says what the database, the code and its statements say."""

from __future__ import annotations

import importlib
import re

import pytest
from psycopg2.extensions import connection as Connection

from alerts.failures import CLASS_OF, FailureClass, codes_of
from tests.support import CHECKOUT
from tests.support.world import value

PAGE = (CHECKOUT / "docs/states.md").read_text()
CHECKS = {
    "Delivery": "ck_user_alert_deliveries_state",
    "Digest": "ck_user_alert_digests_state",
    "Run": "alerts_engine_runs_status_check",
}


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def drawn(title: str) -> set[str]:
    """The states of a section's diagram."""
    diagram = section(title).partition("```mermaid")[2].partition("```")[0]
    arrows = re.findall(r"^    (\S+) --> ([^\s:]+)", diagram, re.MULTILINE)
    return {state for arrow in arrows for state in arrow} - {"[*]"}


@pytest.mark.parametrize("title", CHECKS)
def test_the_diagram_draws_the_states_that_the_database_takes(conn: Connection, title: str) -> None:
    check = value(
        conn,
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = %s",
        CHECKS[title],
    )
    assert drawn(title) == set(re.findall(r"'(\w+)'", check))


@pytest.mark.parametrize("title", ["Delivery", "Run"])
def test_every_state_of_the_table_is_drawn(title: str) -> None:
    rows = re.findall(r"^\| ([^|]*) \| ([^|]*) \| [^|]* \| [^|]*`alerts\.", section(title), re.M)
    assert rows
    named = {state for row in rows for cell in row for state in re.findall(r"`(\w+)`", cell)}
    assert named <= drawn(title)


@pytest.mark.parametrize("statement", sorted(set(re.findall(r"`(alerts[\w.]+:\w+)`", PAGE))))
def test_every_statement_that_is_named_exists(statement: str) -> None:
    module, _, name = statement.partition(":")
    assert hasattr(importlib.import_module(module), name)


def test_every_failure_code_stands_under_its_class() -> None:
    rows = re.findall(r"^\| (\w+) \| ([^|]*) \|", section("Failure codes"), re.MULTILINE)
    told = {name: tuple(re.findall(r"`(\w+)`", codes)) for name, codes in rows if name != "class"}
    assert told == {c.value: codes_of(c) for c in FailureClass}
    assert sum(len(codes) for codes in told.values()) == len(CLASS_OF)
