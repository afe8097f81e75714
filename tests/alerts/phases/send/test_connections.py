"""The phase's connections: how many there are, and what one that ends costs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.channels.base import Message
from alerts.engine import RunReport
from alerts.phases.send import sender
from scripts.dev.database import Cluster, create_database
from tests.support import CHECKOUT
from tests.support.pg_proxy import PgProxy
from tests.support.queue_world import (
    add_digest,
    assert_each_in_its_place,
    lapse,
    places,
    queue_instants,
    row_of,
    slow,
    statuses,
)
from tests.support.world import (
    RememberingChannel,
    add_alert,
    add_user,
    all_channels,
    query,
    run,
    value,
)

SESSIONS = "SELECT application_name AS name FROM pg_stat_activity" \
    " WHERE datname = current_database() AND application_name LIKE 'alerts-%%'"  # fmt: skip


def end_sessions(url: str, name: str) -> None:
    """Ends the sessions of that name, and waits until they have ended."""
    with psycopg2.connect(url) as conn, conn.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = %s",
            (name,),
        )
    conn.close()


def send(url: str, channel: RememberingChannel, **environ: str) -> RunReport:
    return run(url, "c", channels=all_channels(email=channel), environ=environ)


# How many


def test_a_small_run_needs_no_connection_for_claims(conn: Connection, database_url: str) -> None:
    queue_instants(conn, 10)
    with PgProxy(database_url) as proxy:
        assert send(proxy.url, RememberingChannel()).record.status == "success"
        assert not proxy.of("alerts-claims")
        assert len(proxy.wires) == 3


def test_a_large_run_claims_beside_its_recording_on_a_fourth_connection(
    conn: Connection, database_url: str
) -> None:
    queue_instants(conn, 300)
    with PgProxy(database_url) as proxy:
        channel = RememberingChannel(slow(0.001))
        assert send(proxy.url, channel).record.status == "success"
        assert len(proxy.of("alerts-claims")) == 1
        assert len(proxy.wires) == 4
    assert statuses(conn) == {"sent": 300}
    assert len({row_of(message) for message in channel.sent}) == len(channel.sent) == 300


def test_without_a_further_connection_claims_go_by_the_first(
    conn: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue_instants(conn, 200)
    opened = db.open_session

    def refuse(url: str, *, application_name: str, **options: object) -> Connection:
        if application_name == "alerts-claims":
            raise psycopg2.OperationalError("too many connections")
        return opened(url, application_name=application_name, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(db, "open_session", refuse)
    channel = RememberingChannel(slow(0.001))
    assert send(database_url, channel).record.status == "success"
    assert len(channel.sent) == 200
    assert statuses(conn) == {"sent": 200}


# One that ends


def once(act: Callable[[], None], at: int) -> Callable[[Message], str | None]:
    """Answers; the so-manyeth message acts before it does."""
    calls, lock = 0, threading.Lock()

    def answer(message: Message) -> str | None:
        nonlocal calls
        with lock:
            calls += 1
            if calls == at:
                act()
        return None

    return answer


@pytest.mark.parametrize("record_batch", ["1", "200"])
def test_what_was_sent_is_recorded_when_the_engines_connection_ends(
    conn: Connection, database_url: str, record_batch: str
) -> None:
    queue_instants(conn, 60)
    channel = RememberingChannel(once(lambda: end_sessions(database_url, "alerts-engine"), 30))
    report = send(database_url, channel, ALERTS_RECORD_BATCH=record_batch)
    assert report.record.status == "failed"
    assert_nothing_is_in_doubt(conn, channel)
    assert send(database_url, channel).record.status == "success"
    assert len({row_of(message) for message in channel.sent}) == len(channel.sent) == 60


def assert_nothing_is_in_doubt(conn: Connection, channel: RememberingChannel) -> None:
    """What was sent is recorded so, the rest waits in the queue."""
    sent = {row_of(message) for message in channel.sent}
    stored = query(conn, "SELECT id FROM user_alert_deliveries WHERE status = 'sent'")
    assert {row["id"] for row in stored} == sent
    assert places(conn)[1] == []
    assert value(conn, "SELECT count(*) FROM user_alert_deliveries WHERE attempts > 1") == 0
    assert_each_in_its_place(conn)


def test_digests_that_were_sent_are_recorded_too(conn: Connection, database_url: str) -> None:
    for _ in range(20):
        add_digest(conn, add_user(conn), [add_alert(conn)])
    channel = RememberingChannel(once(lambda: end_sessions(database_url, "alerts-engine"), 10))
    assert send(database_url, channel).record.status == "failed"
    found = statuses(conn, "user_alert_digests")
    assert found.get("sent") == len(channel.sent)
    assert "sending" not in found


def test_when_the_connection_for_claims_ends_nothing_is_sent_twice(
    conn: Connection, database_url: str
) -> None:
    queue_instants(conn, 200)
    channel = RememberingChannel(once(lambda: end_sessions(database_url, "alerts-claims"), 60))
    send(database_url, channel)
    assert "alerts-claims" not in {row["name"] for row in query(conn, SESSIONS)}
    lapse(conn)
    sent = len(channel.sent)
    assert statuses(conn)["sent"] == sent
    report = send(database_url, channel)
    ids = [row_of(message) for message in channel.sent]
    assert len(ids) == len(set(ids))
    # What a claim held that nobody heard of is in doubt, as if its run had been killed.
    assert len(ids) + report.record.counts["c"]["deliveries"]["rescued"] == 200


def test_a_lease_that_lapsed_before_the_new_connection_records_nothing(
    conn: Connection, database_url: str
) -> None:
    queue_instants(conn, 10)

    def fail() -> None:
        lapse(conn)
        end_sessions(database_url, "alerts-engine")

    report = send(database_url, RememberingChannel(once(fail, 1)), ALERTS_SEND_WORKERS="1")
    assert report.record.status == "failed"
    assert statuses(conn) == {"sending": 2, "queued": 8}


def test_a_database_that_does_not_come_back_ends_the_run(
    conn: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "RECONNECT_SECONDS", 0.5)
    queue_instants(conn, 10)
    opened, ended = db.open_session, threading.Event()

    def refuse(url: str, *, application_name: str, **options: object) -> Connection:
        if ended.is_set():
            raise psycopg2.OperationalError("the database system is shutting down")
        return opened(url, application_name=application_name, **options)  # type: ignore[arg-type]

    def fail() -> None:
        ended.set()
        end_sessions(database_url, "alerts-engine")

    monkeypatch.setattr(db, "open_session", refuse)
    assert send(database_url, RememberingChannel(once(fail, 1))).record.status == "failed"
    assert statuses(conn)["sending"] > 0


# A server that restarts


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A server of its own."""
    made = Cluster("restarted", CHECKOUT / ".dev" / "db")
    yield made
    made.stop()


def test_what_was_sent_is_recorded_after_the_server_has_restarted(cluster: Cluster) -> None:
    from alerts.migrations import migrate

    server = cluster.ensure()
    admin = psycopg2.connect(server.url())
    admin.autocommit = True
    db.execute(admin, "DROP DATABASE IF EXISTS restarted")  # of an earlier run
    admin.close()
    create_database(server.url(), "restarted")
    url = server.url("restarted")
    migrate(url)
    conn = psycopg2.connect(url)
    conn.autocommit = True
    queue_instants(conn, 60)
    conn.close()

    def restart() -> None:
        cluster.stop()
        assert cluster.ensure().url("restarted") == url

    channel = RememberingChannel(once(restart, 30))
    report = send(url, channel)
    assert report.record.status == "failed"
    conn = psycopg2.connect(url)
    conn.autocommit = True
    assert_nothing_is_in_doubt(conn, channel)
    assert send(url, channel).record.status == "success"
    assert len({row_of(message) for message in channel.sent}) == len(channel.sent) == 60
    conn.close()
