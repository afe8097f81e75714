"""How a run's cap is shared among channels and queues."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg2.extensions import connection as Connection

from alerts.phases.send.shares import Part, Shares
from tests.support.queue_world import add_digest, queue_instants
from tests.support.world import add_alert, add_user, all_channels, counts_of, query, run

PARTS: list[Part] = [
    ("deliveries", "email"), ("digests", "email"), ("deliveries", "telegram"),
    ("digests", "telegram"), ("deliveries", "sms"),
]  # fmt: skip


def left(shares: Shares, due: list[Part]) -> list[int]:
    return [shares.left(*part, due) for part in PARTS]


@pytest.mark.parametrize(
    ("cap", "due", "expected"),
    [
        (900, PARTS, [240, 300, 240, 300, 300]),
        (900, [("deliveries", "email")], [900, 900, 0, 0, 0]),
        (900, PARTS[:2], [720, 900, 0, 0, 0]),
        (900, [PARTS[0], PARTS[4]], [450, 450, 0, 0, 450]),
        (5, [PARTS[0], PARTS[2], PARTS[4]], [2, 2, 2, 2, 2]),
        (1, PARTS, [1, 1, 1, 1, 1]),
        (900, [], [0, 0, 0, 0, 0]),
    ],
)
def test_channels_that_have_rows_due_get_the_same(
    cap: int, due: list[Part], expected: list[int]
) -> None:
    assert left(Shares(cap), due) == expected


def test_what_one_does_not_need_is_the_others() -> None:
    shares = Shares(900)
    shares.use("deliveries", "sms", 100)
    assert shares.left("deliveries", "sms", PARTS) == 200
    due = PARTS[:4]  # no more sms
    assert left(shares, due) == [320, 400, 320, 400, 0]
    shares.use("digests", "email", 80)
    assert shares.left("deliveries", "email", due) == 320


@given(
    st.integers(1, 60),
    st.lists(st.integers(0, 80), min_size=5, max_size=5),
    st.randoms(use_true_random=False),
)
def test_the_cap_is_used_up_where_enough_is_due_and_nobody_starves(cap, waiting, random) -> None:  # type: ignore[no-untyped-def]
    shares, left_over = Shares(cap), dict(zip(PARTS, waiting, strict=True))
    while due := [part for part, rows in left_over.items() if rows]:
        moved = 0
        for part in random.sample(due, len(due)):
            rows = min(left_over[part], shares.left(*part, due), random.randint(1, 9))
            shares.use(*part, rows)
            left_over[part] -= rows
            moved += rows
        if not moved:
            break
    assert shares.used.total() == min(cap, sum(waiting))
    channels = {name for _, name in PARTS}
    for name in channels:
        asked = sum(n for part, n in zip(PARTS, waiting, strict=True) if part[1] == name)
        got = sum(rows for (_, other), rows in shares.used.items() if other == name)
        assert got >= min(asked, cap // 3)


def test_many_old_mails_starve_neither_sms_nor_digests(conn: Connection, database_url: str) -> None:
    queue_instants(conn, 500)
    queue_instants(conn, 12, "sms")
    queue_instants(conn, 100, "telegram")
    for _ in range(40):
        add_digest(conn, add_user(conn), [add_alert(conn)])
    environ = {"ALERTS_MAX_SEND_PER_RUN": "100", "ALERTS_SEND_WORKERS": "2"}
    counts = counts_of(run(database_url, "c", channels=all_channels(), environ=environ), "c")
    assert counts["stopped_early"] == "cap"
    sent = {
        row["channel"]: row["n"]
        for row in query(
            conn,
            "SELECT channel, count(*) AS n FROM user_alert_deliveries WHERE status = 'sent'"
            " GROUP BY channel",
        )
    }
    assert sum(sent.values()) + counts["digests"]["sent"] == 100
    assert sent["sms"] == 12
    assert sent["telegram"] == 44
    assert sent["email"] + counts["digests"]["sent"] == 44
    assert counts["digests"]["sent"] >= 8
