"""Several questions in one round trip: to a distant database that is what an answer waits for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from psycopg2 import sql
from psycopg2.extensions import connection

_ROWS = sql.SQL("(SELECT coalesce(json_agg(answer), '[]') FROM (\n{}\n) AS answer)")
_ENDS = {
    "-infinity": datetime.min.replace(tzinfo=UTC),
    "infinity": datetime.max.replace(tzinfo=UTC),
}


class Together:
    """Named queries that are sent as one statement: all may read the tables of ``shared`` (each as
    it follows WITH) and take what they need of one set of parameters."""

    def __init__(self, *shared: str, **questions: str) -> None:
        self._names = tuple(questions)
        parts = [_ROWS.format(sql.SQL(text)) for text in questions.values()]
        self._text = sql.SQL("WITH {} SELECT {}").format(
            sql.SQL(",\n").join(map(sql.SQL, shared)), sql.SQL(",\n").join(parts)
        )

    def fetch(self, conn: connection, params: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
        """By question its rows, with values as JSON has them: for times see :func:`with_times`."""
        with conn.cursor() as cursor:
            cursor.execute(self._text, params)
            return dict(zip(self._names, cursor.fetchall()[0], strict=True))


def with_times(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The row out of the database's JSON with the named texts as times."""
    return {**row, **{name: _moment(row[name]) for name in names}}


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    found = _ENDS.get(text) or datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
