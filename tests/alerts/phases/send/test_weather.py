"""Whatever the weather: nothing is lost, nobody starves, a closed channel costs one call a run."""

from __future__ import annotations

import os

import pytest
from psycopg2.extensions import connection as Connection

from tests.support.weather import World

SEEDS = range(int(os.environ.get("WEATHER_SEEDS", "3")))
# After such an outcome nobody knows, or the provider itself gave no better answer at five
# attempts: these rows end as the retry rules say.
MAY_END = {"outcome_unknown", "provider_unavailable"}


@pytest.mark.usefixtures("no_patience")
@pytest.mark.parametrize("seed", SEEDS)
def test_weather(conn: Connection, database_url: str, seed: int) -> None:
    found = World(conn, database_url, seed).play(36)
    print("weather", found.seed, found.senders, found.rows, dict(found.ends), found.worst_minutes,
          found.most_copies, found.most_calls_while_closed)  # fmt: skip
    assert not found.copies_too_many
    assert found.most_copies <= 2
    assert found.most_calls_while_closed <= 1
    assert [row for row in found.lost if row["failure_code"] not in MAY_END] == []
    # Hours that a provider asked for, and dead rows that close a channel once more, are in it.
    assert max(found.worst_minutes.values(), default=0) <= 240
