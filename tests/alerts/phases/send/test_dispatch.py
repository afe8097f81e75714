"""The sending threads: limits, holds, pauses, calls that do not return."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from alerts.channels.base import Message
from alerts.failures import DeliveryError, FailureCode
from alerts.phases.send.claims import Claim
from alerts.phases.send.dispatch import GRACE_SECONDS, Dispatcher, Result
from tests.support.queue_world import row_of
from tests.support.world import (
    RememberingChannel,
    wait_until,
)

Answer = Callable[[Message], str | None]


def job(row: int, channel: str = "email") -> Claim:
    return Claim("deliveries", 1, row, 1, channel, 0, None, "0", 1, "x")


def jobs(rows: range, channel: str = "email") -> list[Claim]:
    return [job(row, channel) for row in rows]


def message_of(claim: Claim) -> Message:
    return Message(key=f"deliveries-{claim.id}-0", destination="x", text="text")


class Calls:
    """Calls under way that wait to be let go."""

    def __init__(self) -> None:
        self.begun = 0
        self._lock = threading.Lock()

    def wait_for(self, release: threading.Event, seconds: float) -> str:
        with self._lock:
            self.begun += 1
        return str(release.wait(seconds))


class Harness:
    """A dispatcher and the phase's side of it."""

    def __init__(
        self,
        answers: dict[str, Answer | None],
        render: Callable[[Claim], Message] = message_of,
        **options: Any,
    ) -> None:
        self.channels = {name: RememberingChannel(answer) for name, answer in answers.items()}
        defaults: dict[str, Any] = {
            "workers": 4,
            "record_batch": 200,
            "rate_limits_per_minute": {},
            "call_seconds": 10,
        }
        self.dispatcher = Dispatcher(self.channels, render, **{**defaults, **options})
        self.results: list[Result] = []

    def take(self) -> None:
        found = self.dispatcher.take_results(0.02)
        self.results += found
        self.dispatcher.recorded(len(found))

    def finish(self) -> list[Result]:
        wait_until(lambda: self.take() or self.dispatcher.idle)
        return self.results


@pytest.fixture
def make() -> Iterator[Callable[..., Harness]]:
    made: list[Harness] = []

    def build(answers: dict[str, Answer | None] | None = None, **options: Any) -> Harness:
        made.append(Harness(answers or {"email": None, "telegram": None}, **options))
        return made[-1]

    yield build
    for harness in made:
        harness.dispatcher.close()


def test_every_job_gives_one_result(make: Callable[..., Harness]) -> None:
    harness = make()
    harness.dispatcher.add(jobs(range(300)))
    assert sorted(r.claim.id for r in harness.finish()) == list(range(300))
    assert all(r.error is None and r.message_id for r in harness.results)


def test_calls_run_side_by_side_up_to_the_number_of_workers(make: Callable[..., Harness]) -> None:
    together = threading.Barrier(4)
    harness = make({"email": lambda message: str(together.wait(10))})
    harness.dispatcher.add(jobs(range(8)))
    assert len(harness.finish()) == 8


def test_a_late_job_does_not_wait_for_a_busy_worker(make: Callable[..., Harness]) -> None:
    release, calls = threading.Event(), Calls()
    harness = make({"email": lambda message: calls.wait_for(release, 20), "telegram": None})
    harness.dispatcher.add([job(1)])
    wait_until(lambda: calls.begun == 1)
    harness.dispatcher.add([job(2, "telegram")])
    wait_until(lambda: harness.channels["telegram"].sent, 5)
    release.set()
    harness.finish()


def test_a_text_that_cannot_be_rendered_costs_its_row_only(make: Callable[..., Harness]) -> None:
    def broken(claim: Claim) -> Message:
        if claim.id == 1:
            raise KeyError("someone@example.com")
        return message_of(claim)

    harness = make(render=broken)
    harness.dispatcher.add([job(1), job(2)])
    found = {r.claim.id: r.error for r in harness.finish()}
    assert found[1] is not None
    assert found[1].code is FailureCode.PAYLOAD_INVALID
    assert "example.com" not in str(found[1])
    assert found[2] is None


def test_a_bug_of_an_adapter_is_an_unknown_outcome(make: Callable[..., Harness]) -> None:
    def bug(message: Message) -> str | None:
        raise RuntimeError("someone@example.com")

    harness = make({"email": bug})
    harness.dispatcher.add([job(1)])
    (result,) = harness.finish()
    assert result.error is not None
    assert result.error.code is FailureCode.OUTCOME_UNKNOWN
    assert "example.com" not in str(result.error)


def test_an_operator_failure_holds_its_channel_and_no_other(make: Callable[..., Harness]) -> None:
    def refuse(message: Message) -> str | None:
        raise DeliveryError(FailureCode.AUTH_FAILED, "401")

    harness = make({"email": refuse, "telegram": None}, workers=1)
    harness.dispatcher.add(jobs(range(10)))
    harness.dispatcher.add(jobs(range(10, 20), "telegram"))
    wait_until(lambda: harness.take() or len(harness.channels["telegram"].sent) == 10)
    assert [claim.id for claim in harness.dispatcher.withdraw("email")] == list(range(1, 10))
    refused = [r.claim.id for r in harness.finish() if r.error]
    assert refused == [0]


@pytest.mark.parametrize(
    "error",
    [
        DeliveryError(FailureCode.RATE_LIMITED, "429", retry_after=0.4),
        DeliveryError(FailureCode.NETWORK, "refused"),
        DeliveryError(FailureCode.PROVIDER_UNAVAILABLE, "421", concerns_channel=True),
        DeliveryError(FailureCode.PROVIDER_UNAVAILABLE, "503", retry_after=9.0),
    ],
    ids=str,
)
def test_what_concerns_the_channel_stops_it_until_the_phase_opens_it(
    make: Callable[..., Harness], error: DeliveryError
) -> None:
    def first_refused(message: Message) -> str | None:
        if row_of(message) == 0:
            raise error
        return None

    harness = make({"email": first_refused, "telegram": None}, workers=1)
    dispatcher = harness.dispatcher
    dispatcher.add(jobs(range(3)))
    wait_until(lambda: dispatcher.lanes["email"].shut)
    dispatcher.open("email")  # not before the result has been looked at
    assert dispatcher.lanes["email"].shut
    dispatcher.add(jobs(range(3, 6), "telegram"))
    wait_until(lambda: len(harness.channels["telegram"].sent) == 3)
    harness.take()
    assert len(harness.channels["email"].sent) == 0
    dispatcher.open("email")
    harness.finish()
    assert len(harness.channels["email"].sent) == 2


def test_rate_limit_spaces_the_starts_of_its_channel_only(make: Callable[..., Harness]) -> None:
    starts: list[float] = []
    harness = make(
        {"email": lambda m: starts.append(time.monotonic()), "telegram": None},
        rate_limits_per_minute={"email": 600, "telegram": None},
    )
    before = time.monotonic()
    harness.dispatcher.add([*jobs(range(6)), *jobs(range(6, 60), "telegram")])
    wait_until(lambda: harness.take() or len(harness.channels["telegram"].sent) == 54)
    assert len(starts) < 6
    harness.finish()
    assert starts[-1] - before >= 0.5


def test_a_call_that_never_returns_is_given_up_and_the_others_go_on(
    make: Callable[..., Harness],
) -> None:
    release = threading.Event()
    hanging = {0, 1, 2, 3}

    def hang(message: Message) -> str | None:
        if row_of(message) in hanging:
            release.wait(60)
        return "late"

    harness = make({"email": hang}, call_seconds=0.3 - GRACE_SECONDS)
    harness.dispatcher.add(jobs(range(20)))
    found = {r.claim.id: r for r in harness.finish()}
    assert len(found) == len(harness.results) == 20
    for row in hanging:
        error = found[row].error
        assert error is not None
        assert error.code is FailureCode.OUTCOME_UNKNOWN
    assert all(found[row].error is None for row in range(4, 20))
    release.set()  # whatever the lost threads still bring is dropped
    harness.dispatcher.add(jobs(range(20, 30)))
    harness.finish()
    assert sorted(r.claim.id for r in harness.results) == list(range(30))


def test_lost_threads_are_replaced_for_later_jobs(make: Callable[..., Harness]) -> None:
    release = threading.Event()
    harness = make(
        {"email": lambda message: str(release.wait(60)) if row_of(message) < 4 else None},
        call_seconds=0.2 - GRACE_SECONDS,
    )
    harness.dispatcher.add(jobs(range(4)))
    assert len(harness.finish()) == 4
    harness.dispatcher.add(jobs(range(4, 10)))
    assert len(harness.finish()) == 10
    release.set()


def test_no_more_than_the_allowed_results_wait_to_be_recorded(
    make: Callable[..., Harness],
) -> None:
    harness = make(workers=3, record_batch=1)
    harness.dispatcher.add(jobs(range(30)))
    taken = 0
    while taken < 30:
        results = harness.dispatcher.take_results(5)
        sent = len(harness.channels["email"].sent)
        assert sent - taken <= 3
        taken += len(results)
        harness.dispatcher.recorded(len(results))


def test_giving_up_calls_ends_what_does_not_answer_in_time(make: Callable[..., Harness]) -> None:
    release, calls = threading.Event(), Calls()
    harness = make({"email": lambda message: calls.wait_for(release, 60)})
    harness.dispatcher.add(jobs(range(2)))
    wait_until(lambda: calls.begun == 2)
    started = time.monotonic()
    harness.dispatcher.give_up_calls(0.2)
    assert [r.error and r.error.code for r in harness.finish()] == [FailureCode.OUTCOME_UNKNOWN] * 2
    assert time.monotonic() - started < 5
    release.set()


def test_threads_end_with_the_dispatcher() -> None:
    before = set(threading.enumerate())
    harness = Harness({"email": None})
    harness.dispatcher.add(jobs(range(50)))
    harness.finish()
    harness.dispatcher.close()
    wait_until(lambda: not (set(threading.enumerate()) - before))


@pytest.mark.parametrize("senders", [1, 2, 5])
def test_senders_share_a_rate_limit_and_take_turns(
    make: Callable[..., Harness], senders: int
) -> None:
    """Together they keep it also where they start at the same time, evenly spaced."""
    limit = {"email": 600}  # a turn each 100 ms
    before = time.monotonic()
    lanes = [
        make({"email": None}, rate_limits_per_minute=limit, sender=n + 1, senders=senders)
        .dispatcher.lanes["email"]
        for n in range(senders)
    ]  # fmt: skip
    assert {round(lane.seconds_between, 6) for lane in lanes} == {round(0.1 * senders, 6)}
    for place, lane in enumerate(lanes):
        assert 0 <= lane.next_start - before - 0.1 * place < 0.05 * senders


def test_channels_without_a_limit_wait_for_no_turn(make: Callable[..., Harness]) -> None:
    harness = make({"email": None}, sender=5, senders=5)
    assert harness.dispatcher.lanes["email"].next_start <= time.monotonic()
