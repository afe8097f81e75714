"""Reading how long a provider asks to wait."""

import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3 import HTTPHeaderDict

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


FORMS = {
    "imf-fixdate": "%a, %d %b %Y %H:%M:%S GMT",
    "rfc850": "%A, %d-%b-%y %H:%M:%S GMT",
    "asctime": "%a %b %e %H:%M:%S %Y",
}


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_a_date_is_in_utc_whatever_the_machines_zone(
    form: str, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        date = time.strftime(FORMS[form], time.gmtime(time.time() + 600))
        assert wait_asked_for({"retry-after": date}) == pytest.approx(600, abs=3)
        longest = wait_asked_for({"retry-after": f"30, {date}, 5"})
        assert longest == pytest.approx(600, abs=3)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_dates_of_the_standard_are_read() -> None:
    for date in (
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
    ):
        assert wait_asked_for({"retry-after": date}) is None  # past
    assert wait_asked_for({"retry-after": "Thursday, 31-Dec-67 23:59:59 GMT"}) == (
        LONGEST_WAIT_SECONDS
    )


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("7, 30", 30.0),
        ("30,7", 30.0),
        ("0, 2.5, soon", 2.5),
        ("soon, 4", 4.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT, 9", 9.0),
        (",, 3 ,", 3.0),
        ("1000000000", LONGEST_WAIT_SECONDS),
        ("86399.5", 86_399.5),
        ("0.001", 0.001),
    ],
)
def test_of_several_values_the_longest_counts(value: str, wait: float) -> None:
    assert wait_asked_for({"retry-after": value}) == wait


def test_repeated_header_asks_for_the_longest() -> None:
    headers = HTTPHeaderDict([("Retry-After", "5"), ("Retry-After", "50"), ("retry-after", "7")])
    assert wait_asked_for(headers) == 50.0


@given(st.floats(min_value=0.001, max_value=1e12))
def test_no_wait_is_shorter_than_asked_for_up_to_a_day(asked: float) -> None:
    assert wait_asked_for({"retry-after": repr(asked)}) == min(asked, LONGEST_WAIT_SECONDS)


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
