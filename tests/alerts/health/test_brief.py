"""The brief view stays small, whatever is told."""

from __future__ import annotations

import json

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.health.brief import MOST_BYTES, brief, brief_text
from alerts.health.report import get_health
from tests.support.web import add_run
from tests.support.world import NOW, settings_for

SETTINGS = settings_for("postgresql://unused")


@pytest.mark.parametrize("letter", ["x", "é", "鍵", "🔑", "\\", '"'])
def test_it_is_never_larger_than_two_kilobytes(conn: Connection, letter: str) -> None:
    add_run(conn, status="failed", error_summary=letter * 2000)
    for channel in ("all", "email", "telegram", "sms"):
        db.execute(
            conn,
            "INSERT INTO alerts_pauses (channel, reason, token_key_id) VALUES (%s, %s, 'cli')",
            (channel, letter * 200),
        )
    told = brief(get_health(conn, SETTINGS, NOW))
    assert len(json.dumps(told)) <= MOST_BYTES
    assert 1 <= len(told["reasons"]) <= 3
    assert told["headline"] == told["reasons"][0]["message"]
    assert brief_text(told).startswith(f"{told['status'].upper()} at ")


def test_a_well_engine_says_so(conn: Connection) -> None:
    add_run(conn)
    told = brief(get_health(conn, SETTINGS, NOW))
    assert told["headline"] == "All is well: 0 messages went out in the last 24 hours."
    assert "All is well" in brief_text(told).splitlines()[0]
