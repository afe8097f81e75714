"""The channels' states in the database, with several senders at once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.channels.names import SEND_CHANNELS
from alerts.failures import FailureCode
from alerts.phases.send import channel_store as store
from alerts.phases.send.channel_state import ChannelState
from tests.support.queue_world import queue_instants
from tests.support.world import NOW, add_user, query, value

C = FailureCode
SENDERS = 4
OPEN = ChannelState("email")


@pytest.fixture
def senders(database_url: str) -> Iterator[list[Connection]]:
    """Sessions of several senders."""
    found = [db.open_session(database_url, application_name="sender") for _ in range(SENDERS)]
    yield found
    for each in found:
        each.close()


def stored(conn: Connection, channel: str = "email") -> ChannelState:
    return store.read(conn)[channel]


def probe(
    conn: Connection, channel: str = "email", allowlist: list[int] | None = None
) -> ChannelState | None:
    return store.claim_probe(conn, channel, NOW, allowlist)


@pytest.fixture
def due(conn: Connection) -> None:
    """A message that could probe, on each channel."""
    for channel in SEND_CHANNELS:
        queue_instants(conn, 1, channel)


def lasts(conn: Connection, channel: str = "email") -> float:
    """Seconds from the last failure to the end of the closing."""
    text = "SELECT extract(epoch FROM closed_until - last_failure_at) FROM alerts_channel_state"
    return float(value(conn, f"{text} WHERE channel = %s", channel))


def let_time_come(conn: Connection, channel: str = "email") -> None:
    text = "UPDATE alerts_channel_state SET closed_until = clock_timestamp() WHERE channel = %s"
    db.execute(conn, text, (channel,))


def test_a_channel_that_was_never_heard_of_is_open(conn: Connection) -> None:
    found = store.read(conn)
    assert found == {}
    assert found["email"] == OPEN
    assert not found["email"].closed
    assert len(found.key) == 32
    assert abs((datetime.now(UTC) - found.at).total_seconds()) < 60


def test_closing_is_remembered_and_lengthens(conn: Connection) -> None:
    first, at = store.close(conn, OPEN, C.NETWORK, 30.0, "h")
    assert first == stored(conn)
    assert (first.code, first.failures, first.settings_hash) == (C.NETWORK, 1, "h")
    assert first.seconds_left(at) == pytest.approx(30, abs=1)
    again, _ = store.close(conn, first, C.TIMEOUT_CONNECT, 60.0, "h")
    assert (again.code, again.failures) == (C.TIMEOUT_CONNECT, 2)
    assert again.closed_since == first.closed_since
    assert lasts(conn) == pytest.approx(60, abs=1)
    assert not stored(conn, "sms").closed


def test_senders_that_meet_the_same_trouble_count_it_once(senders: list[Connection]) -> None:
    together = Barrier(SENDERS)

    def close(sender: Connection) -> int:
        together.wait()
        return store.close(sender, OPEN, C.NETWORK, 30.0, "h")[0].failures

    with ThreadPoolExecutor(SENDERS) as pool:
        assert set(pool.map(close, senders)) == {1}
    assert stored(senders[0]).failures == 1


@pytest.mark.parametrize(("late", "kept"), [(30.0, 3600), (7200.0, 7200)])
def test_a_late_failure_of_another_sender_shortens_no_wish_of_the_provider(
    senders: list[Connection], late: float, kept: int
) -> None:
    store.close(senders[0], OPEN, C.RATE_LIMITED, 3600.0, "h")
    state, at = store.close(senders[1], OPEN, C.RATE_LIMITED, late, "h")
    assert state.failures == 1
    assert state.seconds_left(at) == pytest.approx(kept, abs=2)


def test_a_late_answer_counts_as_no_closing_of_its_own(conn: Connection) -> None:
    closed, _ = store.close(conn, OPEN, C.NETWORK, 30.0, "h")
    later, at = store.close(conn, closed, C.RATE_LIMITED, 600.0, "h", late=True)
    assert (later.failures, later.code) == (1, C.RATE_LIMITED)
    assert later.seconds_left(at) == pytest.approx(600, abs=2)
    shorter, at = store.close(conn, later, C.AUTH_FAILED, 30.0, "h", late=True)
    assert (shorter.failures, shorter.code) == (1, C.AUTH_FAILED)
    assert shorter.seconds_left(at) == pytest.approx(600, abs=2)


@pytest.mark.usefixtures("due")
def test_nobody_probes_before_the_time_has_come(conn: Connection) -> None:
    assert probe(conn) is None
    store.close(conn, OPEN, C.NETWORK, 30.0, "h")
    assert probe(conn) is None
    assert stored(conn).seconds_left(store.read(conn).at) <= 30


@pytest.mark.usefixtures("due")
def test_of_several_senders_one_probes(senders: list[Connection]) -> None:
    store.close(senders[0], OPEN, C.NETWORK, 0.0, "h")
    for _ in range(5):
        let_time_come(senders[0])
        together = Barrier(SENDERS)

        def won(sender: Connection, together: Barrier = together) -> bool:
            together.wait()
            return probe(sender) is not None

        with ThreadPoolExecutor(SENDERS) as pool:
            assert sorted(pool.map(won, senders)) == [False] * (SENDERS - 1) + [True]


@pytest.mark.usefixtures("due")
def test_a_prober_that_is_killed_delays_by_two_minutes_at_most(
    database_url: str, conn: Connection
) -> None:
    store.close(conn, OPEN, C.NETWORK, 0.0, "h")
    with closing(db.open_session(database_url, application_name="killed")) as killed:
        assert probe(killed) is not None
    left = stored(conn).seconds_left(store.read(conn).at)
    assert 100 < left <= 120
    assert stored(conn).failures == 1


def test_nobody_probes_without_a_message_that_is_due(conn: Connection) -> None:
    store.close(conn, OPEN, C.NETWORK, 0.0, "h")
    queue_instants(conn, 1, "sms")
    queue_instants(conn, 1, created_at=NOW + timedelta(seconds=1))
    assert probe(conn) is None
    assert stored(conn).seconds_left(store.read(conn).at) == 0  # and the time is not moved
    queue_instants(conn, 1)
    assert probe(conn, allowlist=[10**9]) is None
    db.execute(conn, "INSERT INTO alerts_pauses VALUES ('email', 'as the test wants', now(), 'x')")
    assert probe(conn) is None
    db.execute(conn, "DELETE FROM alerts_pauses")
    assert probe(conn) is not None


@pytest.mark.usefixtures("due")
def test_a_probe_that_fails_closes_for_its_own_time(conn: Connection) -> None:
    store.close(conn, OPEN, C.NETWORK, 0.0, "h")
    probing = probe(conn)
    assert probing is not None
    store.close(conn, probing, C.NETWORK, 60.0, "h")
    assert stored(conn).failures == 2
    assert lasts(conn) == pytest.approx(60, abs=1)


@pytest.mark.usefixtures("due")
def test_a_late_failure_does_not_end_the_time_of_a_probe(senders: list[Connection]) -> None:
    store.close(senders[0], OPEN, C.NETWORK, 0.0, "h")
    assert probe(senders[0]) is not None
    state, at = store.close(senders[1], OPEN, C.NETWORK, 30.0, "h")
    assert state.failures == 1
    assert state.seconds_left(at) > 100


@pytest.mark.usefixtures("due")
def test_a_probe_without_a_message_is_given_back(conn: Connection) -> None:
    store.close(conn, OPEN, C.NETWORK, 0.0, "h")
    assert probe(conn) is not None
    store.give_probe_back(conn, "email")
    assert probe(conn) is not None


def test_opening_forgets_the_closings_in_a_row_and_keeps_the_times(conn: Connection) -> None:
    at = datetime(2026, 1, 16, tzinfo=UTC)
    closed, _ = store.close(conn, replace(OPEN, last_success_at=at), C.NETWORK, 30.0, "h")
    assert store.open_channels(conn, ["email", "sms"]) == 1
    found = stored(conn)
    assert not found.closed
    assert (found.failures, found.code, found.closed_until) == (0, None, None)
    assert (found.last_success_at, found.last_failure_at) == (at, closed.last_failure_at)
    assert store.open_channels(conn, ["email", "sms"]) == 0


def test_successes_never_go_back(conn: Connection) -> None:
    at = datetime(2026, 1, 16, tzinfo=UTC)
    store.note_success(conn, {"email": at, "sms": at})
    store.note_success(conn, {"email": at - timedelta(hours=1)})
    assert stored(conn).last_success_at == stored(conn, "sms").last_success_at == at
    assert stored(conn).has_sent
    assert not stored(conn, "telegram").has_sent


@pytest.mark.usefixtures("due")
def test_misconfigured_has_no_end_and_nobody_probes(conn: Connection) -> None:
    store.note_misconfigured(conn, ["sms"])
    found = stored(conn, "sms")
    assert found.held
    assert (found.code, found.closed_until, found.failures) == (C.MISCONFIGURED, None, 0)
    assert probe(conn, "sms") is None
    store.note_misconfigured(conn, ["sms"])
    assert stored(conn, "sms").closed_since == found.closed_since
    store.open_channels(conn, ["sms"])
    assert not stored(conn, "sms").closed


def test_switching_off_is_remembered_beside_the_rest(conn: Connection) -> None:
    store.close(conn, OPEN, C.NETWORK, 30.0, "h")
    store.note_switched_off(conn, {"email": True, "sms": True})
    store.note_switched_off(conn, {"sms": False})
    assert stored(conn).switched_off
    assert stored(conn).closed
    assert not stored(conn, "sms").switched_off


def test_hashes_tell_settings_apart_and_nothing_of_them(conn: Connection) -> None:
    key = store.read(conn).key
    assert store.hash_of(key, "a secret") == store.hash_of(key, "a secret")
    assert store.hash_of(key, "a secret") != store.hash_of(key, "another")
    assert store.hash_of(key, "a secret") != store.hash_of(bytes(32), "a secret")
    assert "secret" not in store.hash_of(key, "a secret")


def test_each_database_has_keys_of_its_own(conn: Connection) -> None:
    keys = [bytes(row["key"]) for row in query(conn, "SELECT key FROM alerts_keys")]
    assert len(set(keys)) == len(keys) >= 2
    assert all(len(key) == 32 for key in keys)


def test_keys_that_a_restore_left_out_are_made_again(conn: Connection) -> None:
    store.close(conn, OPEN, C.NETWORK, 30.0, "h")
    db.execute(conn, "DELETE FROM alerts_keys")
    found = store.read(conn)
    assert len(found.key) == len(found.signing_key) == 32
    assert found.key != found.signing_key
    assert found["email"].closed
    again = store.read(conn)
    assert (again.key, again.signing_key) == (found.key, found.signing_key)
    assert value(conn, "SELECT count(*) FROM alerts_keys") == 4


def test_an_address_is_hashed_for_its_user_and_channel(conn: Connection) -> None:
    def hashed(*values: object) -> bytes:
        return bytes(value(conn, "SELECT alerts_address_hash(%s::bigint, %s, %s)", *values))

    made = {
        hashed(1, "email", "a@example.com"), hashed(2, "email", "a@example.com"),
        hashed(1, "sms", "a@example.com"), hashed(1, "email", "b@example.com"),
    }  # fmt: skip
    assert len(made) == 4
    assert hashed(1, "email", "a@example.com") in made
    assert hashed(12, "email", "x") != hashed(1, "email", "2:x")


@pytest.mark.parametrize(
    "broken",
    ["closed_since = NULL", "code = NULL", "failures = -1", "channel = 'account'"],
)
def test_half_a_closing_is_refused(conn: Connection, broken: str) -> None:
    store.close(conn, OPEN, C.NETWORK, 30.0, "h")
    with pytest.raises(psycopg2.errors.CheckViolation):
        db.execute(conn, f"UPDATE alerts_channel_state SET {broken}")


def test_a_user_who_goes_takes_the_refused_address_along(conn: Connection) -> None:
    user = add_user(conn)
    db.execute(
        conn,
        "INSERT INTO alerts_refused_addresses VALUES (%s, 'email', '\\x00', 1, now())",
        (user,),
    )
    db.execute(conn, "DELETE FROM users WHERE id = %s", (user,))
    assert value(conn, "SELECT count(*) FROM alerts_refused_addresses") == 0
