"""What becomes of a row whose message did not go."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.failures import CLASS_OF, FailureClass, FailureCode
from alerts.phases.send.retry import Decision, RetryPolicy, after_failure, backoff_seconds

POLICY = RetryPolicy(max_attempts=5, base_seconds=60, max_seconds=3600, park_unknown=False)
PARKING = RetryPolicy(max_attempts=5, base_seconds=60, max_seconds=3600, park_unknown=True)
OF_CLASS = {kind: [code for code in FailureCode if CLASS_OF[code] is kind] for kind in FailureClass}
attempts_at_all = st.integers(1, 10_000)


def decide(code: FailureCode, policy: RetryPolicy = POLICY, **changed: Any) -> Decision:
    given_ = {"attempts": 1, "previous_code": None, "retry_after": None, "random": lambda: 0.0}
    return after_failure(policy, code, **{**given_, **changed})


@pytest.mark.parametrize(
    ("attempts", "seconds"), [(1, 60), (2, 120), (3, 240), (6, 1920), (7, 3600), (1000, 3600)]
)
def test_backoff_doubles_up_to_the_longest(attempts: int, seconds: float) -> None:
    assert backoff_seconds(POLICY, attempts, lambda: 0.0) == seconds


@given(attempts=attempts_at_all, random=st.floats(0, 1, exclude_max=True))
def test_jitter_adds_at_most_a_fifth(attempts: int, random: float) -> None:
    plain = min(3600, 60 * 2 ** min(attempts - 1, 40))
    assert plain <= backoff_seconds(POLICY, attempts, lambda: random) <= plain * 1.2


@given(
    attempts=attempts_at_all,
    code=st.sampled_from(OF_CLASS[FailureClass.TRANSIENT]),
    previous=st.sampled_from([None, *(code.value for code in FailureCode)]),
)
def test_transient_failures_are_retried_until_the_maximum(
    attempts: int, code: FailureCode, previous: str | None
) -> None:
    decision = decide(code, attempts=attempts, previous_code=previous)
    assert decision.status == ("queued" if attempts < 5 else "failed")


@pytest.mark.parametrize(("asked", "waits"), [(None, 60), (30.0, 60), (60.5, 60.5), (7200, 7200)])
def test_the_longer_of_backoff_and_the_providers_wish_wins(
    asked: float | None, waits: float
) -> None:
    decision = decide(FailureCode.RATE_LIMITED, retry_after=asked)
    assert decision == Decision("queued", FailureCode.RATE_LIMITED, waits)


@pytest.mark.parametrize(
    "code", [*OF_CLASS[FailureClass.RECIPIENT], *OF_CLASS[FailureClass.PAYLOAD]]
)
def test_a_hopeless_row_fails_at_once(code: FailureCode) -> None:
    assert decide(code) == Decision("failed", code)


def test_unknown_outcome_is_tried_once_more_and_then_final() -> None:
    first = decide(FailureCode.OUTCOME_UNKNOWN)
    assert (first.status, first.delay_seconds) == ("queued", 60)
    second = decide(FailureCode.OUTCOME_UNKNOWN, attempts=2, previous_code=first.failure_code.value)
    assert second == Decision("failed", FailureCode.OUTCOME_UNKNOWN)


@pytest.mark.parametrize("between", [*OF_CLASS[FailureClass.TRANSIENT], FailureCode.SENDER_LOST])
def test_unknown_outcome_is_remembered_over_what_fails_in_between(between: FailureCode) -> None:
    decision = decide(between, attempts=2, previous_code="outcome_unknown")
    assert (decision.status, decision.failure_code) == ("queued", FailureCode.OUTCOME_UNKNOWN)


def test_lost_sender_is_retried_until_the_maximum() -> None:
    found = [
        decide(FailureCode.SENDER_LOST, attempts=n, previous_code="sender_lost").status
        for n in (1, 2, 4, 5, 6)
    ]
    assert found == ["queued", "queued", "queued", "failed", "failed"]


@pytest.mark.parametrize("code", OF_CLASS[FailureClass.UNKNOWN])
def test_parking_fails_whatever_is_in_doubt_at_once(code: FailureCode) -> None:
    assert decide(code, PARKING) == Decision("failed", code)


@pytest.mark.parametrize("code", OF_CLASS[FailureClass.OPERATOR])
def test_a_row_that_pays_for_closing_its_channel_ends_at_the_maximum(code: FailureCode) -> None:
    assert decide(code).status == "queued"
    assert decide(code, attempts=5) == Decision("failed", code)


@pytest.mark.parametrize("code", OF_CLASS[FailureClass.POLICY])
def test_what_is_no_failure_of_the_row_is_refused(code: FailureCode) -> None:
    with pytest.raises(ValueError, match=code.value):
        decide(code)
