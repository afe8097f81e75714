"""The sample's scores: what the formula promises, on made-up series and on the real ones."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.sample import files
from scripts.sample.scores import FEWEST_MOVES, MOVE_DAYS, Score, blend, move_scores, trends

FIRST = FEWEST_MOVES + MOVE_DAYS  # the index of the first price that can be ranked
OIL_REGIONS = ["Europe", "North America", "Global"]

prices_of_any_kind = st.floats(-1e6, 1e6)
seeds = st.integers(0, 2**32 - 1)


def trading_days(count: int, start: date = date(2010, 1, 4)) -> list[date]:
    every_day = (start + timedelta(days=n) for n in range(count * 2))
    return [day for day in every_day if day.weekday() < 5][:count]


def walk(seed: int, count: int = 2 * FIRST) -> list[tuple[date, float]]:
    """A price that wanders, at times below zero."""
    source = random.Random(seed)
    price, path = 30.0, []
    for day in trading_days(count):
        price += source.gauss(0, 3)
        path.append((day, price))
    return path


def score_on(scores: Sequence[Score], day: str) -> Score:
    return next(score for score in scores if score.day == date.fromisoformat(day))


@pytest.mark.parametrize("region", OIL_REGIONS)
@pytest.mark.parametrize(
    ("day", "direction"), [("2022-03-08", "up"), ("2020-04-21", "down"), ("2026-04-02", "up")]
)
def test_oil_is_at_least_90_on_days_that_made_history(
    region: str, day: str, direction: str
) -> None:
    score = score_on(files.asset_scores()["oil", region], day)
    assert score.value >= 90
    assert score.direction == direction


@pytest.mark.parametrize("key", list(files.ASSET_SHARES))
def test_no_asset_reaches_70_on_more_than_12_percent_of_days(key: tuple[str, str]) -> None:
    assert share_from_70(files.asset_scores()[key]) <= 0.12


@pytest.mark.parametrize("region", list(files.REGION_SHARES))
def test_no_region_reaches_70_on_more_than_12_percent_of_days(region: str) -> None:
    assert share_from_70(files.region_scores()[region]) <= 0.12


def share_from_70(scores: Sequence[Score]) -> float:
    return sum(score.value >= 70 for score in scores) / len(scores)


def test_stored_totals_are_those_of_the_scores() -> None:
    def totals(scores: Sequence[Score]) -> tuple[int, Decimal]:
        return len(scores), sum((Decimal(str(score.value)) for score in scores), Decimal())

    assets, regions = files.asset_scores(), files.region_scores()
    assert {key: totals(scores) for key, scores in assets.items()} == files.ASSET_TOTALS
    assert {key: totals(scores) for key, scores in regions.items()} == files.REGION_TOTALS


def test_the_negative_price_is_the_largest_move_of_five_years() -> None:
    wti = files.series_scores()["wti"]
    assert score_on(wti, "2020-04-20") == Score(date(2020, 4, 20), 100.0, "down")


def test_the_rebound_from_the_negative_price_does_not_set_the_scale_for_years() -> None:
    # Relative to -36.98 or to 11.57 the moves of that spring would be several hundred percent,
    # and those of March 2022 small beside them.
    wti = files.series_scores()["wti"]
    assert min(score_on(wti, f"2022-03-0{day}").value for day in (2, 3, 4, 7, 8)) >= 80


def test_a_day_without_a_price_is_left_out() -> None:
    henry_hub = dict(files.read_prices()["henry_hub"])
    assert date(2018, 1, 4) in henry_hub
    assert date(2018, 1, 5) not in henry_hub
    assert all(day.weekday() < 5 for prices in files.read_prices().values() for day, _ in prices)


def test_series_ascend_and_begin_when_they_began() -> None:
    prices = files.read_prices()
    assert {name: series[0][0].year for name, series in prices.items()} == {
        "brent": 1987,
        "wti": 1986,
        "henry_hub": 1997,
        "vix": 1990,
    }
    for series in prices.values():
        days = [day for day, _ in series]
        assert days == sorted(set(days))


def test_a_move_across_a_hole_in_the_series_is_not_scored() -> None:
    # Henry Hub did not trade from 23 September to 6 October 2005.
    scored = {score.day for score in files.series_scores()["henry_hub"]}
    assert date(2005, 9, 22) in scored
    assert not scored & {date(2005, 10, day) for day in (7, 10, 11, 12)}
    assert date(2005, 10, 14) in scored


def test_holidays_do_not_silence_a_series() -> None:
    scored = {score.day for score in files.series_scores()["brent"]}
    assert {date(2018, 12, 27), date(2018, 12, 28), date(2019, 1, 2)} <= scored


def test_the_file_is_the_same_bytes_whenever_it_is_made() -> None:
    header = (files.SAMPLE_DIR / "prices.csv.gz").read_bytes()[:10]
    assert header[4:8] == bytes(4)  # no time of making
    assert header[3] == 0  # and no file name


@given(
    seeds, st.integers(FIRST, 2 * FIRST - 1), st.lists(prices_of_any_kind, min_size=1, max_size=40)
)
def test_the_future_changes_no_score(seed: int, cut: int, future: list[float]) -> None:
    past = walk(seed)[:cut]
    days = trading_days(cut + len(future))[cut:]
    longer = move_scores([*past, *zip(days, future, strict=True)])
    shorter = move_scores(past)
    assert longer[: len(shorter)] == shorter


@pytest.mark.parametrize("name", ["brent", "wti", "henry_hub", "vix"])
def test_the_future_changes_no_score_of_the_real_series(name: str) -> None:
    until = date(2022, 3, 8)
    prices = [(day, price) for day, price in files.read_prices()[name] if day <= until]
    known = [score for score in files.series_scores()[name] if score.day <= until]
    assert move_scores(prices) == known


@given(seeds, st.lists(prices_of_any_kind, min_size=1, max_size=60))
def test_scores_stay_between_0_and_100(seed: int, wild: list[float]) -> None:
    days = trading_days(FIRST + len(wild))
    calm = [price for _, price in walk(seed, FIRST)]
    scores = move_scores(list(zip(days, [*calm, *wild], strict=True)))
    assert len(scores) == len(wild)
    assert all(0 <= score.value <= 100 for score in scores)


@given(seeds, st.integers(-8, 8))
def test_the_unit_of_the_price_does_not_matter(seed: int, exponent: int) -> None:
    prices = walk(seed)
    scaled = [(day, price * 2.0**exponent) for day, price in prices]
    assert move_scores(scaled) == move_scores(prices)


@given(seeds)
def test_a_larger_move_never_scores_less(seed: int) -> None:
    prices = walk(seed, FIRST)
    day = trading_days(FIRST + 1)[-1]
    base = prices[-MOVE_DAYS][1]
    values = [move_scores([*prices, (day, base + move)])[-1].value for move in (0, 1, 5, 20, 80)]
    assert values == sorted(values)


@given(seeds)
def test_a_fall_scores_like_a_rise_of_the_same_size(seed: int) -> None:
    prices = walk(seed, FIRST)
    day = trading_days(FIRST + 1)[-1]
    base = prices[-MOVE_DAYS][1]
    up, down = (move_scores([*prices, (day, base + move)])[-1] for move in (200.0, -200.0))
    assert (up.value, up.direction, down.direction) == (pytest.approx(down.value), "up", "down")


@pytest.mark.parametrize("price", [0.0, -5.0, 50.0])
def test_a_price_that_stands_still_scores_alike_and_has_no_direction(price: float) -> None:
    scores = move_scores([(day, price) for day in trading_days(FIRST + 30)])
    assert {(score.value, score.direction) for score in scores} == {(8.84, "unclear")}


def test_moves_older_than_five_years_are_forgotten() -> None:
    days = trading_days(8 * 261)
    calm = {day: 50 + index % 7 * 0.1 for index, day in enumerate(days)}
    stormy = calm | {day: 50 + index % 7 * 5.0 for index, day in enumerate(days[:300])}
    late = days[-300:]

    def late_scores(prices: dict[date, float]) -> list[Score]:
        return [score for score in move_scores(sorted(prices.items())) if score.day in late]

    assert late_scores(stormy) == late_scores(calm)


def test_a_series_shorter_than_a_year_has_no_scores() -> None:
    assert move_scores([]) == []
    assert move_scores(walk(1, FIRST)) == []
    assert len(move_scores(walk(1, FIRST + 1))) == 1


def test_a_blend_is_the_weighted_mean_of_the_days_all_have() -> None:
    one, two, three = trading_days(3)
    series = {
        "a": [Score(one, 10.0, "up"), Score(two, 80.0, "up"), Score(three, 40.0, "down")],
        "b": [Score(two, 60.0, "up"), Score(three, 100.0, "up")],
    }
    assert blend(series, {"a": 0.75, "b": 0.25}) == [
        Score(two, 75.0, "up"),
        Score(three, 55.0, "unclear"),
    ]


def test_shares_of_every_published_score_add_up_to_one() -> None:
    for shares in [*files.ASSET_SHARES.values(), *files.REGION_SHARES.values()]:
        assert sum(shares.values()) == pytest.approx(1)


def test_a_trend_is_a_change_of_five_points() -> None:
    days = trading_days(5)
    values = [50.0, 55.0, 50.1, 45.0, 45.0]
    scores = [Score(day, value, "up") for day, value in zip(days, values, strict=True)]
    assert trends(scores) == ["stable", "rising", "stable", "falling", "stable"]
    assert trends([]) == []


def test_a_score_is_published_after_the_close_of_its_own_day() -> None:
    score = Score(date(2022, 3, 8), 91.99, "up")
    assert files.published_at(score) == datetime(2022, 3, 8, 21, 30, tzinfo=UTC)
