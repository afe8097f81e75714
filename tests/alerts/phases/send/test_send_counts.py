"""Whatever happens to its rows, the send phase accounts for all of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.channels.base import Message
from alerts.failures import CLASS_OF, DeliveryError, FailureClass, FailureCode
from tests.support.queue_world import add_digest, row_of, statuses
from tests.support.world import (
    NOW,
    RememberingChannel,
    add_alert,
    add_delivery,
    add_user,
    run,
)

OUTCOMES = st.sampled_from(
    [None, None, "bug", *(c for c in FailureCode if CLASS_OF[c] is not FailureClass.POLICY)]
)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    outcomes=st.lists(OUTCOMES, min_size=1, max_size=40),
    kinds=st.lists(st.integers(0, 9), min_size=40, max_size=40),
    cap=st.integers(1, 60),
    record_batch=st.sampled_from([1, 3, 200]),
    park=st.booleans(),
)
def test_claimed_is_always_the_sum_of_what_became_of_it(
    test_world: Callable[[], str],
    outcomes: list[FailureCode | str | None],
    kinds: list[int],
    cap: int,
    record_batch: int,
    park: bool,
) -> None:
    database_url = test_world()
    conn = db.connect(database_url, application_name="test")
    _add_rows(conn, len(outcomes), kinds)

    def answer(message: Message) -> str | None:
        outcome = outcomes[row_of(message) % len(outcomes)]
        if isinstance(outcome, FailureCode):
            raise DeliveryError(outcome, "drawn")
        if outcome == "bug":
            raise RuntimeError
        return None

    channels = {name: RememberingChannel(answer) for name in ("email", "telegram")}
    environ = {
        "ALERTS_MAX_SEND_PER_RUN": str(cap),
        "ALERTS_RECORD_BATCH": str(record_batch),
        "ALERTS_ON_UNKNOWN_OUTCOME": "park" if park else "resend",
    }
    report = run(database_url, "c", channels=channels, environ=environ)
    counts = report.record.counts["c"]
    for table, name in (("user_alert_deliveries", "deliveries"), ("user_alert_digests", "digests")):
        tally = counts[name]
        assert tally["claimed"] == sum(
            n for key, n in tally.items() if key not in ("claimed", "rescued")
        )
        found = statuses(conn, table)
        assert "sending" not in found
        assert found.get("sent", 0) == tally["sent"]
        assert found.get("failed", 0) == tally["failed"]
    conn.close()


def _add_rows(conn: Connection, count: int, kinds: list[int]) -> None:
    """Rows of every sort: instants of each channel, digests, stale ones, without address."""
    for number in range(count):
        kind = kinds[number]
        user = add_user(
            conn, "pro", email=None if kind == 9 else "x@example.com", telegram="1", phone="1"
        )
        if kind < 6:
            channel = ("email", "email", "email", "telegram", "telegram", "sms")[kind]
            add_delivery(conn, user, add_alert(conn), channel)
        elif kind == 6:
            add_delivery(conn, user, add_alert(conn), created_at=NOW - timedelta(days=9))
        else:
            add_digest(conn, user, [add_alert(conn)], "telegram" if kind == 7 else "email")


@pytest.fixture
def test_world(conn: Connection, database_url: str) -> Callable[[], str]:
    """The test's database, emptied at each call."""

    def emptied() -> str:
        db.execute(conn, "TRUNCATE users, alert_events, alerts_engine_runs CASCADE")
        return database_url

    return emptied
