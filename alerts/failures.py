"""The closed set of failure codes, what each class means for a row, and the errors with codes.

Logic depends on codes, never on message text. An adapter raises :class:`DeliveryError` with one of
these codes, and the code's class alone determines what happens to the row.
"""

from enum import StrEnum


class FailureClass(StrEnum):
    """Whether, and under which conditions, a retry makes sense."""

    TRANSIENT = "transient"  # retry the same message later
    OPERATOR = "operator"  # the row is fine: the channel is held until someone acts
    UNKNOWN = "unknown"  # the provider may or may not have accepted the message
    RECIPIENT = "recipient"  # this address will never work
    PAYLOAD = "payload"  # this message will never be accepted
    POLICY = "policy"  # our own decision, status "skipped"


class FailureCode(StrEnum):
    """Every ``failure_code`` that this engine writes."""

    TIMEOUT_CONNECT = "timeout_connect"
    NETWORK = "network"
    RATE_LIMITED = "rate_limited"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    POLICY_REFUSED = "policy_refused"
    AUTH_FAILED = "auth_failed"
    SENDER_REJECTED = "sender_rejected"
    QUOTA_PROVIDER = "quota_provider"
    ACCOUNT_LIMITED = "account_limited"
    UNEXPECTED_ANSWER = "unexpected_answer"
    REFUSALS_IN_A_ROW = "refusals_in_a_row"
    MISCONFIGURED = "misconfigured"
    OUTCOME_UNKNOWN = "outcome_unknown"
    SENDER_LOST = "sender_lost"
    RECIPIENT_INVALID = "recipient_invalid"
    RECIPIENT_BLOCKED = "recipient_blocked"
    PAYLOAD_INVALID = "payload_invalid"
    CHANNEL_NOT_CONFIGURED = "channel_not_configured"
    MISSING_DESTINATION = "missing_destination"
    BATCHED_INTO_DIGEST = "batched_into_digest"
    EXPIRED = "expired"
    CHANNEL_DISABLED = "channel_disabled"


_C, _K = FailureCode, FailureClass
CLASS_OF: dict[FailureCode, FailureClass] = {
    _C.TIMEOUT_CONNECT: _K.TRANSIENT,
    _C.NETWORK: _K.TRANSIENT,
    _C.RATE_LIMITED: _K.TRANSIENT,
    _C.PROVIDER_UNAVAILABLE: _K.TRANSIENT,
    _C.POLICY_REFUSED: _K.TRANSIENT,
    _C.AUTH_FAILED: _K.OPERATOR,
    _C.SENDER_REJECTED: _K.OPERATOR,
    _C.QUOTA_PROVIDER: _K.OPERATOR,
    _C.ACCOUNT_LIMITED: _K.OPERATOR,
    _C.UNEXPECTED_ANSWER: _K.OPERATOR,
    _C.REFUSALS_IN_A_ROW: _K.OPERATOR,
    _C.MISCONFIGURED: _K.OPERATOR,
    _C.OUTCOME_UNKNOWN: _K.UNKNOWN,
    _C.SENDER_LOST: _K.UNKNOWN,
    _C.RECIPIENT_INVALID: _K.RECIPIENT,
    _C.RECIPIENT_BLOCKED: _K.RECIPIENT,
    _C.PAYLOAD_INVALID: _K.PAYLOAD,
    _C.CHANNEL_NOT_CONFIGURED: _K.POLICY,
    _C.MISSING_DESTINATION: _K.POLICY,
    _C.BATCHED_INTO_DIGEST: _K.POLICY,
    _C.EXPIRED: _K.POLICY,
    _C.CHANNEL_DISABLED: _K.POLICY,
}


def codes_of(failure_class: FailureClass) -> tuple[str, ...]:
    """Return the codes of one class, in enum order."""
    return tuple(code.value for code in FailureCode if CLASS_OF[code] is failure_class)


# With these codes no message gets through on the channel for now.
_OF_THE_CHANNEL = (_C.TIMEOUT_CONNECT, _C.NETWORK, _C.RATE_LIMITED)


class DeliveryError(Exception):
    """A provider did not accept a message, or may not have.

    Parameters
    ----------
    code: what happened; its class decides what happens next.
    detail: a short line for people, e.g. ``"Brevo 400 invalid_parameter"``. It is stored in
        ``last_error`` and logged, so it must hold no address, no message text and no free text
        of the provider: only status codes and the provider's own error codes.
    retry_after: seconds the provider asked to wait, if it did; pauses the whole channel.
    handed_over: the whole message had left, and the answer does not say what became of it. The
        provider may have taken it, whatever else the code says of the channel.
    concerns_channel: nothing of this message had been said yet; a few codes always mean that.
    concerns_recipient: one recipient is put off, as greylisting does; it says nothing of others.
    """

    def __init__(
        self,
        code: FailureCode,
        detail: str,
        *,
        retry_after: float | None = None,
        handed_over: bool = False,
        concerns_channel: bool = False,
        concerns_recipient: bool = False,
    ) -> None:
        super().__init__(f"{code.value}: {detail}")
        self.code = code
        self.detail = detail
        self.retry_after = retry_after
        self.handed_over = handed_over
        self.concerns_channel = concerns_channel or code in _OF_THE_CHANNEL
        self.concerns_recipient = concerns_recipient

    @property
    def failure_class(self) -> FailureClass:
        return CLASS_OF[self.code]


class PhaseFailed(Exception):
    """A phase did part of its work and must count as failed.

    ``counts`` covers the work done until then; ``str(error)`` is safe to store and print.
    """

    def __init__(self, message: str, counts: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.counts: dict[str, object] = counts or {}
