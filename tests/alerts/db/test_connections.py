"""Connections: patient with a database that wakes up, obedient to what the address says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.db.watch import WatchedConnection
from tests.support.databases import TestServer
from tests.support.pg_proxy import PgProxy
from tests.support.waking import HalfAwake, WakingServer, silent_server
from tests.support.web import CLOSED_PORT
from tests.support.world import value


def opened(url: str, **options: float) -> float:
    """How many seconds opening a session took; it is closed again."""
    started = time.monotonic()
    db.open_session(url, application_name="alerts-test", **options).close()  # type: ignore[arg-type]
    return time.monotonic() - started


def test_session_is_in_utc_whatever_the_database_says(conn: Connection, database_url: str) -> None:
    db.execute(conn, f"ALTER DATABASE {conn.info.dbname} SET TimeZone = 'Asia/Tokyo'")
    session = db.open_session(
        database_url,
        application_name="alerts-test",
        statement_timeout_ms=1234,
        lock_timeout_ms=567,
    )
    assert value(session, "SHOW TimeZone") == "UTC"
    assert value(session, "SHOW statement_timeout") == "1234ms"
    assert value(session, "SHOW lock_timeout") == "567ms"
    assert value(session, "SHOW application_name") == "alerts-test"
    assert session.autocommit
    session.close()


def test_session_behind_a_pooler_is_refused_and_closed(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[db.Connection] = []

    class Pooled(WatchedConnection):
        def get_backend_pid(self) -> int:  # what a pooler tells is a number of its own
            opened.append(self)
            return 1

    monkeypatch.setattr(psycopg2, "connect", lambda url, **options: Pooled(url))
    with pytest.raises(db.PoolerDetected, match="DATABASE_URL"):
        db.open_session(database_url, application_name="alerts-test")
    assert opened[0].closed


# -- a database that wakes up ----------------------------------------------------------------


@pytest.mark.parametrize("how", [HalfAwake.DROPS, HalfAwake.STARTING, HalfAwake.RECOVERING])
def test_a_database_that_wakes_up_is_tried_again(database_url: str, how: HalfAwake) -> None:
    with WakingServer(database_url, how, refusals=3) as server:
        took = opened(server.url, wait_seconds=20)
        assert server.connections == 4
    assert took < 10


def test_it_is_tried_no_longer_than_the_patience_lasts(database_url: str) -> None:
    with WakingServer(database_url, HalfAwake.STARTING, refusals=1000) as server:
        started = time.monotonic()
        with pytest.raises(psycopg2.OperationalError, match="starting up"):
            opened(server.url, wait_seconds=1)
        assert 1 <= time.monotonic() - started < 4
        assert server.connections > 2


def test_without_patience_it_is_tried_once(database_url: str) -> None:
    with WakingServer(database_url, HalfAwake.DROPS, refusals=1000) as server:
        with pytest.raises(psycopg2.OperationalError):
            opened(server.url)
        assert server.connections == 1


def test_whoever_is_told_to_stop_tries_no_more(database_url: str) -> None:
    with WakingServer(database_url, HalfAwake.DROPS, refusals=1000) as server:
        with pytest.raises(psycopg2.OperationalError):
            db.open_session(
                server.url, application_name="t", wait_seconds=20, stopped=lambda: "signal"
            )
        assert server.connections == 1


def test_a_refused_connection_is_tried_again_only_for_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("alerts.db.connections._REFUSED_SECONDS", 1.0)
    started = time.monotonic()
    with pytest.raises(psycopg2.OperationalError, match="refused"):
        opened(CLOSED_PORT, wait_seconds=20)
    assert 1 <= time.monotonic() - started < 5


@pytest.mark.parametrize("change", ["/no_such_database", "user"])
def test_what_will_not_pass_is_not_waited_for(database_url: str, change: str) -> None:
    base, _, _ = database_url.rpartition("/")
    url = f"{base}{change}" if change.startswith("/") else database_url.replace("://", "://x", 1)
    started = time.monotonic()
    with pytest.raises(psycopg2.OperationalError):
        opened(url, wait_seconds=20)
    assert time.monotonic() - started < 3


# -- what the address says -------------------------------------------------------------------


def test_the_address_wins_over_our_defaults(database_url: str) -> None:
    mine = {
        "application_name": "mine",
        "connect_timeout": "17",
        "keepalives_idle": "99",
        "tcp_user_timeout": "0",
        "sslmode": "disable",
    }
    query = "&".join(f"{name}={value}" for name, value in mine.items())
    with closing(db.connect(f"{database_url}?{query}", application_name="alerts-test")) as conn:
        used = conn.info.dsn_parameters
        assert {name: used[name] for name in mine} == mine
        assert used["keepalives_count"] == "2"  # what it does not say stays ours
        assert conn.info.parameter_status("client_encoding") == "UTF8"


def test_settings_of_the_address_win_but_for_those_that_change_a_meaning(
    database_url: str,
) -> None:
    options = (
        "-c statement_timeout=7777 -c search_path=app,public -c work_mem=4MB -c TimeZone=Asia/Tokyo"
    )
    url = f"{database_url}?options={options.replace(' ', '%20').replace('=', '%3D')}"
    with closing(db.open_session(url, application_name="t", statement_timeout_ms=1234)) as conn:
        assert value(conn, "SHOW statement_timeout") == "7777ms"
        assert value(conn, "SHOW search_path") == "app,public"
        assert value(conn, "SHOW work_mem") == "4MB"
        assert value(conn, "SHOW TimeZone") == "UTC"
    with (
        closing(db.connect(url, application_name="t")) as conn,
        db.web_transaction(conn, read_only=True, statement_timeout_ms=1234),
    ):
        assert value(conn, "SHOW statement_timeout") == "7777ms"
        assert value(conn, "SHOW search_path") == "app,public"
        assert value(conn, "SHOW TimeZone") == "UTC"


@pytest.mark.slow
def test_a_host_that_hangs_yields_to_the_next_one(database_url: str) -> None:
    with closing(psycopg2.connect(database_url)) as direct:
        host, port, password = direct.info.host, direct.info.port, direct.info.password
        user, name = direct.info.user, direct.info.dbname
    with silent_server() as silent:
        url = (
            f"host=127.0.0.1,{host} port={silent},{port} user={user} password='{password}' "
            f"dbname={name} connect_timeout=2"
        )
        assert opened(url) < 6


@pytest.mark.slow
def test_a_slow_answer_is_waited_for_as_long_as_the_address_says(database_url: str) -> None:
    with closing(psycopg2.connect(database_url)) as direct:
        longer_than_two = 0.8 if direct.info.used_password else 2.2  # a password takes three trips
    with PgProxy(database_url, delay_seconds=longer_than_two) as proxy:
        with pytest.raises(psycopg2.OperationalError, match="timeout expired"):
            db.connect(proxy.url, application_name="t", connect_timeout=2)
        db.connect(
            f"{proxy.url}&connect_timeout=30", application_name="t", connect_timeout=2
        ).close()


# -- a deadline for every statement ----------------------------------------------------------


@pytest.fixture
def proxy(database_url: str) -> Iterator[PgProxy]:
    with PgProxy(database_url) as proxy:
        yield proxy


def silence(proxy: PgProxy) -> None:
    proxy.swallow = lambda wire: True


HANGS: dict[str, Callable[[WatchedConnection], object]] = {
    "a statement": lambda conn: db.execute(conn, "SELECT 1"),
    "rows": lambda conn: db.fetch_all(conn, "SELECT generate_series(1, 9)"),
    "a transaction's begin": lambda conn: db.transaction(conn).__enter__(),
    "the driver's own cursor": lambda conn: conn.cursor().execute("SELECT 1"),
}


@pytest.mark.parametrize("hangs", HANGS.values(), ids=HANGS.keys())
def test_a_statement_without_an_answer_ends_at_its_deadline(
    proxy: PgProxy, hangs: Callable[[WatchedConnection], object]
) -> None:
    with closing(db.connect(proxy.url, application_name="t", limit_seconds=0.5)) as conn:
        silence(proxy)
        started = time.monotonic()
        with pytest.raises(db.NoAnswer, match="did not answer within"):
            hangs(conn)
        assert 0.5 <= time.monotonic() - started < 3
        assert conn.closed


def test_a_transaction_that_loses_its_connection_ends_with_the_first_error(proxy: PgProxy) -> None:
    conn = db.connect(proxy.url, application_name="t", limit_seconds=0.5)
    with pytest.raises(db.NoAnswer), db.transaction(conn):  # not with that of its ROLLBACK
        silence(proxy)
        db.execute(conn, "SELECT 1")


def test_a_connection_between_statements_has_no_deadline(database_url: str) -> None:
    with closing(db.connect(database_url, application_name="t", limit_seconds=0.3)) as conn:
        time.sleep(0.9)  # three deadlines
        assert value(conn, "SELECT 1") == 1


def test_a_deadline_ends_no_other_connection(proxy: PgProxy, database_url: str) -> None:
    other = db.connect(database_url, application_name="other", limit_seconds=20)
    found: list[object] = []
    thread = threading.Thread(
        target=lambda: found.append(value(other, "SELECT pg_sleep(1.5)::text"))
    )
    with closing(db.connect(proxy.url, application_name="t", limit_seconds=0.5)) as conn:
        thread.start()
        silence(proxy)
        with pytest.raises(db.NoAnswer):
            db.execute(conn, "SELECT 1")
    thread.join()
    assert found == [""]
    other.close()


@pytest.mark.slow
def test_of_a_long_statement_the_server_is_asked_and_its_word_is_taken(
    proxy: PgProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alerts.db.watch.FIRST_LOOK_SECONDS", 0.2)
    monkeypatch.setattr("alerts.db.watch.NEXT_LOOK_SECONDS", 0.2)
    with closing(db.open_session(proxy.url, application_name="t")) as conn:
        assert value(conn, "SELECT pg_sleep(2)::text") == ""
    assert len(proxy.of("alerts-probe")) > 2


def test_an_answer_that_was_lost_is_not_waited_for(
    proxy: PgProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alerts.db.watch.FIRST_LOOK_SECONDS", 0.2)
    with closing(db.open_session(proxy.url, application_name="t")) as conn:
        proxy.swallow_answers = lambda wire: wire.application == "t"
        started = time.monotonic()
        with pytest.raises(db.NoAnswer):
            db.execute(conn, "SELECT 1")
        assert time.monotonic() - started < 5


@pytest.mark.slow
def test_a_server_that_answers_nobody_is_not_waited_for(
    proxy: PgProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alerts.db.connections._PROBE_SECONDS", 2)
    monkeypatch.setattr("alerts.db.watch.FIRST_LOOK_SECONDS", 0.2)
    with closing(db.open_session(proxy.url, application_name="t")) as conn:
        silence(proxy)
        started = time.monotonic()
        with pytest.raises(db.NoAnswer):
            db.execute(conn, "SELECT pg_sleep(60)")
        assert time.monotonic() - started < 12


@pytest.mark.slow
def test_a_server_that_is_full_is_alive(
    proxy: PgProxy, test_server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alerts.db.watch.FIRST_LOOK_SECONDS", 0.2)
    monkeypatch.setattr("alerts.db.watch.NEXT_LOOK_SECONDS", 0.2)
    with closing(db.open_session(proxy.url, application_name="t")) as session:
        with closing(db.connect(test_server.url("postgres"), application_name="admin")) as admin:
            db.execute(admin, f"ALTER DATABASE {session.info.dbname} ALLOW_CONNECTIONS false")
        assert value(session, "SELECT pg_sleep(2)::text") == ""
    assert len(proxy.wires) > 2


# -- encodings -------------------------------------------------------------------------------


def test_texts_of_a_database_without_an_encoding_are_read_sign_by_sign(
    sql_ascii_url: str,
) -> None:
    with closing(db.open_session(sql_ascii_url, application_name="t")) as conn:
        db.execute(conn, "CREATE TABLE texts (n INT, t TEXT)")
        db.execute(conn, "INSERT INTO texts VALUES (1, %s), (2, E'caf\\xe9')", ("grün 🌍",))
        rows = db.fetch_all(conn, "SELECT t FROM texts ORDER BY n")
    assert [row["t"] for row in rows] == ["grün 🌍", "caf\ufffd"]
