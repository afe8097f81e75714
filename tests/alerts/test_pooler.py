"""Through a transaction pooler the runner refuses to work, and everything that reads works."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from psycopg2.extensions import connection as Connection

from alerts.clock import Clock
from alerts.preflight import preflight
from app import create_app
from tests.support.poolers import pgbouncer, transaction_pooler
from tests.support.world import add_alert, add_delivery, add_user, query, run, settings_for

PROGRAM = pgbouncer()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed")
HEADERS = {"x-internal-token": "secret-token"}
ENGINE = "/internal/alerts/engine"


@pytest.fixture
def pooled_url(database_url: str, tmp_path: Path) -> Iterator[str]:
    assert PROGRAM is not None
    # pgbouncer runs as another user when the tests run as root: its folder has to be open.
    with transaction_pooler(PROGRAM, database_url, _open_folder(tmp_path)) as url:
        yield url


def _open_folder(folder: Path) -> Path:
    for parent in [folder, *folder.parents][:3]:
        parent.chmod(parent.stat().st_mode | 0o055)
    return folder


def test_runner_refuses_to_run_phases_through_a_pooler(pooled_url: str) -> None:
    report = run(pooled_url)
    assert report.record.status == "failed"
    assert "pooler" in (report.record.error_summary or "")
    assert "DATABASE_URL" in (report.record.error_summary or "")
    assert report.record.items == ()


def test_preflight_reports_a_pooler(pooled_url: str) -> None:
    report = preflight({"DATABASE_URL": pooled_url})
    assert [finding.id for finding in report.errors] == ["pooler_detected"]


def test_nothing_of_the_refused_runner_stays_in_the_pool(pooled_url: str, conn: Connection) -> None:
    run(pooled_url)
    app = create_app(settings_for(pooled_url, INTERNAL_RUNNER_TOKEN="secret-token"))
    found = app.test_client().get(f"{ENGINE}/runs", headers=HEADERS)
    assert found.status_code == 200


def test_web_app_reads_and_requeues_through_a_pooler(pooled_url: str, conn: Connection) -> None:
    now = Clock().now()
    add_delivery(conn, add_user(conn), add_alert(conn), status="failed", attempts=1, created_at=now)
    app = create_app(settings_for(pooled_url, INTERNAL_RUNNER_TOKEN="secret-token"))

    def ask(path: str) -> int:
        return app.test_client().get(path, headers=HEADERS).status_code

    paths = [f"{ENGINE}/health", f"{ENGINE}/runs", "/healthz", "/alerts/events/latest"] * 10
    with ThreadPoolExecutor(max_workers=6) as threads:
        assert set(threads.map(ask, paths)) == {200}
    answer = app.test_client().post(f"{ENGINE}/retry_failed?kind=deliveries", headers=HEADERS)
    assert answer.get_json()["requeued"] == 1
    assert query(conn, "SELECT status FROM user_alert_deliveries")[0]["status"] == "queued"
