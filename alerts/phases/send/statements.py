"""Statements that a session prepares once: planning them costs more than running them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from psycopg2 import sql

from alerts import db


def numbered(parameters: Iterable[str]) -> dict[str, sql.SQL]:
    """How each parameter stands in a prepared text: ``$1``, ``$2`` ..."""
    return {name: sql.SQL(f"${number}") for number, name in enumerate(parameters, 1)}


class Statement:
    """A text with numbered parameters, which are given by name and type."""

    def __init__(self, name: str, parameters: Mapping[str, str], text: sql.Composable) -> None:
        self.name = name
        self.parameters = tuple(parameters)
        self.prepare = sql.SQL("PREPARE {} ({}) AS {};").format(
            sql.Identifier(name), sql.SQL(", ").join(map(sql.SQL, parameters.values())), text
        )
        self.execute = sql.SQL("EXECUTE {} ({})").format(
            sql.Identifier(name), sql.SQL(", ").join([sql.Placeholder()] * len(parameters))
        )


class Session:
    """A connection and what has been prepared on it. Not for one behind a pooler."""

    def __init__(self, conn: db.Connection) -> None:
        self.conn = conn
        self._texts: dict[str, str] = {}  # to execute what has been prepared

    def fetch(self, statement: Statement, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """The rows of a statement, which is prepared in the same round trip where need be."""
        text = self._texts.get(statement.name)
        if text is None:
            self._texts[statement.name] = statement.execute.as_string(self.conn)
            text = (statement.prepare + statement.execute).as_string(self.conn)
        with self.conn.cursor() as cursor:
            cursor.execute(text, [values[name] for name in statement.parameters])
            return cursor.fetchall()


def array(values: Iterable[object]) -> str:
    """A PostgreSQL array of numbers and None as the text of it: the driver's own lists cost a
    multiple."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def text_array(values: Iterable[object]) -> str:
    """A PostgreSQL array of texts and None."""
    return "{" + ",".join([_element(value) for value in values]) + "}"


def _element(value: object) -> str:
    if value is None:
        return "NULL"
    text = str(value)
    if text.isalnum() and text.isascii() and text != "NULL":
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
