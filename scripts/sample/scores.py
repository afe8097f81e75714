"""Computes the sample's risk scores from daily prices. Pure: no files, no database, no clock.

A day's score says how unusual its price move is for its series: the size of the move over five
trading days (one calendar week, the engine's ``window_days = 7``), ranked among the moves of the
trailing five years. With the rank alone, three days in ten would reach 70, so it is raised to a
power: ``score = 100 * rank ** 3.5``. Then 70 is about the top tenth of days and 90 the top 3 %.

A move is relative to its starting price, but to at least half of the trailing five years' median
price. Logarithms fail at WTI's -36.98 on 2020-04-20, and a plain percentage of a price near or
below zero is meaningless: the rebound would count as several hundred percent and dominate the scale
for the next five years.

Nothing looks ahead: a day's score uses only prices up to that day.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise

MOVE_DAYS = 5  # trading days: one calendar week of prices
LONGEST_MOVE = timedelta(days=14)  # five prices that take longer span a gap in the series
TRAILING_YEARS = 5
FEWEST_MOVES = 250  # about one year of trading; fewer moves are too few to rank
RANK_POWER = 3.5
BASE_FLOOR = 0.5  # of the trailing median price
TYPICAL_RANK = 0.5  # a move smaller than half of all moves has no clear direction
TREND_POINTS = 5.0  # a smaller change between two scores is noise

Prices = Sequence[tuple[date, float]]


@dataclass(frozen=True)
class Score:
    """One day's score; ``value`` is 0 to 100, ``direction`` is up, down or unclear."""

    day: date
    value: float
    direction: str


def move_scores(prices: Prices) -> list[Score]:
    """Return the scores of one series, given in ascending order.

    There are none for the first year, nor just after a gap of more than a week.
    """
    levels = _TrailingWindow()
    sizes = _TrailingWindow()
    scores = []
    for index, (day, price) in enumerate(prices):
        levels.forget_before(day)
        levels.add(day, abs(price))
        if index < MOVE_DAYS or day - prices[index - MOVE_DAYS][0] > LONGEST_MOVE:
            continue
        move = _relative_move(prices[index - MOVE_DAYS][1], price, levels.median())
        sizes.forget_before(day)
        if len(sizes) >= FEWEST_MOVES:
            scores.append(_score(day, move, sizes.rank(abs(move))))
        sizes.add(day, abs(move))
    return scores


def blend(series: Mapping[str, Sequence[Score]], weights: Mapping[str, float]) -> list[Score]:
    """Return the weighted mean of several series' scores for the days they have in common.

    The direction is the shared one, else unclear. ``weights`` add up to 1.
    """
    by_day = [{score.day: score for score in series[name]} for name in weights]
    days = sorted(set.intersection(*(set(scores) for scores in by_day)))
    blended = []
    for day in days:
        parts = [scores[day] for scores in by_day]
        value = sum(
            part.value * weight for part, weight in zip(parts, weights.values(), strict=True)
        )
        directions = {part.direction for part in parts}
        direction = directions.pop() if len(directions) == 1 else "unclear"
        blended.append(Score(day, _bounded(value), direction))
    return blended


def trends(scores: Sequence[Score]) -> list[str]:
    """Return rising, falling or stable for each score, compared with the previous one."""
    found = ["stable"] * min(len(scores), 1)
    for before, after in pairwise(scores):
        change = after.value - before.value
        if abs(change) < TREND_POINTS:
            found.append("stable")
        else:
            found.append("rising" if change > 0 else "falling")
    return found


def _relative_move(before: float, after: float, median_level: float) -> float:
    base = max(abs(before), BASE_FLOOR * median_level)
    return (after - before) / base if base else 0.0


def _score(day: date, move: float, rank: float) -> Score:
    direction = "up" if move > 0 else "down"
    if rank < TYPICAL_RANK or move == 0:
        direction = "unclear"
    return Score(day, _bounded(100 * rank**RANK_POWER), direction)


def _bounded(value: float) -> float:
    # Weights that add up to 1 in decimal may add up to slightly more in binary.
    return min(100.0, max(0.0, round(value, 2)))


def _years_before(day: date, years: int) -> date:
    try:
        return day.replace(year=day.year - years)
    except ValueError:  # 29 February
        return day.replace(year=day.year - years, day=28)


class _TrailingWindow:
    """Sorted values of the trailing years; adding and removing each take a binary search."""

    def __init__(self) -> None:
        self._in_time: deque[tuple[date, float]] = deque()
        self._sorted: list[float] = []

    def __len__(self) -> int:
        return len(self._sorted)

    def add(self, day: date, value: float) -> None:
        self._in_time.append((day, value))
        insort(self._sorted, value)

    def forget_before(self, day: date) -> None:
        oldest = _years_before(day, TRAILING_YEARS)
        while self._in_time and self._in_time[0][0] < oldest:
            _, value = self._in_time.popleft()
            del self._sorted[bisect_left(self._sorted, value)]

    def median(self) -> float:
        return self._sorted[len(self._sorted) // 2]

    def rank(self, value: float) -> float:
        """Return the share of values below this one, 0 to 1; equal values count half."""
        below = bisect_left(self._sorted, value)
        not_above = bisect_right(self._sorted, value)
        return (below + not_above) / 2 / len(self._sorted)
