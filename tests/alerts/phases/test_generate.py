"""Phase A: which scores and events become alert events, and with which facts."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from tests.support.phases import counts, use_plain_timestamps, utc
from tests.support.world import NOW, add_asset_risk, add_index, add_source_event, query

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
HOSTILE = [
    "'; DROP TABLE events; --",
    "100 %s of %(now)s and %%",
    'Quote " and \\ and {braces} and $1 and :name',
    "Line one\nline two\ttabbed",
    "Ελλάδα 🔥 \u202eright to left",
    "<script>alert(1)</script> & more",
    "x" * 5000,
    "",
]


def events(conn: Connection) -> dict[str, dict[str, Any]]:
    """The alert events by fingerprint."""
    return {row["event_fingerprint"]: row for row in query(conn, "SELECT * FROM alert_events")}


def severities(conn: Connection) -> dict[str, int]:
    """Severity by region."""
    return {row["scope_region"]: row["severity"] for row in events(conn).values()}


SEVERITY_OF_SCORE = {69.99: None, 70: 3, 79.99: 3, 80: 4, 89.99: 4, 90: 5, 100: 5}


def test_regional_score_fires_from_70_with_severity_by_height(
    database_url: str, conn: Connection
) -> None:
    for score in SEVERITY_OF_SCORE:
        add_index(conn, score, region=str(score))
    counted = counts(database_url, "a")
    expected = {str(s): severity for s, severity in SEVERITY_OF_SCORE.items() if severity}
    assert severities(conn) == expected
    assert counted["regional_risk_spikes"] == counted["events_created"] == len(expected)


def test_asset_score_fires_from_70_with_severity_by_height(
    database_url: str, conn: Connection
) -> None:
    for score in SEVERITY_OF_SCORE:
        add_asset_risk(conn, score, region=str(score))
        # What lets a region fire from 50 does not count for assets.
        add_asset_risk(conn, score / 2, region=str(score), at=NOW - DAY - 2 * HOUR)
    counted = counts(database_url, "a")
    expected = {str(s): severity for s, severity in SEVERITY_OF_SCORE.items() if severity}
    assert severities(conn) == expected
    assert counted["asset_risk_spikes"] == counted["events_created"] == len(expected)


def test_regional_score_from_50_fires_when_a_fifth_above_the_earlier_day(
    database_url: str, conn: Connection
) -> None:
    fires = {  # by earlier score and score
        (50, 60): True,
        (50, 59.99): False,
        (50.5, 60.6): True,
        (41.6, 50): True,
        (41.7, 50): False,
        (40, 50): True,
        (40, 49.9): False,
        (10, 49.99): False,
        (0.1, 50): True,
        (0, 69): False,
        (69, 69): False,
        (None, 69): False,
        (95, 70): True,
    }
    for earlier, score in fires:
        region = f"{earlier}-{score}"
        add_index(conn, score, region=region)
        if earlier is not None:
            add_index(conn, earlier, region=region, at=NOW - DAY)
    counts(database_url, "a")
    assert severities(conn) == {f"{e}-{s}": 3 for (e, s), fired in fires.items() if fired}


def test_earlier_score_is_the_newest_of_the_seven_product_days_before(
    database_url: str, conn: Connection
) -> None:
    """Of 8 March in Amsterdam, whose days begin at 23:00 UTC."""
    week_ago = utc("2022-02-28 23:00")
    add_index(conn, 40, region="seven days before", at=week_ago)
    add_index(conn, 40, region="eight days before", at=week_ago - SECOND)
    add_index(conn, 40, region="last moment of yesterday", at=utc("2022-03-07 22:59:59"))
    add_index(conn, 40, region="first moment of today", at=utc("2022-03-07 23:00"))
    add_index(conn, 40, region="today, and higher yesterday", at=NOW - 2 * HOUR)
    add_index(conn, 59, region="today, and higher yesterday", at=NOW - DAY)
    add_index(conn, 40, region="day before yesterday", at=NOW - 2 * DAY)
    add_index(conn, 59, region="day before yesterday", at=NOW - DAY)
    add_index(conn, 40, region="of another window", at=NOW - DAY, window_days=30)
    add_index(conn, 40, region="OF ANOTHER REGION", at=NOW - DAY)
    for row in query(conn, "SELECT DISTINCT region FROM risk_indices"):
        add_index(conn, 60, region=row["region"].lower())
    counts(database_url, "a")
    assert set(severities(conn)) == {"seven days before", "last moment of yesterday"}


@pytest.mark.parametrize("add", [add_index, add_asset_risk])
def test_only_the_newest_score_of_seven_days_counts_for_a_day(
    database_url: str, conn: Connection, add: Any
) -> None:
    add(conn, 95, region="a day old", at=NOW - DAY)
    add(conn, 95, region="older", at=NOW - DAY - SECOND)
    add(conn, 95, region="of now", at=NOW)
    add(conn, 95, region="fell since", at=NOW - 2 * HOUR)
    add(conn, 20, region="fell since", at=NOW - HOUR)
    add(conn, 95, region="of a month", window_days=30)
    add(conn, 75, region="fell a little", at=NOW - HOUR)
    add(conn, 95, region="fell a little", at=NOW - 2 * HOUR)
    counts(database_url, "a")
    assert severities(conn) == {"a day old": 5, "of now": 5, "fell a little": 3}


@pytest.mark.parametrize("add", [add_index, add_asset_risk])
def test_scores_from_after_the_clock_do_not_exist(
    database_url: str, conn: Connection, add: Any
) -> None:
    add(conn, 95, region="rises later", at=NOW + SECOND)
    add(conn, 75, region="changes later", at=NOW - HOUR)
    add(conn, 10, region="changes later", at=NOW + SECOND)
    counts(database_url, "a")
    assert severities(conn) == {"changes later": 3}


def test_high_impact_is_severity_four_inserted_in_the_last_day(
    database_url: str, conn: Connection
) -> None:
    ids = {
        add_source_event(conn, severity=5, inserted_at=NOW),
        add_source_event(conn, severity=4, inserted_at=NOW - DAY),
    }
    add_source_event(conn, severity=3)
    add_source_event(conn, inserted_at=NOW - DAY - SECOND)
    add_source_event(conn, inserted_at=NOW + SECOND)
    counted = counts(database_url, "a")
    found = events(conn)
    assert set(found) == {f"HIGH_IMPACT_EVENT:{event_id}" for event_id in ids}
    assert {row["severity"] for row in found.values()} == {4, 5}
    assert counted["high_impact_events"] == counted["events_created"] == 2


def test_columns_of_each_type_of_event(database_url: str, conn: Connection) -> None:
    at = [NOW - n * HOUR for n in (1, 2, 3)]
    source = add_source_event(
        conn, "Pipeline stops", region="Black Sea", severity=4, inserted_at=at[0]
    )
    add_index(conn, 72.5, region="Europe", at=at[1])
    add_asset_risk(conn, 91, asset="gas", region="Middle East", at=at[2])
    assert counts(database_url, "a") == {
        "events_created": 3,
        "events_existing": 0,
        "regional_risk_spikes": 1,
        "asset_risk_spikes": 1,
        "high_impact_events": 1,
    }
    names = ("alert_type", "scope_region", "scope_assets", "severity", "risk_score", "risk_at")
    found = events(conn)
    assert {key: tuple(row[name] for name in names) for key, row in found.items()} == {
        "REGIONAL_RISK_SPIKE:Europe:2022-03-08": (
            "REGIONAL_RISK_SPIKE",
            "Europe",
            [],
            3,
            72.5,
            at[1],
        ),
        "ASSET_RISK_SPIKE:Middle East:gas:2022-03-08": (
            *("ASSET_RISK_SPIKE", "Middle East", ["gas"], 5, 91, at[2]),
        ),
        f"HIGH_IMPACT_EVENT:{source}": ("HIGH_IMPACT_EVENT", "Black Sea", [], 4, None, at[0]),
    }
    for fingerprint, row in found.items():
        assert row["cooldown_key"] == fingerprint
        assert row["created_at"] == NOW
        assert row["fanout_completed_at"] is None
        assert row["headline"]
        assert row["body"]
    assert found[f"HIGH_IMPACT_EVENT:{source}"]["headline"] == "Pipeline stops"
    assert found[f"HIGH_IMPACT_EVENT:{source}"]["driver_event_ids"] == [source]


@pytest.mark.parametrize(
    ("calculated_at", "day"),
    [
        ("2022-01-16 22:59:59", "2022-01-16"),
        ("2022-01-16 23:00:00", "2022-01-17"),
        ("2022-07-16 21:59:59", "2022-07-16"),
        ("2022-07-16 22:00:00", "2022-07-17"),
        ("2022-03-26 23:00:00", "2022-03-27"),  # 23 hours
        ("2022-03-27 21:59:59", "2022-03-27"),
        ("2022-03-27 22:00:00", "2022-03-28"),
        ("2022-10-29 22:00:00", "2022-10-30"),  # 25 hours
        ("2022-10-30 22:59:59", "2022-10-30"),
        ("2022-10-30 23:00:00", "2022-10-31"),
    ],
)
def test_fingerprint_has_the_product_day_of_the_score(
    database_url: str, conn: Connection, calculated_at: str, day: str
) -> None:
    at = utc(calculated_at)
    add_index(conn, 75, at=at)
    add_asset_risk(conn, 75, asset="oil", at=at)
    counts(database_url, "a", now=at + 3 * HOUR)
    assert set(events(conn)) == {
        f"REGIONAL_RISK_SPIKE:Europe:{day}",
        f"ASSET_RISK_SPIKE:Europe:oil:{day}",
    }


def test_product_day_follows_the_configured_zone(database_url: str, conn: Connection) -> None:
    add_index(conn, 75, at=utc("2022-03-08 03:00"))
    counts(database_url, "a", environ={"ALERTS_TIMEZONE": "America/New_York"})
    assert set(events(conn)) == {"REGIONAL_RISK_SPIKE:Europe:2022-03-07"}


def test_stale_score_fires_once_over_midnight(database_url: str, conn: Connection) -> None:
    add_index(conn, 75)
    for now in (NOW, NOW + 8 * HOUR, NOW + 22 * HOUR):
        counted = counts(database_url, "a", now=now)
    assert counted["events_existing"] == 1
    assert set(events(conn)) == {"REGIONAL_RISK_SPIKE:Europe:2022-03-08"}


def test_second_run_changes_nothing(database_url: str, conn: Connection) -> None:
    add_source_event(conn)
    add_index(conn, 72)
    add_asset_risk(conn, 91)
    counts(database_url, "a")
    before = events(conn)
    add_index(conn, 99, at=NOW)  # a later score of the same day is the same event
    assert counts(database_url, "a", now=NOW + HOUR / 2) == {
        "events_created": 0,
        "events_existing": 3,
        "regional_risk_spikes": 0,
        "asset_risk_spikes": 0,
        "high_impact_events": 0,
    }
    assert events(conn) == before


def test_event_of_an_old_deployment_with_the_same_cooldown_key_is_there_already(
    database_url: str, conn: Connection
) -> None:
    db.execute(conn, "CREATE UNIQUE INDEX ON alert_events (cooldown_key)")
    source = add_source_event(conn)
    db.execute(
        conn,
        "INSERT INTO alert_events (alert_type, severity, headline, body, cooldown_key,"
        " event_fingerprint) VALUES ('HIGH_IMPACT_EVENT', 5, 'h', 'b', %s, 'old')",
        (f"HIGH_IMPACT_EVENT:{source}",),
    )
    counted = counts(database_url, "a")
    assert (counted["events_created"], counted["events_existing"]) == (0, 1)


def test_hostile_titles_and_regions_arrive_as_they_are(database_url: str, conn: Connection) -> None:
    for text in HOSTILE:
        add_source_event(conn, text, region=text)
        add_index(conn, 75, region=text)
        add_asset_risk(conn, 75, region=text)
    counted = counts(database_url, "a")
    assert counted["events_created"] == 3 * len(HOSTILE)
    for text in HOSTILE:
        day = "2022-03-08"
        found = events(conn)
        assert found[f"REGIONAL_RISK_SPIKE:{text}:{day}"]["scope_region"] == text
        asset = found[f"ASSET_RISK_SPIKE:{text}:gas:{day}"]
        assert asset["scope_region"] == text
        assert text[:300] in asset["body"]
    headlines = query(
        conn, "SELECT headline FROM alert_events WHERE alert_type = 'HIGH_IMPACT_EVENT'"
    )
    assert sorted(row["headline"] for row in headlines) == sorted(HOSTILE)


def scene(conn: Connection, midnight: datetime) -> None:
    """Rows around a product day's start, where reading times in another zone would show."""
    for hours in (-160, -30, -25, -5, -4, -1, 1, 4, 5):
        region = f"at {hours}"
        add_index(conn, 75, region=region, at=midnight + hours * HOUR)
        add_asset_risk(conn, 75, region=region, at=midnight + hours * HOUR)
        add_source_event(conn, region=region, inserted_at=midnight + hours * HOUR)
        add_source_event(conn, region="Global", severity=3, inserted_at=midnight + hours * HOUR)
        add_index(conn, 60, region="Rising", at=midnight + hours * HOUR)
    add_index(conn, 80, region="Rising", at=midnight - SECOND)


@pytest.mark.parametrize("midnight", ["2022-03-06 23:00", "2022-03-26 23:00", "2022-10-29 22:00"])
def test_plain_timestamps_in_a_database_of_another_zone_change_nothing(
    database_url: str, conn: Connection, midnight: str
) -> None:
    start = utc(midnight)
    scene(conn, start)
    counted = counts(database_url, "a", now=start + 4 * HOUR)
    expected = events(conn)
    assert counted["events_created"] == len(expected) > 5
    db.execute(conn, "TRUNCATE alert_events RESTART IDENTITY CASCADE")
    use_plain_timestamps(conn)
    assert counts(database_url, "a", now=start + 4 * HOUR) == counted
    for row in expected.values():
        row["created_at"] = row["created_at"].replace(tzinfo=None)
    ids = {row.pop("id") for row in expected.values()}
    found = events(conn)
    assert {row.pop("id") for row in found.values()} == ids
    assert found == expected
