"""The closed set of codes, and the errors that carry them."""

import pytest

from alerts.failures import CLASS_OF, DeliveryError, FailureCode

C = FailureCode


def test_every_code_has_a_class() -> None:
    assert set(CLASS_OF) == set(FailureCode)


@pytest.mark.parametrize("code", FailureCode)
def test_what_cannot_be_reached_or_asks_to_wait_concerns_the_channel(code: FailureCode) -> None:
    always = code in (C.TIMEOUT_CONNECT, C.NETWORK, C.RATE_LIMITED)
    assert DeliveryError(code, "as the test wants").concerns_channel is always
    assert DeliveryError(code, "as the test wants", concerns_channel=True).concerns_channel


def test_a_message_counts_as_handed_over_only_where_that_is_said() -> None:
    assert not DeliveryError(C.UNEXPECTED_ANSWER, "before anything was sent").handed_over
