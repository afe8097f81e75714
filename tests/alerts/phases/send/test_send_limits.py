"""How much a run sends, how fast, how long; and when it stops early."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from alerts.channels.base import Message
from alerts.failures import DeliveryError, FailureCode
from tests.support.queue_world import queue_instants, row_of, slow, statuses
from tests.support.world import (
    RememberingChannel,
    all_channels,
    counts_of,
    run,
    value,
)

C = FailureCode


def refused_first(code: FailureCode, retry_after: float) -> Callable[[Message], str | None]:
    """Refuses the first call and takes every later one."""
    calls: list[int] = []

    def answer(message: Message) -> str | None:
        calls.append(row_of(message))
        if len(calls) == 1:
            raise DeliveryError(code, "wait", retry_after=retry_after)
        return None

    return answer


def test_rate_limit_holds_for_its_channel_and_slows_no_other(
    conn: Connection, database_url: str
) -> None:
    queue_instants(conn, 6)
    queue_instants(conn, 60, "telegram")
    starts: list[float] = []
    ends: list[float] = []
    channels = all_channels(
        email=RememberingChannel(lambda m: starts.append(time.monotonic())),
        telegram=RememberingChannel(lambda m: ends.append(time.monotonic())),
    )
    environ = {"ALERTS_RATE_LIMIT_EMAIL_PER_MINUTE": "300"}
    before = time.monotonic()
    counts_of(run(database_url, "c", channels=channels, environ=environ), "c")
    assert len(starts) == 6
    for start in starts:  # one more than the limit: both ends of the window may hold a start
        assert sum(start <= other < start + 0.6 for other in starts) <= 4
    assert starts[-1] - before >= 1.0
    assert max(ends) < starts[-1]


def test_short_wish_to_wait_is_sat_out(conn: Connection, database_url: str) -> None:
    queue_instants(conn, 40)
    channel = RememberingChannel(refused_first(C.RATE_LIMITED, 0.5))
    environ = {"ALERTS_SEND_WORKERS": "2"}
    report = run(database_url, "c", channels=all_channels(email=channel), environ=environ)
    counts = counts_of(report, "c")
    assert counts["stopped_early"] is None
    assert counts["deliveries"]["retried"] == 1
    assert statuses(conn) == {"sent": 39, "queued": 1}
    assert report.record.duration_ms is not None
    assert report.record.duration_ms >= 500


@pytest.mark.parametrize(
    ("retry_after", "max_seconds"), [(31.0, None), (10.0, 5.0)], ids=["too long", "past deadline"]
)
def test_long_wish_to_wait_ends_the_run_as_rate_limited(
    conn: Connection, database_url: str, retry_after: float, max_seconds: float | None
) -> None:
    queue_instants(conn, 40)
    queue_instants(conn, 20, "telegram")
    channel = RememberingChannel(refused_first(C.RATE_LIMITED, retry_after))
    report = run(
        database_url,
        "c",
        channels=all_channels(email=channel),
        environ={"ALERTS_SEND_WORKERS": "1"},
        max_seconds=max_seconds,
    )
    counts = counts_of(report, "c")
    assert counts["stopped_early"] == "rate_limited"
    assert statuses(conn) == {"sent": 20, "queued": 40}
    released = value(conn, "SELECT count(*) FROM user_alert_deliveries WHERE attempts > 0")
    assert released == 21  # the 20 of the other channel and the one that was refused


def test_pause_that_ends_while_others_send_leaves_nothing_behind(
    conn: Connection, database_url: str
) -> None:
    queue_instants(conn, 7)
    queue_instants(conn, 1, "telegram")
    channels = all_channels(
        email=RememberingChannel(refused_first(C.RATE_LIMITED, 0.2)),
        telegram=RememberingChannel(slow(0.8)),
    )
    environ = {"ALERTS_SEND_WORKERS": "4"}
    counts = counts_of(run(database_url, "c", channels=channels, environ=environ), "c")
    assert statuses(conn) == {"sent": 7, "queued": 1}
    assert counts["stopped_early"] is None


@pytest.mark.parametrize(
    ("environ", "in_doubt"),
    [
        ({"ALERTS_RECORD_BATCH": "1"}, 4),
        ({"ALERTS_ON_UNKNOWN_OUTCOME": "park"}, 4),
        ({"ALERTS_RECORD_BATCH": "10"}, 13),
    ],
)
def test_messages_sent_and_not_recorded_are_bounded(
    conn: Connection, database_url: str, environ: dict[str, str], in_doubt: int
) -> None:
    """A kill at any moment leaves at most so many messages in doubt."""
    queue_instants(conn, 150)
    watching = psycopg2.connect(database_url)
    watching.autocommit = True
    lock = threading.Lock()
    started, worst = 0, 0

    def answer(message: Message) -> str | None:
        nonlocal started, worst
        with lock:
            recorded = value(
                watching, "SELECT count(*) FROM user_alert_deliveries WHERE status = 'sent'"
            )
            started += 1
            worst = max(worst, started - recorded)
        return None

    channel = RememberingChannel(answer)
    environ = {**environ, "ALERTS_SEND_WORKERS": "4"}
    counts_of(run(database_url, "c", channels=all_channels(email=channel), environ=environ), "c")
    watching.close()
    assert started == 150
    assert 1 <= worst <= in_doubt


def test_parking_claims_no_more_than_the_workers_take(conn: Connection, database_url: str) -> None:
    queue_instants(conn, 40)
    claimed: list[int] = []
    lock = threading.Lock()
    watching = psycopg2.connect(database_url)
    watching.autocommit = True

    def answer(message: Message) -> str | None:
        with lock:
            text = "SELECT count(*) FROM alerts_leased"
            claimed.append(value(watching, text))
        return None

    environ = {"ALERTS_ON_UNKNOWN_OUTCOME": "park", "ALERTS_SEND_WORKERS": "3"}
    channel = RememberingChannel(answer)
    counts_of(run(database_url, "c", channels=all_channels(email=channel), environ=environ), "c")
    watching.close()
    assert len(claimed) == 40
    assert max(claimed) <= 3
