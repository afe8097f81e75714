"""Databases whose encoding is not UTF-8: preflight says so, and one bad row stops nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from alerts import db, migrations
from alerts.engine_observability import store
from alerts.preflight import preflight
from alerts.runs.record import RunItem, RunRecord
from tests.support.databases import TestServer
from tests.support.web import ADMIN, PREFIX, app_for
from tests.support.world import (
    NOW,
    add_alert,
    add_delivery,
    add_pref,
    add_source_event,
    add_user,
    all_channels,
    run,
    value,
)


@pytest.fixture
def latin_url(test_server: TestServer) -> Iterator[str]:
    name = test_server.create_encoded("LATIN1")
    yield test_server.url(name)
    test_server.drop(name)


@pytest.mark.parametrize("fixture", ["sql_ascii_url", "latin_url"])
def test_preflight_refuses_another_encoding_with_the_mend(
    request: pytest.FixtureRequest, fixture: str
) -> None:
    url = request.getfixturevalue(fixture)
    migrations.migrate(url)
    report = preflight({"DATABASE_URL": url})
    (found,) = [f for f in report.errors if f.id == "database_not_utf8"]
    assert "-E UTF8" in found.hint


def test_one_row_that_is_no_utf8_stops_neither_a_phase_nor_the_public_list(
    sql_ascii_url: str,
) -> None:
    migrations.migrate(sql_ascii_url)
    with closing(db.connect(sql_ascii_url, application_name="t")) as conn:
        for number in range(3):
            add_pref(conn, add_user(conn, "pro"))
            add_source_event(conn, title=f"Event {number} grün")
        db.execute(conn, "UPDATE events SET title = E'caf\\xe9 \\xff' WHERE id = 2")
        add_delivery(conn, 1, add_alert(conn, headline="Old grün"))
        db.execute(conn, "UPDATE alert_events SET headline = E'\\xe9t\\xe9' WHERE id = 1")
        channels = all_channels()
        report = run(sql_ascii_url, channels=channels)
        assert report.record.status == "success", report.record.error_summary
        assert report.recorded
        assert value(conn, "SELECT count(*) FROM alert_events") == 4
        assert (
            value(conn, "SELECT count(*) FROM user_alert_deliveries WHERE status = 'queued'") == 0
        )
    texts = [message.text for message in channels["email"].sent]
    assert sum("caf\ufffd \ufffd" in text for text in texts) == 3
    assert sum("Event 0 grün" in text for text in texts) == 3
    found = app_for(sql_ascii_url).test_client().get("/alerts/events/latest")
    assert found.status_code == 200
    headlines = {event["headline"] for event in found.get_json()["events"]}
    assert headlines >= {"\ufffdt\ufffd", "Event 0 grün"}


@pytest.mark.parametrize(
    ("fixture", "words"), [("sql_ascii_url", "Größe, ő, 🌍"), ("latin_url", "Größe")]
)
def test_a_run_is_recorded_with_its_words(
    request: pytest.FixtureRequest, fixture: str, words: str
) -> None:
    url = request.getfixturevalue(fixture)
    migrations.migrate(url)
    item = RunItem("a", NOW, NOW, 1, "failed", {}, words)
    record = RunRecord(
        "one", "local", "a", NOW, False, status="failed", finished_at=NOW, duration_ms=1,
        error_summary=words, items=(item,),
    )  # fmt: skip
    with closing(db.open_session(url, application_name="t")) as conn:
        store(conn, record)
        for table in ("alerts_engine_runs", "alerts_engine_run_items"):
            assert value(conn, f"SELECT error_summary FROM {table}") == words


@pytest.mark.parametrize("fixture", ["sql_ascii_url", "latin_url"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/runs/🌍"),
        ("GET", "/runs/ő"),
        ("POST", "/pause?reason=🌍"),
        ("POST", "/pause?channel=email&reason=ő"),
        ("GET", "/runs?triggered_by=🌍"),
        ("GET", "/deliveries?failure_code=🌍"),
        ("GET", "/actions?action=🌍"),
        ("GET", "/runs/%00"),
        ("GET", "/runs/%ED%A0%80"),  # half of a surrogate pair
        ("POST", "/pause?reason=%00"),
    ],
)
def test_a_parameter_that_the_database_cannot_hold_is_no_failure_of_ours(
    request: pytest.FixtureRequest, fixture: str, method: str, path: str
) -> None:
    url = request.getfixturevalue(fixture)
    migrations.migrate(url)
    answer = app_for(url).test_client().open(PREFIX + path, method=method, headers=ADMIN)
    assert answer.status_code in (400, 404) or (
        # Without an encoding every text can be held.
        fixture == "sql_ascii_url" and answer.status_code == 200
    ), answer.get_json()
