"""Several questions in one statement."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from psycopg2.extensions import connection as Connection

from alerts.db.together import Together, with_times


def test_each_question_has_its_rows_and_shares_tables_and_parameters(conn: Connection) -> None:
    together = Together(
        "numbers AS (SELECT n FROM generate_series(1, %(last)s) AS n)",
        "even AS (SELECT n FROM numbers WHERE n %% 2 = 0)",
        all="SELECT n, n = %(last)s AS last FROM numbers ORDER BY n",
        even="SELECT sum(n) AS total FROM even  -- a comment at the end",
        none="SELECT n FROM even WHERE n > 100",
    )
    assert together.fetch(conn, {"last": 3, "unused": 1}) == {
        "all": [{"n": 1, "last": False}, {"n": 2, "last": False}, {"n": 3, "last": True}],
        "even": [{"total": 2}],
        "none": [],
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("timestamptz '2022-03-08 18:00:00.25+01'", datetime(2022, 3, 8, 17, 0, 0, 250000, UTC)),
        ("timestamp '2022-03-08 18:00'", datetime(2022, 3, 8, 18, tzinfo=UTC)),
        ("timestamptz 'infinity'", datetime.max.replace(tzinfo=UTC)),
        ("timestamptz '-infinity'", datetime.min.replace(tzinfo=UTC)),
        ("NULL", None),
    ],
)
def test_times_are_read_back(conn: Connection, value: str, expected: datetime | None) -> None:
    (row,) = Together("x AS (SELECT 1)", at=f"SELECT {value} AS at, 'now' AS text").fetch(conn, {})[
        "at"
    ]
    assert with_times(row, "at") == {"at": expected, "text": "now"}
