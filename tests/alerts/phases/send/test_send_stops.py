"""When the send phase stops early, and what it leaves behind."""

from __future__ import annotations

import threading
import time

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.channels.base import Message
from alerts.engine import Hooks, RunReport, RunRequest, run_engine
from alerts.phases import Stop
from tests.support.queue_world import delivery, queue_instants, row_of, slow, statuses
from tests.support.world import (
    NOW,
    RememberingChannel,
    all_channels,
    counts_of,
    query,
    run,
    settings_for,
    value,
    wait_until,
)


def test_deadline_releases_what_has_not_started_without_an_attempt(
    conn: Connection, database_url: str
) -> None:
    queue_instants(conn, 60)
    channel = RememberingChannel(slow(0.3))
    started = time.monotonic()
    report = run(
        database_url,
        "c",
        channels=all_channels(email=channel),
        environ={"ALERTS_SEND_WORKERS": "4"},
        max_seconds=1.0,
    )
    counts = counts_of(report, "c")
    assert time.monotonic() - started < 5
    assert counts["stopped_early"] == "deadline"
    assert counts["deliveries"]["released"] > 0
    assert 0 < counts["deliveries"]["sent"] < 60
    assert set(statuses(conn)) == {"sent", "queued"}
    left = query(conn, "SELECT * FROM user_alert_deliveries WHERE status = 'queued'")
    assert {(r["attempts"], r["failure_code"]) for r in left} == {(0, None)}
    assert value(conn, "SELECT count(*) FROM alerts_send_queue") == len(left)
    assert query(conn, "SELECT * FROM alerts_leases") == []
    assert counts["deliveries"]["claimed"] == sum(
        counts["deliveries"][name] for name in ("sent", "released")
    )


def test_call_that_never_returns_is_given_up_while_others_go_on(
    conn: Connection, database_url: str
) -> None:
    rows = queue_instants(conn, 40)
    release = threading.Event()
    sent_meanwhile: list[int] = []

    def answer(message: Message) -> str | None:
        if row_of(message) == rows[0]:
            release.wait(60)
        else:
            sent_meanwhile.append(row_of(message))
        return None

    channel = RememberingChannel(answer)
    environ = {"ALERTS_PROVIDER_TIMEOUT_SECONDS": "1", "ALERTS_SEND_WORKERS": "2"}
    started = time.monotonic()
    report = run(database_url, "c", channels=all_channels(email=channel), environ=environ)
    assert 3.0 <= time.monotonic() - started < 10
    release.set()
    assert len(sent_meanwhile) == 39
    counts = counts_of(report, "c")["deliveries"]
    assert (counts["sent"], counts["retried"]) == (39, 1)
    assert delivery(conn, rows[0])["failure_code"] == "outcome_unknown"


def stopped_run(
    database_url: str, channels: dict[str, RememberingChannel], stop: Stop
) -> RunReport:
    request = RunRequest(phase="c", now=NOW)
    return run_engine(settings_for(database_url), request, Hooks(channels=channels, stop=stop))


def test_stop_signal_releases_claims_and_waits_for_calls_under_way(
    conn: Connection, database_url: str
) -> None:
    queue_instants(conn, 60)
    stop, all_under_way, lock = Stop(), threading.Barrier(8), threading.Lock()

    def answer(message: Message) -> str | None:
        all_under_way.wait(20)
        stop.signalled.set()
        with lock:  # it answers once what has not started has been given back
            wait_until(lambda: statuses(conn)["sending"] <= 8, 4)
        return None

    report = stopped_run(database_url, all_channels(email=RememberingChannel(answer)), stop)
    counts = report.record.counts["c"]
    assert counts["stopped_early"] == "signal"
    assert counts["deliveries"]["sent"] == 8
    assert counts["deliveries"]["released"] == counts["deliveries"]["claimed"] - 8
    assert statuses(conn) == {"sent": 8, "queued": 52}


def test_stop_signal_gives_up_calls_that_do_not_answer(conn: Connection, database_url: str) -> None:
    queue_instants(conn, 1)
    stop, release = Stop(), threading.Event()

    def answer(message: Message) -> str | None:
        stop.signalled.set()
        release.wait(60)
        return None

    started = time.monotonic()
    stopped_run(database_url, all_channels(email=RememberingChannel(answer)), stop)
    release.set()
    assert 4.0 <= time.monotonic() - started < 5.0
    rows = query(conn, "SELECT status, failure_code FROM user_alert_deliveries")
    assert rows == [{"status": "queued", "failure_code": "outcome_unknown"}]


def test_error_of_the_database_loses_no_outcome_that_can_still_be_recorded(
    conn: Connection, database_url: str
) -> None:
    """A claim that fails (here on a lock's timeout) ends the phase, not what it knows."""
    queue_instants(conn, 30)
    db.execute(conn, FAIL_CLAIMS_AFTER_THE_FIRST)
    channel = RememberingChannel(slow(0.2))
    report = run(
        database_url,
        "c",
        channels=all_channels(email=channel),
        environ={"ALERTS_SEND_WORKERS": "4"},
    )
    assert report.record.status == "failed"
    assert statuses(conn) == {"sent": len(channel.sent), "queued": 30 - len(channel.sent)}


FAIL_CLAIMS_AFTER_THE_FIRST = """
CREATE TABLE claims_done (n INT);
CREATE FUNCTION refuse_claim() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM claims_done) THEN
        RAISE lock_not_available;
    END IF;
    INSERT INTO claims_done VALUES (1);
    RETURN NULL;
END
$$;
CREATE TRIGGER refuse_claim AFTER INSERT ON alerts_leases
FOR EACH ROW EXECUTE FUNCTION refuse_claim();
"""


def test_claims_are_renewed_while_a_run_lives(
    conn: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alerts.phases.send import sender

    monkeypatch.setattr(sender, "RENEW_SECONDS", 0.1)
    (row,) = queue_instants(conn, 1)
    done = threading.Event()
    channel = RememberingChannel(lambda message: str(done.wait(30)))
    thread = threading.Thread(
        target=run, args=(database_url, "c"), kwargs={"channels": all_channels(email=channel)}
    )
    thread.start()
    wait_until(lambda: delivery(conn, row)["status"] == "sending")
    first = delivery(conn, row)["claimed_until"]
    wait_until(lambda: delivery(conn, row)["claimed_until"] > first)
    done.set()
    thread.join(20)
