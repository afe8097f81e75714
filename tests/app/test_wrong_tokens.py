"""Wrong tokens are answered ever more slowly, per address; the right one never is."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app import wrong_tokens
from app.wrong_tokens import FREE, LONGEST_SECONDS, MOST_ADDRESSES, MOST_WAITING, WrongTokens
from tests.support.gunicorn import Served, serving
from tests.support.web import ADMIN, CLOSED_PORT, PREFIX, TOKEN, app_for

RUNS = f"{PREFIX}/runs"


class Waits:
    """Stands for sleeping."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def test_the_first_few_cost_nothing_then_each_costs_twice_the_one_before() -> None:
    waits = Waits()
    table = WrongTokens(waits)
    for _ in range(FREE):
        table.slow_down("a")
    assert waits.seconds == []
    for _ in range(50):
        table.slow_down("a")
    assert waits.seconds[:4] == [0.1, 0.2, 0.4, 0.8]
    assert waits.seconds[-1] == max(waits.seconds) == LONGEST_SECONDS


def test_each_address_has_its_own_count() -> None:
    waits = Waits()
    table = WrongTokens(waits)
    for number in range(100):
        table.slow_down(f"10.0.0.{number}")
    assert waits.seconds == []


def test_the_table_is_bounded_and_forgets_the_oldest() -> None:
    waits = Waits()
    table = WrongTokens(waits)
    for _ in range(FREE):
        table.slow_down("first")
    for number in range(MOST_ADDRESSES * 3):
        table.slow_down(str(number))
    assert len(table._found) == MOST_ADDRESSES
    table.slow_down("first")
    assert waits.seconds == []


def test_an_address_that_stopped_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    waits, now = Waits(), [1000.0]
    monkeypatch.setattr(wrong_tokens.time, "monotonic", lambda: now[0])
    table = WrongTokens(waits)
    for _ in range(10):
        table.slow_down("a")
    found = len(waits.seconds)
    now[0] += wrong_tokens.FORGOTTEN_SECONDS + 1
    table.slow_down("a")
    assert len(waits.seconds) == found


def test_few_answers_are_held_back_at_a_time() -> None:
    over, waiting = threading.Event(), threading.Semaphore(0)

    def wait(seconds: float) -> None:
        waiting.release()
        assert over.wait(30)

    table = WrongTokens(wait)
    for _ in range(FREE):
        table.slow_down("a")
    with ThreadPoolExecutor(MOST_WAITING) as pool:
        held = [pool.submit(table.slow_down, "a") for _ in range(MOST_WAITING)]
        for _ in held:
            assert waiting.acquire(timeout=30)
        table.slow_down("a")  # at once, since as many wait as may
        assert not any(each.done() for each in held)
        over.set()


def test_neither_a_missing_token_nor_the_right_one_counts(database_url: str) -> None:
    app = app_for(database_url)
    app.extensions["alerts_wrong_tokens"] = table = WrongTokens(Waits())
    client = app.test_client()
    for _ in range(10):
        assert client.get(RUNS).status_code == 401
        assert client.get(RUNS, headers=ADMIN).status_code == 200
    assert not table._found
    assert client.get(RUNS, headers={"x-internal-token": "wrong"}).status_code == 401
    assert list(table._found) == ["127.0.0.1"]


def test_wrong_tokens_of_one_address_do_not_concern_another() -> None:
    app, waits = app_for(CLOSED_PORT), Waits()
    app.extensions["alerts_wrong_tokens"] = WrongTokens(waits)
    for address in ("10.0.0.1", "::1"):
        for _ in range(FREE):
            response = app.test_client().get(
                RUNS, headers={"x-internal-token": "x"}, environ_base={"REMOTE_ADDR": address}
            )
            assert response.status_code == 401
    assert waits.seconds == []


@pytest.fixture
def server(database_url: str, tmp_path: Path) -> Iterator[Served]:
    with serving(database_url, tmp_path / "log", INTERNAL_RUNNER_TOKEN=TOKEN) as served:
        yield served


def test_who_guesses_over_the_wire_waits_and_nobody_else_does(server: Served) -> None:
    def guess(number: int) -> int:
        return server.request("GET", RUNS, token=f"guess-{number}")[0]

    for number in range(FREE + 3):
        started = time.monotonic()
        assert guess(number) == 401
    assert time.monotonic() - started >= 0.4
    with ThreadPoolExecutor(40) as pool:
        guesses = pool.map(guess, range(120))
        for _ in range(10):
            started = time.monotonic()
            assert server.request("GET", RUNS, token=TOKEN)[0] == 200
            assert server.get("/healthz")[0] == 200
            assert time.monotonic() - started < 3
        assert set(guesses) == {401}
