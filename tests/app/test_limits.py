"""Limits on requests: so many at once, then evenly, and no memory without bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import limits
from app.limits import Limit


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_so_many_at_once_and_then_one_for_each_share_of_the_time() -> None:
    clock = Clock()
    limit = Limit(6, 60.0, clock)
    assert [limit.wait("a") for _ in range(6)] == 6 * [0.0]
    assert limit.wait("a") == pytest.approx(10.0)
    assert limit.wait("b") == 0.0
    clock.now += 10.0
    assert limit.wait("a") == 0.0
    assert limit.wait("a") == pytest.approx(10.0)
    clock.now += 3_600.0
    assert [limit.wait("a") for _ in range(6)] == 6 * [0.0]


@given(st.integers(1, 50), st.lists(st.floats(0, 30), max_size=200))
def test_no_window_lets_more_than_twice_the_number_through(most: int, pauses: list[float]) -> None:
    clock = Clock()
    limit = Limit(most, 60.0, clock)
    passed: list[float] = []
    for pause in pauses:
        clock.now += pause
        wait = limit.wait("a")
        assert 0 <= wait <= 60.0 / most + 1e-6
        if wait == 0.0:
            passed.append(clock.now)
    for start in passed:
        assert sum(start <= each < start + 60.0 for each in passed) <= 2 * most


def test_quietest_keys_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_KEYS", 3)
    clock = Clock()
    limit = Limit(1, 60.0, clock)
    for key in ("a", "b", "c"):
        assert limit.wait(key) == 0.0
    clock.now += 60.0
    assert limit.wait("a") == 0.0
    assert limit.wait("d") == 0.0  # and b is forgotten
    assert len(limit._used_until) == 3
    assert limit.wait("a") > 0
