"""A real primary and its standby: nobody works on the wrong one, and a failover is found."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from alerts import db
from alerts.preflight import preflight
from tests.support.pg_proxy import PgProxy
from tests.support.run_world import whole_world
from tests.support.standby import Pair, replicated
from tests.support.web import ADMIN, PREFIX, app_for
from tests.support.world import NOW, all_channels, query, run, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with replicated() as pair:
        with closing(db.connect(pair.primary_url, application_name="t")) as conn:
            whole_world(conn)
        pair.follow()
        yield pair


REQUESTS = [("GET", "/runs"), ("GET", "/health"), ("POST", "/retry_failed?kind=deliveries")]


@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_a_kept_connection_that_leads_to_a_standby_is_replaced_once(
    pair: Pair, method: str, path: str
) -> None:
    with PgProxy(pair.standby_url) as proxy:
        client = app_for(proxy.url).test_client()
        answer = client.open(PREFIX + path, method=method, headers=ADMIN)
        assert answer.status_code == 503  # rather than what a standby remembers
        proxy.lead_to(pair.primary_url)
        assert len(proxy.wires) >= 1  # one of them is kept
        answer = client.open(PREFIX + path, method=method, headers=ADMIN)
        assert answer.status_code == 200
        made = len(proxy.wires)
        assert client.open(PREFIX + path, method=method, headers=ADMIN).status_code == 200
        assert len(proxy.wires) == made


@pytest.mark.parametrize(
    ("attributes", "status"),
    [("any", 200), ("standby", 200), ("prefer-standby", 200), ("read-write", 503)],
)
def test_a_standby_that_the_operator_asks_for_is_read(
    pair: Pair, attributes: str, status: int
) -> None:
    url = f"{pair.standby_url}?target_session_attrs={attributes}"
    client = app_for(url).test_client()
    assert client.get(f"{PREFIX}/runs", headers=ADMIN).status_code == status
    assert client.post(f"{PREFIX}/pause?reason=x", headers=ADMIN).status_code == 503


def test_of_several_hosts_the_primary_is_taken(pair: Pair) -> None:
    servers = (pair.standby, pair.primary)
    hosts = ",".join(f"{server.host}:{server.port}" for server in servers)
    url = pair.primary_url.replace(f"{pair.primary.host}:{pair.primary.port}", hosts)
    with closing(db.open_session(url, application_name="t")) as conn:
        assert conn.info.port == pair.primary.port
    assert app_for(url).test_client().get(f"{PREFIX}/runs", headers=ADMIN).status_code == 200


def test_preflight_names_a_standby(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "WAKE_SECONDS", 0.0)
    report = preflight({"DATABASE_URL": pair.standby_url})
    assert [finding.id for finding in report.errors] == ["standby_server"]


def test_a_run_that_finds_only_a_standby_fails_by_name(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "WAKE_SECONDS", 1.0)
    started = time.monotonic()
    report = run(pair.standby_url)
    assert (report.record.status, report.recorded) == ("failed", False)  # it is in the spool
    assert "standby" in (report.record.error_summary or "")
    assert time.monotonic() - started < 10


def test_a_run_waits_for_the_failover_and_does_its_work_once(pair: Pair) -> None:
    """Last of the module: it makes the standby a primary and ends the old one."""
    channels = all_channels()
    found: list[Any] = []
    with PgProxy(pair.standby_url) as proxy:
        thread = threading.Thread(target=lambda: found.append(run(proxy.url, channels=channels)))
        thread.start()
        wait_until(lambda: len(proxy.of("alerts-engine")) > 1)  # it has been refused and waits
        pair.stop_primary()
        pair.promote()
        thread.join(60)
        again = run(proxy.url, channels=channels, now=NOW)
    (report,) = found
    assert (report.record.status, report.recorded) == ("success", True), report.record.error_summary
    assert again.record.status == "success"
    assert again.record.counts["b"]["deliveries_created"] == 0
    keys = [(name, m.key) for name, channel in channels.items() for m in channel.sent]
    assert keys and len(keys) == len(set(keys))
    with closing(db.connect(pair.standby_url, application_name="t")) as conn:
        runs = query(conn, "SELECT status FROM alerts_engine_runs")
    assert [row["status"] for row in runs] == ["success", "success"]
