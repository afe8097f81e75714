"""What an event says of itself."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from alerts.messages.events import TITLE_MAX, asset_spike, high_impact, regional_spike


def regional(score: str, **others: object) -> str:
    known: dict[str, object] = {
        "region": "Europe", "trend": "rising", "earlier_score": None, "earlier_day": None,
        "drivers": (),
    }  # fmt: skip
    return regional_spike(score=Decimal(score), **{**known, **others}).body  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("score", "shown"), [("69.5", "70"), ("70.49", "70"), ("88.5", "89"), ("100", "100")]
)
def test_headlines_round_half_up_as_people_do(score: str, shown: str) -> None:
    text = regional_spike(
        region="Europe", score=Decimal(score), trend="rising", earlier_score=None,
        earlier_day=None, drivers=(),
    )  # fmt: skip
    assert text.headline == f"Europe energy risk at {shown} of 100"


def test_a_rise_is_told_with_the_day_it_rose_from() -> None:
    body = regional("75", earlier_score=Decimal("50.04"), earlier_day=date(2022, 2, 3))
    assert body == (
        "The 7-day energy risk index for Europe stands at 75.0 of 100 and is rising."
        " It rose by 50 % from 50.0 on 3 Feb 2022."
    )


@pytest.mark.parametrize("earlier", [Decimal("75"), Decimal("80"), Decimal(0), None])
def test_what_did_not_rise_is_not_called_a_rise(earlier: Decimal | None) -> None:
    assert "rose" not in regional("75", earlier_score=earlier, earlier_day=date(2022, 2, 3))


def test_drivers_follow_the_facts_in_their_order_and_are_cut() -> None:
    body = regional("75", drivers=("Pipeline stops", "x" * (TITLE_MAX + 1)))
    assert body.split("\n\n")[1] == "What drives it:\n- Pipeline stops\n- " + "x" * TITLE_MAX


@pytest.mark.parametrize(
    ("direction", "told"),
    [("up", "up"), ("down", "down"), ("unclear", "unclear"), (None, "unclear")],
)
def test_an_asset_tells_its_direction(direction: str | None, told: str) -> None:
    text = asset_spike(
        asset="gas", region="Asia", score=Decimal("80.05"), direction=direction, drivers=()
    )
    assert text.headline == "Gas risk in Asia at 80 of 100"
    assert text.body == (
        f"The 7-day risk score of gas in Asia stands at 80.1 of 100; the direction is {told}."
    )


def test_a_single_event_keeps_its_title_and_says_what_is_known() -> None:
    known = high_impact(
        title="Pipeline <stops>", category="supply_disruption", day=date(2022, 3, 8), source="Wire"
    )
    assert known.headline == "Pipeline <stops>"
    assert known.body == "Category: supply disruption. Date: 8 Mar 2022. Source: Wire."
    bare = high_impact(title="t", category=None, day=None, source=None)
    assert bare.body == "Category: . Source: ."
