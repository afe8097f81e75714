"""A failover while a run is under way: the run ends in order, the next one finishes its work."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.channels.base import Message
from tests.support.pg_proxy import PgProxy
from tests.support.queue_world import lapse, queue_instants, row_of, statuses
from tests.support.run_world import phase_statuses, whole_world
from tests.support.standby import Pair, replicated
from tests.support.web import ADMIN, PREFIX, app_for
from tests.support.world import NOW, RememberingChannel, all_channels, query, run, value, wait_until

pytestmark = pytest.mark.slow

# What each phase writes first: while another session holds it, the phase is under way.
WAITS_FOR = {"a": "alert_events", "b": "user_alert_deliveries", "d": "user_alert_digests"}
WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name = 'alerts-engine' AND wait_event_type = 'Lock'"
)
WEB_SECONDS = 5.0


@pytest.fixture(scope="module")
def servers() -> Iterator[Pair]:
    with replicated() as pair:
        yield pair


@pytest.fixture
def pair(servers: Pair) -> Pair:
    """A primary with a standby; the test ends the one and promotes the other."""
    if servers.promoted:
        servers.replace_primary()
    return servers


class Place:
    """A database of one test, on both servers."""

    def __init__(self, pair: Pair, name: str, spool: Path) -> None:
        pair.copy_database(name)
        self.pair, self.name = pair, name
        self.url = pair.url(name)
        self.channels = all_channels()
        self.environ = {"ALERTS_RUN_SPOOL": str(spool / "spool.jsonl")}
        self.web = app_for(self.url).test_client()

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        with closing(db.open_session(self.url, application_name="t")) as conn:
            yield conn

    def run(self, phase: str = "all", **request: Any) -> Any:
        return run(self.url, phase, channels=self.channels, environ=self.environ, **request)

    def fail_over(self) -> None:
        """And look how soon the web app, which keeps a connection, answers again."""
        assert self._answers()
        self.pair.fail_over()
        promoted = time.monotonic()
        wait_until(self._answers)
        assert time.monotonic() - promoted < WEB_SECONDS

    def _answers(self) -> bool:
        answer = self.web.get(f"{PREFIX}/runs", headers=ADMIN)
        assert answer.status_code in (200, 503)
        return answer.status_code == 200


@pytest.mark.parametrize("letter", list(WAITS_FOR))
def test_in_a_phase_of_one_transaction_it_loses_nothing(
    pair: Pair, letter: str, tmp_path: Path
) -> None:
    place = Place(pair, f"phase_{letter}", tmp_path)
    with place.connected() as conn:
        whole_world(conn)
    with closing(psycopg2.connect(pair.primary.url(place.name))) as holder:
        db.execute(holder, f"LOCK TABLE {WAITS_FOR[letter]} IN SHARE ROW EXCLUSIVE MODE")
        with ThreadPoolExecutor(1) as pool, place.connected() as conn:
            begun = pool.submit(place.run)
            wait_until(lambda: value(conn, WAITING) == 1)
            place.fail_over()
            report = begun.result(60)
    assert report.record.status == "failed"
    assert phase_statuses(report)[letter] == "failed"
    with place.connected() as conn:
        lapse(conn)
        again = place.run()
        assert again.record.status == "success", again.record.error_summary
        recorded = query(conn, "SELECT run_id, status FROM alerts_engine_runs ORDER BY id")
        assert [row["status"] for row in recorded] == ["failed", "success"]
        assert recorded[0]["run_id"] == report.record.run_id  # from the spool or at once
        assert_all_was_done(conn, place.channels)
        third = place.run()
        assert third.record.counts["b"]["deliveries_created"] == 0
        assert third.record.counts["c"]["deliveries"]["claimed"] == 0


def assert_all_was_done(conn: Connection, channels: dict[str, RememberingChannel]) -> None:
    """Every alert of the risk data is there and fanned out, and every message went out once."""
    waiting = "SELECT count(*) FROM alert_events WHERE fanout_completed_at IS NULL"
    assert value(conn, f"{waiting} AND created_at > %s", NOW - timedelta(days=1)) == 0
    assert value(conn, "SELECT count(*) FROM alert_events WHERE event_fingerprint ~ ':'") == 2
    keys = Counter((name, message.key) for name, channel in channels.items()
                   for message in channel.sent)  # fmt: skip
    assert set(keys.values()) == {1}
    sent = 0
    for table in ("user_alert_deliveries", "user_alert_digests"):
        text = f"SELECT count(*) FROM {table} WHERE status = 'sent' AND channel <> 'account'"
        sent += value(conn, text)
    assert len(keys) == sent > 5


class Steps(RememberingChannel):
    """Takes messages one after the other; before some of them something happens."""

    def __init__(self, before: dict[int, Any]) -> None:
        super().__init__(self._step)
        self._before = before
        self._begun = 0

    def _step(self, message: Message) -> None:
        self._begun += 1
        self._before.get(self._begun, lambda: None)()


def test_while_it_sends_to_a_synchronous_standby_nothing_is_in_doubt(
    pair: Pair, tmp_path: Path
) -> None:
    """What was recorded stays; what is under way the run records on the new primary."""
    place = Place(pair, "phase_c", tmp_path)
    workers, crashed = 4, threading.Event()
    place.environ |= {"ALERTS_SEND_WORKERS": str(workers)}
    calls: list[int] = []

    def answer(message: Message) -> None:
        calls.append(row_of(message))
        if len(calls) > 12:
            assert crashed.wait(30)

    place.channels = all_channels(email=RememberingChannel(answer))
    pair.set_synchronous(on=True)
    with place.connected() as conn:
        queue_instants(conn, 60)
        with ThreadPoolExecutor(1) as pool:
            begun = pool.submit(place.run, "c")
            wait_until(lambda: len(calls) == 12 + workers and statuses(conn).get("sent") == 12)
            place.fail_over()
            crashed.set()
            report = begun.result(60)
    with place.connected() as conn:
        assert report.record.status == "failed"
        assert 12 + workers <= statuses(conn)["sent"] == len(calls)
        finish(place, conn, 60)
    assert set(handed_over(place).values()) == {1}


def test_while_it_sends_and_the_standby_lags_what_it_lacks_is_sent_again(
    pair: Pair, tmp_path: Path
) -> None:
    """Nobody is left out. What the standby knew to be sent stays sent."""
    place = Place(pair, "phase_c_lagging", tmp_path)
    place.environ |= {"ALERTS_SEND_WORKERS": "1", "ALERTS_RECORD_BATCH": "1"}
    crash, crashed = threading.Event(), threading.Event()

    def cut_off() -> None:
        pair.follow()
        pair.cut_off_standby()

    def end() -> None:
        crash.set()
        assert crashed.wait(30)

    place.channels = all_channels(email=Steps({11: cut_off, 21: end}))
    with place.connected() as conn:
        ids = queue_instants(conn, 30)
        with ThreadPoolExecutor(1) as pool:
            begun = pool.submit(place.run, "c", batch_size=1)
            assert crash.wait(30)
            place.fail_over()
            crashed.set()
            begun.result(60)
    with place.connected() as conn:
        assert statuses(conn)["sent"] == 10  # of 20 that were recorded
        finish(place, conn, 30)
    times = handed_over(place)
    assert set(times) == set(ids)
    assert [times[row] for row in ids] == [1] * 10 + [2] * 11 + [1] * 9


def test_the_web_app_leaves_a_primary_that_has_gone_silent(pair: Pair) -> None:
    """Nothing refuses it: packets to the old host are dropped, on kept and on new connections."""
    with PgProxy(pair.primary_url) as proxy:
        ours = proxy.url.rpartition("@")[2].partition("/")[0]
        host = f"{pair.primary.host}:{pair.primary.port},"
        web = app_for(pair.url().replace(host, f"{ours},") + "&sslmode=disable").test_client()
        assert web.get(f"{PREFIX}/runs", headers=ADMIN).status_code == 200
        assert len(proxy.wires) == 1
        proxy.swallow = lambda wire: True
        pair.promote()
        started = time.monotonic()
        assert web.get(f"{PREFIX}/runs", headers=ADMIN).status_code == 200
        assert time.monotonic() - started < WEB_SECONDS


def handed_over(place: Place) -> Counter[int]:
    return Counter(row_of(message) for message in place.channels["email"].sent)


def finish(place: Place, conn: Connection, rows: int) -> None:
    """The runs that follow, once the leases of the first have lapsed."""
    lapse(conn)
    for minutes in (0, 10):
        report = place.run("c", now=NOW + timedelta(minutes=minutes))
        assert report.record.status == "success", report.record.error_summary
    assert statuses(conn) == {"sent": rows}
