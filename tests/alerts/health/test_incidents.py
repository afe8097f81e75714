"""Each incident is told by its cause, in the same words wherever it is asked about."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from psycopg2.extensions import connection as Connection

from alerts.health.brief import brief
from alerts.health.report import get_health
from tests.support.incidents import INCIDENTS, Incident, World
from tests.support.world import settings_for


@pytest.mark.parametrize("incident", INCIDENTS, ids=lambda each: each.id)
def test_incident(incident: Incident, conn: Connection, database_url: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        world = World(conn, database_url, tmp_path, stack)
        incident.make(world)
        health = get_health(conn, settings_for(database_url), datetime.now(UTC))
        with open("/tmp/w/trees/reasons.explored", "a") as f:
            print(f"== {incident.id} [{incident.code}/{incident.status}] {world.times}", file=f)
            print(
                "   ",
                health["status"],
                [(r["code"], r["severity"], r.get("cause")) for r in health["reasons"]],
                file=f,
            )
            told = brief(health)
            for r in told["reasons"]:
                print("    M", r["message"], file=f)
                print("    A", r["action"], file=f)
            print("    H", told["headline"], file=f)
