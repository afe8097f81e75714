"""Judging an answer: whatever comes, it is believed or it is a coded failure."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from alerts.channels import brevo, resend, telegram, twilio
from alerts.channels.transport.answers import Answer, Raw, judge
from alerts.failures import DeliveryError
from alerts.failures import FailureCode as Code

SHAPES = {module.__name__: module.SHAPE for module in (brevo, resend, telegram, twilio)}
ALL = pytest.mark.parametrize("name", SHAPES)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["id", "sid", "status", "code", "message", "name", "ok", "error_code",
                         "result", "messageId", "parameters"]) | st.text(max_size=3),
        inner, max_size=4),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode())  # fmt: skip


def judged(name: str, raw: Raw) -> Answer | DeliveryError:
    try:
        return judge("Someone", "SOME_API_BASE", SHAPES[name], raw)
    except DeliveryError as error:
        return error


@ALL
@given(status=st.integers(100, 999), body=st.binary(max_size=60) | JSON, whole=st.booleans())
@example(status=200, body=b"[" * 60_000, whole=True)
@example(status=200, body=b"{" * 60_000, whole=True)
@example(status=200, body=b'{"id": ' + b"9" * 10_000 + b"}", whole=True)
def test_any_answer_is_believed_or_a_coded_failure(
    name: str, status: int, body: bytes, whole: bool
) -> None:
    found = judged(name, Raw(status, {}, body, whole))
    if isinstance(found, DeliveryError):
        assert found.handed_over
        assert found.code in (Code.UNEXPECTED_ANSWER, Code.OUTCOME_UNKNOWN)
    elif found.taken and not found.fields:
        assert 200 <= status < 300
    elif found.taken:
        assert SHAPES[name].taken(found.fields)
    elif found.fields:
        assert SHAPES[name].refused(found.fields)
    else:
        assert status >= 500 or status in (408, 421, 425, 429)


@ALL
@given(status=st.integers(200, 599), body=st.text(max_size=40).map(str.encode))
def test_what_is_no_object_is_never_believed(name: str, status: int, body: bytes) -> None:
    found = judged(name, Raw(status, {}, b"<" + body))
    assert isinstance(found, DeliveryError)
    assert found.code is Code.UNEXPECTED_ANSWER
