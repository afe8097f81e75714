"""Phase A: the events that a spike names as its drivers."""

from __future__ import annotations

from datetime import timedelta

from psycopg2.extensions import connection as Connection

from alerts import db
from tests.support.phases import allow_null, counts
from tests.support.world import NOW, add_index, add_source_event, value

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


def drivers_of_spike(conn: Connection, database_url: str) -> list[int] | None:
    add_index(conn, 75, region="Black Sea")
    counts(database_url, "a")
    ids: list[int] | None = value(
        conn,
        "SELECT driver_event_ids FROM alert_events WHERE alert_type = 'REGIONAL_RISK_SPIKE'",
    )
    return ids


def test_drivers_go_by_weight_then_severity_then_id(database_url: str, conn: Connection) -> None:
    def add(severity: int, weight: float | None) -> int:
        return add_source_event(conn, region="Black Sea", severity=severity, weighted_score=weight)

    unweighted = add(5, None)
    light = add(5, 1.0)
    weak = add(1, 2.0)
    first, second = add(3, 2.0), add(3, 2.0)
    heavy = add(1, 9.5)
    assert drivers_of_spike(conn, database_url) == [heavy, first, second]
    for used, expected in (
        (heavy, [first, second, weak]),
        (first, [second, weak, light]),
        (second, [weak, light, unweighted]),
        (weak, [light, unweighted]),
    ):
        db.execute(conn, "DELETE FROM events WHERE id = %s", (used,))
        db.execute(conn, "DELETE FROM alert_events")
        assert drivers_of_spike(conn, database_url) == expected


def test_drivers_without_severity_come_last(database_url: str, conn: Connection) -> None:
    """Old deployments may hold such rows."""
    allow_null(conn, "events", "severity_score")
    ids = [add_source_event(conn, region="Black Sea", severity=1) for _ in range(4)]
    db.execute(conn, "UPDATE events SET severity_score = NULL WHERE id = %s", (ids[0],))
    assert drivers_of_spike(conn, database_url) == ids[1:]


def test_drivers_are_of_the_region_or_global_whatever_the_case(
    database_url: str, conn: Connection
) -> None:
    regions = ("black sea", "GLOBAL", "Black Sea")
    expected = [add_source_event(conn, region=region, severity=1) for region in regions]
    add_source_event(conn, region="Europe", severity=5)
    add_source_event(conn, region="Black Sea coast", severity=5)
    assert drivers_of_spike(conn, database_url) == expected


def test_drivers_are_of_the_last_seven_days(database_url: str, conn: Connection) -> None:
    edge = add_source_event(conn, region="Black Sea", severity=1, inserted_at=NOW - 7 * DAY)
    newest = add_source_event(conn, region="Black Sea", severity=1, inserted_at=NOW)
    add_source_event(conn, region="Black Sea", inserted_at=NOW - 7 * DAY - SECOND)
    add_source_event(conn, region="Black Sea", inserted_at=NOW + SECOND)
    assert drivers_of_spike(conn, database_url) == [edge, newest]


def test_spike_without_drivers_is_an_event_all_the_same(
    database_url: str, conn: Connection
) -> None:
    assert not drivers_of_spike(conn, database_url)
    assert value(conn, "SELECT count(*) FROM alert_events WHERE scope_assets = '{}'") == 1
