"""An event's stored headline and body, from which every channel's message is made.

Titles in them are untrusted and stored unchanged; :mod:`alerts.cleaning` sanitizes them when a
message is rendered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal

from alerts.cleaning import head

TITLE_MAX = 300  # characters per driver title

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DIRECTIONS = {"up": "up", "down": "down"}


@dataclass(frozen=True)
class Text:
    """An event's headline and body."""

    headline: str
    body: str


def regional_spike(
    *,
    region: str,
    score: Decimal,
    trend: str | None,
    earlier_score: Decimal | None,
    earlier_day: date | None,
    drivers: Sequence[str],
) -> Text:
    """A region's 7-day index, from 0 to 100. ``earlier_score``: the newest score of an earlier
    product day, mentioned if the index rose. ``drivers``: titles, most important first."""
    facts = f"The 7-day energy risk index for {region} stands at {_rounded(score, 1)} of 100"
    facts += f" and is {trend or ''}."
    if earlier_score and earlier_day and score > earlier_score > 0:
        rise = _rounded((score / earlier_score - 1) * 100)
        facts += f" It rose by {rise} % from {_rounded(earlier_score, 1)} on {_day(earlier_day)}."
    return Text(f"{region} energy risk at {_rounded(score)} of 100", _body(facts, drivers))


def asset_spike(
    *, asset: str, region: str, score: Decimal, direction: str | None, drivers: Sequence[str]
) -> Text:
    """An asset's 7-day score in a region, from 0 to 100."""
    towards = _DIRECTIONS.get(direction or "", "unclear")
    facts = f"The 7-day risk score of {asset} in {region} stands at {_rounded(score, 1)} of 100;"
    facts += f" the direction is {towards}."
    headline = f"{asset.title()} risk in {region} at {_rounded(score)} of 100"
    return Text(headline, _body(facts, drivers))


def high_impact(*, title: str, category: str | None, day: date | None, source: str | None) -> Text:
    """A single news event; ``day`` is when it happened, if known."""
    parts = [f"Category: {(category or '').replace('_', ' ')}."]
    if day is not None:
        parts.append(f"Date: {_day(day)}.")
    parts.append(f"Source: {source or ''}.")
    return Text(title, " ".join(parts))


def _body(facts: str, drivers: Sequence[str]) -> str:
    if not drivers:
        return facts
    titles = "\n".join(f"- {head(title, TITLE_MAX)}" for title in drivers)
    return f"{facts}\n\nWhat drives it:\n{titles}"


def _rounded(number: Decimal, places: int = 0) -> Decimal:
    return number.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)


def _day(day: date) -> str:
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"
