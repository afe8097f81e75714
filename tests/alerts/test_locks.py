"""One runner at a time does a phase."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.locks import LockLost, PhaseLocks, lock_number
from alerts.phases import PHASES
from tests.support.world import query, value, wait_until

Make = Callable[[], PhaseLocks]
END_LOCKS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = 'locks'"
)


@pytest.fixture
def make(database_url: str) -> Iterator[Make]:
    made: list[PhaseLocks] = []

    def build() -> PhaseLocks:
        made.append(PhaseLocks(partial(db.open_session, database_url, application_name="locks")))
        return made[-1]

    yield build
    for locks in made:
        locks.close()


def held(conn: Connection) -> int:
    count: int = value(
        conn,
        "SELECT count(*) FROM pg_locks JOIN pg_database AS d ON d.oid = database"
        " WHERE locktype = 'advisory' AND granted AND d.datname = current_database()",
    )
    return count


def test_second_runner_does_not_get_a_held_lock(make: Make) -> None:
    first, second = make(), make()
    assert first.acquire("key")
    assert not second.acquire("key")
    assert second.acquire("other")
    first.close()
    wait_until(lambda: second.acquire("key"))


def test_lock_of_the_last_phase_is_given_back_with_the_next(make: Make, conn: Connection) -> None:
    locks, other = make(), make()
    assert locks.acquire("a")
    assert locks.acquire("b")
    assert held(conn) == 1
    assert other.acquire("a")
    assert not locks.acquire("a")  # nothing is held after a refusal either
    assert held(conn) == 1


def test_of_several_locks_the_first_free_one_is_taken_and_no_other(
    make: Make, conn: Connection
) -> None:
    keys = ("one", "two", "three")
    runners = [make() for _ in range(4)]
    assert [runner.acquire(*keys) for runner in runners] == [1, 2, 3, 0]
    assert held(conn) == 3
    assert runners[1].acquire("other") == 1  # gives its own back
    assert runners[3].acquire(*keys) == 2
    assert held(conn) == 4
    runners[0].ensure_held()


def test_locks_of_earlier_phases_can_be_kept(make: Make, conn: Connection) -> None:
    locks = make()
    assert locks.acquire("a", keep_others=True)
    assert locks.acquire("b", keep_others=True)
    assert held(conn) == 2
    assert locks.acquire("c")
    assert held(conn) == 1


def test_closing_gives_every_lock_back(make: Make, conn: Connection) -> None:
    locks = make()
    locks.acquire("a")
    locks.close()
    wait_until(lambda: held(conn) == 0)


def test_held_lock_passes_the_check_without_a_round_trip(make: Make, conn: Connection) -> None:
    locks = make()
    locks.acquire("a")
    text = (
        "SELECT query_start FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'locks'"
    )
    before = query(conn, text)
    locks.ensure_held()
    assert query(conn, text) == before


def test_end_of_the_connection_is_noticed(make: Make, conn: Connection) -> None:
    locks = make()
    locks.acquire("a")
    query(conn, END_LOCKS)

    def lost() -> bool:
        try:
            locks.ensure_held()
        except LockLost:
            return True
        return False

    wait_until(lost)
    assert lost()


def test_next_lock_after_a_lost_connection_is_taken_on_a_new_one(
    make: Make, conn: Connection
) -> None:
    locks = make()
    locks.acquire("a")
    query(conn, END_LOCKS)
    wait_until(lambda: held(conn) == 0)
    with pytest.raises(psycopg2.Error):  # a database error while locking fails the phase
        locks.acquire("b")
    assert locks.acquire("b")
    locks.ensure_held()


def test_nothing_is_held_before_the_first_lock(make: Make) -> None:
    with pytest.raises(LockLost):
        make().ensure_held()


def test_keys_are_stable_and_fit_the_lock_function() -> None:
    keys = [phase.lock_key for phase in PHASES]
    assert keys == [f"alerts_v2_phase_{letter}" for letter in "abdc"]
    numbers = [lock_number(key) for key in keys]
    assert len(set(numbers)) == 4
    assert all(-(2**63) <= number < 2**63 for number in numbers)
    # Runners of different versions must exclude each other.
    assert numbers[:2] == [-2154093782851673315, -2463820459904419210]
