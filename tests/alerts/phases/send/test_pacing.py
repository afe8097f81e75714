"""The claim size follows the time that claims take to send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.phases.send import pacing
from alerts.phases.send.pacing import Pace


class Watch:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    found = Watch()
    monkeypatch.setattr(pacing, "time", found)
    return found


def send(pace: Pace, watch: Watch, seconds: float) -> int:
    """One claim of the current size that takes so long; the size after it."""
    rows = pace.size
    pace.claimed(rows)
    watch.now += seconds
    pace.sent(rows)
    return pace.size


@pytest.mark.parametrize(
    ("seconds", "size"), [(0.0, 32), (0.5, 32), (0.6, 16), (2.0, 16), (2.1, 8), (60.0, 8)]
)
def test_size_doubles_within_half_a_second_and_halves_past_two(
    watch: Watch, seconds: float, size: int
) -> None:
    assert send(Pace(16, 200), watch, seconds) == size


def test_size_stays_between_one_and_the_largest(watch: Watch) -> None:
    pace = Pace(16, 50)
    assert [send(pace, watch, 0.1) for _ in range(3)] == [32, 50, 50]
    assert [send(pace, watch, 9) for _ in range(8)][-3:] == [1, 1, 1]


def test_a_batch_smaller_than_the_first_size_bounds_it() -> None:
    assert Pace(16, 7).size == 7


def test_size_changes_only_when_the_measured_claim_is_sent_whole(watch: Watch) -> None:
    pace = Pace(4, 100)
    pace.claimed(4)
    watch.now += 0.1
    pace.sent(3)
    assert pace.size == 4
    pace.sent(1)
    assert pace.size == 8


def test_claim_during_a_measurement_does_not_restart_it(watch: Watch) -> None:
    pace = Pace(4, 100)
    pace.claimed(4)
    watch.now += 2.5
    pace.claimed(4)
    pace.sent(4)
    assert pace.size == 2


def test_rows_that_nobody_measured_change_nothing(watch: Watch) -> None:
    pace = Pace(4, 100)
    pace.sent(10)
    assert pace.size == 4


@given(size=st.integers(1, 200), waiting=st.integers(0, 400))
def test_room_refills_the_line_once_half_of_it_has_gone(size: int, waiting: int) -> None:
    room = Pace(size, 200).room(waiting)
    assert room == (size - waiting if waiting <= size // 2 else 0)
    assert room + waiting <= max(size, waiting)
