"""What becomes of a row whose message did not go: pure decisions, no clock, no database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from alerts.failures import CLASS_OF, FailureClass, FailureCode


@dataclass(frozen=True)
class RetryPolicy:
    """The settings that bear on trying again; times in seconds."""

    max_attempts: int
    base_seconds: int
    max_seconds: int
    park_unknown: bool


@dataclass(frozen=True)
class Decision:
    """The row's next state: ``queued`` again after ``delay_seconds``, or ``failed``."""

    status: str
    failure_code: FailureCode
    delay_seconds: float | None = None


def backoff_seconds(policy: RetryPolicy, attempts: int, random: Callable[[], float]) -> float:
    """Seconds to wait after the ``attempts``-th failure: doubling, bounded, plus 0 to 20 %.

    The jitter keeps the rows of one outage from coming back at the same instant.
    """
    doublings = min(attempts - 1, 40)  # past any bound; keeps the power from growing without end
    return float(min(policy.max_seconds, policy.base_seconds * 2**doublings)) * (1 + 0.2 * random())


def after_failure(
    policy: RetryPolicy,
    code: FailureCode,
    *,
    attempts: int,
    previous_code: str | None,
    retry_after: float | None,
    random: Callable[[], float],
) -> Decision:
    """Decide over a failure that was the row's ``attempts``-th attempt.

    ``previous_code`` is what the row held before. An ``outcome_unknown`` stays on a row that
    waits, whatever fails in between: the second one is final, and nothing else remembers the
    first. A failure that closes its channel comes here only where the row pays for it.
    """
    failure_class = CLASS_OF[code]
    if failure_class is FailureClass.POLICY:
        raise ValueError(f"{code.value} is not a failure of the row")
    unknown_before = previous_code == FailureCode.OUTCOME_UNKNOWN
    final = (
        failure_class in (FailureClass.RECIPIENT, FailureClass.PAYLOAD)
        or attempts >= policy.max_attempts
        or (failure_class is FailureClass.UNKNOWN and policy.park_unknown)
        or (code is FailureCode.OUTCOME_UNKNOWN and unknown_before)
    )
    if final:
        return Decision("failed", code)
    delay = max(backoff_seconds(policy, attempts, random), retry_after or 0.0)
    return Decision("queued", FailureCode.OUTCOME_UNKNOWN if unknown_before else code, delay)
