"""When a channel closes, for how long, who tries it again and what opens it: pure rules.

What is wrong with a channel is not paid by its messages. No clock and no database here; times are
wall time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from alerts.failures import CLASS_OF, DeliveryError, FailureClass, FailureCode

FIRST_SECONDS = 30.0
LONGEST_SECONDS = 900.0
LONGEST_ASKED_SECONDS = 86_400.0  # what a provider may ask for
SAT_OUT_SECONDS = 30.0  # a run waits for a channel that opens so soon, if nothing else is due
PROBE_SECONDS = 120  # within which whoever probes says what came of it, or another one may
UNAVAILABLE_IN_A_ROW, UNAVAILABLE_DOMAINS = 5, 3
REFUSED_USERS_IN_A_ROW = 10

_ANSWERED = (FailureClass.RECIPIENT, FailureClass.PAYLOAD)
_UNAVAILABLE = (FailureCode.PROVIDER_UNAVAILABLE, FailureCode.POLICY_REFUSED)


@dataclass(frozen=True)
class ChannelState:
    """What is remembered of a channel from run to run.

    Closed is one with ``closed_since``: for ``code``, until ``closed_until`` at least (None: until
    a run finds the cause gone). ``failures`` are its closings in a row.
    """

    channel: str
    closed_since: datetime | None = None
    closed_until: datetime | None = None
    code: FailureCode | None = None
    failures: int = 0
    last_success_at: datetime | None = None
    last_failure_at: datetime | None = None
    settings_hash: str | None = None  # of the settings that it closed with
    switched_off: bool = False
    detail: str | None = None  # of what closed it, for people

    @property
    def closed(self) -> bool:
        """Whether only a probe may be sent."""
        return self.closed_since is not None

    @property
    def held(self) -> bool:
        """Whether somebody has to act."""
        return self.closed and self.code is not None and is_operators(self.code)

    @property
    def has_sent(self) -> bool:
        """Whether it has ever worked."""
        return self.last_success_at is not None

    def seconds_left(self, now: datetime) -> float:
        """Until it may be probed."""
        if self.closed_until is None:
            return 0.0
        return max(0.0, (self.closed_until - now).total_seconds())


def is_operators(code: FailureCode) -> bool:
    """Whether the code holds its channel until somebody acts, and fails the run."""
    return CLASS_OF[code] is FailureClass.OPERATOR


def wait_seconds(failures: int, retry_after: float | None = None) -> float:
    """For how long the ``failures``-th closing in a row closes."""
    doubled = FIRST_SECONDS * 2.0 ** min(max(failures, 1) - 1, 40)
    asked = min(retry_after or 0.0, LONGEST_ASKED_SECONDS)
    return max(min(doubled, LONGEST_SECONDS), asked)


def closes(error: DeliveryError, *, probing: bool) -> bool:
    """Whether a failure concerns the channel.

    So does a wish to wait. A probe leaves it closed unless its answer was about the message: what
    may have been taken (no answer came) does not open it either.
    """
    if error.failure_class is FailureClass.OPERATOR or error.concerns_channel:
        return True
    if error.retry_after and error.failure_class is FailureClass.TRANSIENT:
        return not error.concerns_recipient
    return probing and not opens(error)


def opens(error: DeliveryError | None) -> bool:
    """Whether a probe's result says that the channel works; None: the message was taken."""
    return error is None or error.failure_class in _ANSWERED or error.concerns_recipient


def costs_attempt(*, closed_before: bool, success_since: bool) -> bool:
    """Whether the row that closes its channel pays for it: it is not the channel, where others
    got through since the row closed it the last time."""
    return closed_before and success_since


def closed_before(failure_code: str | None) -> bool:
    """Whether a queued row with this code has closed its channel before.

    A row that waits after an unknown outcome keeps that code whatever follows, so it counts as one
    that has.
    """
    return failure_code in _LEFT_BY_CLOSING


_LEFT_BY_CLOSING = frozenset(
    code.value
    for code in FailureCode
    if is_operators(code)
    or code
    in (
        FailureCode.TIMEOUT_CONNECT,
        FailureCode.NETWORK,
        FailureCode.RATE_LIMITED,
        FailureCode.OUTCOME_UNKNOWN,
    )
)


def digests_first(failures: int) -> bool:
    """Whether a probe looks for a digest before an instant message: each second time, so that
    one bad row among the instant ones keeps no digest waiting."""
    return failures % 2 == 1


def domain_of(channel: str, destination: str) -> str:
    """Who takes the message in the end: the domain of an email, else the recipient's address."""
    return destination.rpartition("@")[2].lower() if channel == "email" else destination


@dataclass
class Streaks:
    """What a channel's results in a row say, though none of them says it alone."""

    _unavailable: list[str] = field(default_factory=list)  # domains
    _refused: set[int] = field(default_factory=set)  # users

    def after(self, user_id: int, domain: str, error: DeliveryError | None) -> FailureCode | None:
        """Take in a result; the code to close the channel with, if it is time to."""
        if error is None:
            self._unavailable.clear()
            self._refused.clear()
            return None
        if error.failure_class in _ANSWERED:
            self._unavailable.clear()
            self._refused.add(user_id)
            return self._enough_refusals()
        if error.code in _UNAVAILABLE and not error.concerns_recipient:
            self._unavailable.append(domain)
            return self._long_enough(error.code)
        return None

    def _enough_refusals(self) -> FailureCode | None:
        if len(self._refused) < REFUSED_USERS_IN_A_ROW:
            return None
        self._refused.clear()
        return FailureCode.REFUSALS_IN_A_ROW

    def _long_enough(self, code: FailureCode) -> FailureCode | None:
        in_a_row = self._unavailable
        if len(in_a_row) < UNAVAILABLE_IN_A_ROW or len(set(in_a_row)) < UNAVAILABLE_DOMAINS:
            return None
        in_a_row.clear()
        return code
