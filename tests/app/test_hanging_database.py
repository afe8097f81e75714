"""A database that hangs, under the app as it is deployed: no request waits long, and none has to
once it is back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from app.database import CONNECTIONS, Database
from tests.support.gunicorn import Served, serving
from tests.support.pg_proxy import PgProxy
from tests.support.web import ADMIN, PREFIX, app_for
from tests.support.world import NOW, add_alert, add_delivery, add_user, query, wait_until

pytestmark = pytest.mark.slow
RUNS = f"{PREFIX}/runs"
MOST_SECONDS = 8.0  # a request that finds a kept connection silent, and then a new one


@pytest.fixture
def proxy(database_url: str) -> Iterator[PgProxy]:
    with PgProxy(database_url) as proxy:
        yield proxy


@pytest.fixture
def server(proxy: PgProxy, tmp_path: Path) -> Iterator[Served]:
    with serving(proxy.url, tmp_path / "log") as served:
        yield served


def timed(served: Served, path: str) -> tuple[int, float]:
    started = time.monotonic()
    status, _ = served.get(path)
    return status, time.monotonic() - started


def warm_up(served: Served) -> None:
    """All connections of the app's are made and kept."""
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: served.get(RUNS)[0], range(32))) == {200}
    assert served.get("/healthz")[0] == 200


def test_requests_that_hang_leave_room_for_healthz_and_all_is_well_once_it_is_back(
    server: Served, proxy: PgProxy
) -> None:
    warm_up(server)
    proxy.swallow = lambda wire: True
    with ThreadPoolExecutor(40) as pool:
        hung = [pool.submit(timed, server, RUNS) for _ in range(24)]
        pings = []
        while not all(each.done() for each in hung):
            pings.append(timed(server, "/healthz"))
        pings.append(timed(server, "/healthz"))
    assert {status for status, _ in pings} == {503}
    assert max(seconds for _, seconds in pings) < 3.0
    found = [each.result() for each in hung]
    assert {status for status, _ in found} == {503}
    assert max(seconds for _, seconds in found) < MOST_SECONDS
    proxy.swallow = lambda wire: False
    assert timed(server, RUNS)[0] == 200
    assert timed(server, RUNS)[1] < 1.0
    wait_until(lambda: server.get("/healthz")[0] == 200, MOST_SECONDS)


def test_a_request_whose_statement_hangs_midway_is_503_and_the_next_one_works(
    proxy: PgProxy, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.database.STATEMENT_TIMEOUT_MS", 500)
    monkeypatch.setattr("alerts.db.statements.GRACE_SECONDS", 0.5)
    database = Database(proxy.url)
    started = time.monotonic()
    with pytest.raises(db.NoAnswer), database.transaction() as own:
        proxy.swallow = lambda wire: True
        db.fetch_all(own, "SELECT 1")
    assert time.monotonic() - started < 4
    proxy.swallow = lambda wire: False
    with database.transaction() as own:
        assert db.fetch_one(own, "SELECT 1 AS one") == {"one": 1}


@pytest.mark.parametrize("lost", ["swallow", "swallow_answers"])
def test_a_kept_connection_that_answers_no_more_is_replaced_within_the_request(
    proxy: PgProxy, conn: Connection, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    monkeypatch.setattr("alerts.db.statements.BEGIN_SECONDS", 0.5)
    database = Database(proxy.url)
    with database.transaction():
        pass
    silent = proxy.wires[:]
    setattr(proxy, lost, lambda wire: wire in silent)  # new connections are served
    started = time.monotonic()
    with database.transaction() as own:
        assert db.fetch_one(own, "SELECT 1 AS one") == {"one": 1}
    assert time.monotonic() - started < 3


def test_requests_that_take_their_time_wait_for_each_other(database_url: str) -> None:
    database = Database(database_url)

    def ask(_: int) -> object:
        with database.transaction() as own:
            return db.fetch_one(own, "SELECT pg_sleep(0.2)::text AS slept")

    with ThreadPoolExecutor(4 * CONNECTIONS) as pool:  # the last ones wait 0.6 s, and in line
        assert list(pool.map(ask, range(4 * CONNECTIONS))) == 4 * CONNECTIONS * [{"slept": ""}]


def test_no_more_connections_are_made_than_the_app_has(proxy: PgProxy, server: Served) -> None:
    warm_up(server)
    assert len(proxy.of("alerts-web")) <= CONNECTIONS + 1  # one for /healthz


@pytest.mark.parametrize(
    ("path", "audited"),
    [
        ("/retry_failed?kind=deliveries&since_hours=24", "retry_failed"),
        ("/pause?reason=x", "pause"),
    ],
)
def test_a_write_whose_commit_is_not_answered_is_done_once(
    proxy: PgProxy, conn: Connection, monkeypatch: pytest.MonkeyPatch, path: str, audited: str
) -> None:
    monkeypatch.setattr("app.database.STATEMENT_TIMEOUT_MS", 500)
    monkeypatch.setattr("alerts.db.statements.GRACE_SECONDS", 0.5)
    delivery = add_delivery(
        conn, add_user(conn), add_alert(conn), status="failed", attempts=1, failed_at=NOW
    )
    client = app_for(proxy.url).test_client()
    proxy.swallow_answers = lambda wire: wire.statements[-1:] == ["COMMIT"]
    assert client.post(PREFIX + path, headers=ADMIN).status_code == 503
    proxy.swallow_answers = lambda wire: False
    wait_until(lambda: query(conn, "SELECT FROM alerts_admin_actions"))
    again = client.post(PREFIX + path, headers=ADMIN)
    assert again.status_code == 200
    if audited == "retry_failed":
        assert again.get_json()["requeued"] == 0
        (row,) = query(conn, "SELECT status, attempts FROM user_alert_deliveries")
        assert row == {"status": "queued", "attempts": 1}, delivery
    else:
        assert len(query(conn, "SELECT FROM alerts_pauses")) == 1
