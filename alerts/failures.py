"""Failure codes: the closed set, what each class means for a row, and the errors that carry them.

Logic reads codes, never texts. An adapter raises :class:`DeliveryError` with a code of this
module; what happens to the row then follows from the code's class alone.
"""

from enum import StrEnum


class FailureClass(StrEnum):
    """What a failure says about trying again."""

    TRANSIENT = "transient"  # try later, same message
    OPERATOR = "operator"  # nothing wrong with the row: the channel is held until someone acts
    UNKNOWN = "unknown"  # the provider may or may not have taken the message
    RECIPIENT = "recipient"  # this address will never work
    PAYLOAD = "payload"  # this message will never be taken
    POLICY = "policy"  # our own decision, status "skipped"


class FailureCode(StrEnum):
    """Every value that ``failure_code`` may hold for rows of this engine."""

    TIMEOUT_CONNECT = "timeout_connect"
    NETWORK = "network"
    RATE_LIMITED = "rate_limited"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    AUTH_FAILED = "auth_failed"
    SENDER_REJECTED = "sender_rejected"
    QUOTA_PROVIDER = "quota_provider"
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
    _C.AUTH_FAILED: _K.OPERATOR,
    _C.SENDER_REJECTED: _K.OPERATOR,
    _C.QUOTA_PROVIDER: _K.OPERATOR,
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
    """The codes of one class, in the order of the enumeration."""
    return tuple(code.value for code in FailureCode if CLASS_OF[code] is failure_class)


class DeliveryError(Exception):
    """A provider did not (or not knowingly) take a message.

    Parameters
    ----------
    code: what happened; its class decides what follows.
    detail: a short line for people, e.g. ``"Brevo 400 invalid_parameter"``. It is stored in
        ``last_error`` and logged, so it must hold no address, no message text and no free text
        of the provider: only status codes and the provider's own error codes.
    retry_after: seconds the provider asked to wait, if it did; pauses the whole channel.
    """

    def __init__(self, code: FailureCode, detail: str, *, retry_after: float | None = None) -> None:
        super().__init__(f"{code.value}: {detail}")
        self.code = code
        self.detail = detail
        self.retry_after = retry_after

    @property
    def failure_class(self) -> FailureClass:
        """The class of :attr:`code`."""
        return CLASS_OF[self.code]


class PhaseFailed(Exception):
    """A phase did part of its work and must count as failed.

    ``counts`` is what it did until then; ``str(error)`` is safe to store and print.
    """

    def __init__(self, message: str, counts: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.counts: dict[str, object] = counts or {}
