"""When a channel closes, for how long, and what opens it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.failures import CLASS_OF, DeliveryError, FailureClass, FailureCode
from alerts.phases.send import channel_state as rules
from alerts.phases.send.channel_state import ChannelState, Streaks

C = FailureCode
NOW = datetime(2026, 1, 16, 12, tzinfo=UTC)


def error(code: FailureCode, **more: bool) -> DeliveryError:
    return DeliveryError(code, "as the test wants", **more)


# -- for how long ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failures", "retry_after", "seconds"),
    [
        (1, None, 30),
        (2, None, 60),
        (3, None, 120),
        (5, None, 480),
        (6, None, 900),  # 960, but a quarter of an hour is the most
        (7, None, 900),
        (5000, None, 900),
        (1, 0.0, 30),
        (1, 5.0, 30),  # the provider's wish counts where it is the longer one
        (1, 31.0, 31),
        (3, 119.0, 120),
        (3, 121.0, 121),
        (1, 3600.0, 3600),
        (9, 3600.0, 3600),
        (1, 86_400.0, 86_400),
        (1, 90_000.0, 86_400),  # no provider is waited for longer than a day
        (1, -5.0, 30),
    ],
)
def test_how_long_a_channel_stays_closed(
    failures: int, retry_after: float | None, seconds: float
) -> None:
    assert rules.wait_seconds(failures, retry_after) == seconds


@given(st.integers(1, 10_000), st.none() | st.floats(0, 1e9))
def test_no_closing_is_shorter_than_the_one_before_or_longer_than_a_day(
    failures: int, retry_after: float | None
) -> None:
    seconds = rules.wait_seconds(failures, retry_after)
    assert 30 <= seconds <= 86_400
    assert seconds <= rules.wait_seconds(failures + 1, retry_after)


# -- what closes, what opens -------------------------------------------------------------------

ALWAYS = {
    C.TIMEOUT_CONNECT, C.NETWORK, C.RATE_LIMITED, C.AUTH_FAILED, C.SENDER_REJECTED,
    C.QUOTA_PROVIDER, C.ACCOUNT_LIMITED, C.UNEXPECTED_ANSWER, C.REFUSALS_IN_A_ROW, C.MISCONFIGURED,
}  # fmt: skip
TO_A_PROBE = {C.PROVIDER_UNAVAILABLE, C.POLICY_REFUSED, C.OUTCOME_UNKNOWN, C.SENDER_LOST}
ANSWERS = {C.RECIPIENT_INVALID, C.RECIPIENT_BLOCKED, C.PAYLOAD_INVALID}
FROM_PROVIDERS = [code for code in C if CLASS_OF[code] is not FailureClass.POLICY]


@pytest.mark.parametrize("code", FROM_PROVIDERS)
def test_what_closes_a_channel(code: FailureCode) -> None:
    assert rules.closes(error(code), probing=False) is (code in ALWAYS)
    assert rules.closes(error(code), probing=True) is (code in ALWAYS | TO_A_PROBE)
    assert rules.opens(error(code)) is (code in ANSWERS)


def test_a_message_that_was_taken_opens() -> None:
    assert rules.opens(None)


def test_a_refusal_before_the_message_closes_and_one_recipient_put_off_does_not() -> None:
    before = error(C.PROVIDER_UNAVAILABLE, concerns_channel=True)
    assert rules.closes(before, probing=False)
    greylisted = error(C.PROVIDER_UNAVAILABLE, concerns_recipient=True)
    assert not rules.closes(greylisted, probing=False)
    assert not rules.closes(greylisted, probing=True)
    assert rules.opens(greylisted)


@pytest.mark.parametrize("code", FROM_PROVIDERS)
def test_operators_codes_hold(code: FailureCode) -> None:
    state = ChannelState("email", closed_since=NOW, closed_until=NOW, code=code)
    assert state.held is (CLASS_OF[code] is FailureClass.OPERATOR)
    assert not ChannelState("email", code=code).held  # it is open again


@pytest.mark.parametrize(
    ("until", "left"),
    [(None, 0.0), (NOW, 0.0), (NOW - timedelta(days=3), 0.0), (NOW + timedelta(seconds=9), 9.0)],
)
def test_how_long_until_it_is_probed(until: datetime | None, left: float) -> None:
    assert ChannelState("sms", closed_since=NOW, closed_until=until).seconds_left(NOW) == left


# -- what a row pays ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "before", "success", "costs"),
    [
        (None, False, True, False),  # its first closing
        ("network", True, False, False),  # nobody got through since: the channel's trouble
        ("network", True, True, True),
        ("timeout_connect", True, True, True),
        ("rate_limited", True, True, True),
        ("auth_failed", True, True, True),
        ("unexpected_answer", True, True, True),
        ("outcome_unknown", True, True, True),  # kept on the row whatever follows
        ("outcome_unknown", True, False, False),
        ("provider_unavailable", False, True, False),  # that was an attempt of its own
        ("recipient_invalid", False, True, False),
        ("something_old", False, True, False),
    ],
)
def test_a_row_pays_where_others_got_through_since_it_closed_the_channel(
    code: str | None, before: bool, success: bool, costs: bool
) -> None:
    assert rules.closed_before(code) is before
    assert rules.costs_attempt(closed_before=before, success_since=success) is costs


def test_every_second_probe_looks_for_a_digest_first() -> None:
    assert [rules.digests_first(n) for n in (1, 2, 3, 4)] == [True, False, True, False]


@pytest.mark.parametrize(
    ("channel", "destination", "domain"),
    [
        ("email", "a@Example.com", "example.com"),
        ("email", '"a@b"@example.org', "example.org"),
        ("email", "nothing", "nothing"),
        ("telegram", "12345", "12345"),
        ("sms", "+31600000000", "+31600000000"),
    ],
)
def test_who_takes_a_message_in_the_end(channel: str, destination: str, domain: str) -> None:
    assert rules.domain_of(channel, destination) == domain


# -- what results say in a row -----------------------------------------------------------------

OK = None
BUSY = error(C.PROVIDER_UNAVAILABLE)
POLICY = error(C.POLICY_REFUSED)
GREY = error(C.PROVIDER_UNAVAILABLE, concerns_recipient=True)
GONE = error(C.RECIPIENT_INVALID)
BAD = error(C.PAYLOAD_INVALID)
SILENT = error(C.OUTCOME_UNKNOWN)


def verdicts(*results: tuple[int, str, DeliveryError | None]) -> list[FailureCode | None]:
    streaks = Streaks()
    return [streaks.after(*result) for result in results]


@pytest.mark.parametrize(
    ("domains", "errors", "verdict"),
    [
        ("abcde", [BUSY] * 5, C.PROVIDER_UNAVAILABLE),
        ("abcde", [POLICY] * 5, C.POLICY_REFUSED),
        ("abcde", [BUSY, POLICY, BUSY, POLICY, BUSY], C.PROVIDER_UNAVAILABLE),
        ("aabbc", [BUSY] * 5, C.PROVIDER_UNAVAILABLE),
        ("aabbb", [BUSY] * 5, None),  # two domains: it may be theirs
        ("aaaaa", [BUSY] * 5, None),
        ("abcd", [BUSY] * 4, None),
        ("abcdef", [BUSY, BUSY, BUSY, BUSY, OK, BUSY], None),
        ("abcdef", [BUSY, BUSY, BUSY, BUSY, GONE, BUSY], None),  # it answers
        ("abcdef", [BUSY, BUSY, SILENT, BUSY, BUSY, BUSY], C.PROVIDER_UNAVAILABLE),
        ("abcde", [GREY] * 5, None),
        ("abcdef", [BUSY, BUSY, GREY, BUSY, BUSY, GREY], None),
        ("aaaaabc", [BUSY] * 7, C.PROVIDER_UNAVAILABLE),  # as soon as there are three
    ],
)
def test_a_provider_that_is_busy_for_everybody_closes(
    domains: str, errors: list[DeliveryError | None], verdict: FailureCode | None
) -> None:
    found = verdicts(*((n, d, e) for n, (d, e) in enumerate(zip(domains, errors, strict=True))))
    assert found[:-1] == [None] * (len(domains) - 1)
    assert found[-1] is verdict


@pytest.mark.parametrize(
    ("users", "errors", "verdict"),
    [
        (range(10), [GONE] * 10, C.REFUSALS_IN_A_ROW),
        (range(10), [GONE, BAD] * 5, C.REFUSALS_IN_A_ROW),
        (range(9), [GONE] * 9, None),
        ([1] * 30, [GONE] * 30, None),  # one user with thirty alerts
        ([*range(9), 0, 1, 2], [GONE] * 12, None),
        ([*range(9), 77, 9], [*[GONE] * 9, OK, GONE], None),
        ([*range(9), 77, 9], [*[GONE] * 9, BUSY, GONE], C.REFUSALS_IN_A_ROW),
    ],
)
def test_ten_users_refused_in_a_row_hold(
    users: list[int], errors: list[DeliveryError | None], verdict: FailureCode | None
) -> None:
    found = verdicts(*((u, f"{u}.example", e) for u, e in zip(users, errors, strict=True)))
    assert found[-1] is verdict


def test_a_streak_that_was_told_begins_anew() -> None:
    told = verdicts(*((n, f"{n}.example", BUSY) for n in range(10)))
    assert [n for n, verdict in enumerate(told) if verdict] == [4, 9]


@given(
    st.lists(
        st.tuples(
            st.integers(1, 30), st.sampled_from("abcde"), st.sampled_from([OK, BUSY, GONE, GREY])
        )
    )
)
def test_no_streak_closes_within_five_results_of_a_success(
    results: list[tuple[int, str, DeliveryError | None]],
) -> None:
    streaks, since = Streaks(), 0
    for user, domain, result in results:
        since = 0 if result is None else since + 1
        verdict = streaks.after(user, domain, result)
        if verdict is C.REFUSALS_IN_A_ROW:
            assert since >= 10
        elif verdict:
            assert since >= 5
