"""Reading how long a provider asks to wait."""

import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.channels.transport.retry_after import LONGEST_WAIT_SECONDS, seconds, wait_asked_for


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("0", None),
        ("-3", None),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("999999", LONGEST_WAIT_SECONDS),
        ("9" * 400, LONGEST_WAIT_SECONDS),
        ("inf", LONGEST_WAIT_SECONDS),
        ("-inf", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", None),
        ("Wed, 99 Foo 2015 77:28:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_WAIT_SECONDS),
    ],
)
def test_header_is_a_sane_wait_or_none(value: str, wait: float | None) -> None:
    assert wait_asked_for({"retry-after": value}) == wait


def test_date_is_the_time_until_then() -> None:
    headers = {"retry-after": formatdate(time.time() + 120, usegmt=True)}
    assert wait_asked_for(headers) == pytest.approx(120, abs=3)


def test_moment_in_unix_time_is_the_time_until_then() -> None:
    headers = {"ratelimit-reset": str(time.time() + 90)}
    assert wait_asked_for(headers) == pytest.approx(90, abs=3)


def test_retry_after_goes_before_other_headers() -> None:
    assert wait_asked_for({"ratelimit-reset": "9", "retry-after": "4"}) == 4.0
    assert wait_asked_for({"ratelimit-reset": "9", "retry-after": "no"}) == 9.0
    assert wait_asked_for({}) is None


@given(
    st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none(), st.lists(st.none()))
)
def test_nothing_gives_more_than_a_day_or_less_than_nothing(value: object) -> None:
    wait = seconds(value)
    assert wait is None or 0 < wait <= LONGEST_WAIT_SECONDS
    if isinstance(value, str):
        asked = wait_asked_for({"retry-after": value})
        assert asked is None or 0 < asked <= LONGEST_WAIT_SECONDS
