"""Times, ages and counts as people say them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts import words
from alerts.failures import CLASS_OF, FailureClass, FailureCode
from alerts.words import Clockface

AMSTERDAM = ZoneInfo("Europe/Amsterdam")
NOW = datetime(2026, 3, 11, 13, 0, tzinfo=UTC)  # a Wednesday


@pytest.mark.parametrize(
    ("moment", "told"),
    [
        (NOW, "14:00"),
        (NOW - timedelta(hours=13, minutes=59), "00:01"),
        (NOW - timedelta(hours=15), "Tuesday 23:00"),
        (NOW + timedelta(hours=11), "Thursday 01:00"),
        (NOW - timedelta(days=6), "Thursday 14:00"),
        (NOW - timedelta(days=7), "4 March 14:00"),
        (NOW - timedelta(days=365), "11 March 2025 14:00"),
        (NOW + timedelta(days=20), "31 March 15:00"),  # after the clocks have changed
    ],
)
def test_times_by_the_clock_of_the_zone(moment: datetime, told: str) -> None:
    assert Clockface(NOW, AMSTERDAM).at(moment) == told


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (-5, "0 seconds"), (0, "0 seconds"), (1, "1 second"), (119, "119 seconds"),
        (120, "2 minutes"), (7100, "118 minutes"), (7200, "2 hours"), (172_799, "48 hours"),
        (172_800, "2 days"), (86_400 * 400, "400 days"),
    ],
)  # fmt: skip
def test_durations(seconds: float, told: str) -> None:
    assert words.duration(seconds) == told


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=4000)))
def test_ages_are_never_negative(span: timedelta) -> None:
    clock = Clockface(NOW, AMSTERDAM)
    assert clock.ago(NOW + span) == timedelta(0)
    assert clock.ago(NOW - span) == span


def test_counts_and_lists() -> None:
    assert [words.count(n, "message") for n in (0, 1, 2, 12_000)] == [
        "0 messages", "1 message", "2 messages", "12,000 messages",
    ]  # fmt: skip
    assert [words.listed(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "", "a", "a and b", "a, b and c",
    ]  # fmt: skip
    assert words.capital("iOS and SMS") == "IOS and SMS"
    assert words.clipped("a\nb " * 200, 20) == "a b a b a b a b a..."


def test_every_code_has_its_words() -> None:
    assert set(words.BECAUSE) == set(FailureCode)
    closing = {code for code in FailureCode if CLASS_OF[code] is FailureClass.OPERATOR}
    closing |= {code for code in FailureCode if CLASS_OF[code] is FailureClass.TRANSIENT}
    own = {FailureCode.REFUSALS_IN_A_ROW, FailureCode.MISCONFIGURED}  # told by rules of their own
    assert closing - own <= set(words.PROVIDER_HAS)
    assert closing <= set(words.PROVIDER_DOES)


def test_a_provider_is_called_by_its_name() -> None:
    assert words.because("auth_failed", "Brevo") == "Brevo refused our password or key"
    assert words.because("of_tomorrow", "Brevo") == "Brevo did not take them"
