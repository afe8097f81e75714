"""Reads the sample files (``scripts/sample``) and computes the scores published from them."""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import cache
from pathlib import Path

from scripts.sample.scores import Prices, Score, blend, move_scores

SAMPLE_DIR = Path(__file__).resolve().parent

# When a day's scores are published: after Brent and WTI have settled and the VIX has closed
# (20:15 UTC in summer, 21:15 in winter), and on the same day in UTC as in European zones.
PUBLISHED_AT = time(21, 30, tzinfo=UTC)
# The sources give only dates. An event is inserted in time for the 06:00 run of its day.
EVENT_INSERTED_AT = time(5, 0, tzinfo=UTC)

# The weight of each series in each score. There is no series for freight or foreign exchange, so
# they have no scores.
ASSET_SHARES: dict[tuple[str, str], dict[str, float]] = {
    ("oil", "Europe"): {"brent": 1.0},
    ("oil", "North America"): {"wti": 1.0},
    ("oil", "Global"): {"brent": 0.5, "wti": 0.5},
    ("gas", "North America"): {"henry_hub": 1.0},
}
REGION_SHARES: dict[str, dict[str, float]] = {
    "Europe": {"brent": 0.7, "vix": 0.3},
    "North America": {"wti": 0.5, "henry_hub": 0.3, "vix": 0.2},
    "Global": {"brent": 0.35, "wti": 0.35, "vix": 0.3},
}
# The number of scores and their sum, to recognize a loaded table quickly. They change with the
# files and the formula; a test checks them.
ASSET_TOTALS: dict[tuple[str, str], tuple[int, Decimal]] = {
    ("oil", "Europe"): (9703, Decimal("225033.65")),
    ("oil", "North America"): (9971, Decimal("220997.64")),
    ("oil", "Global"): (9528, Decimal("218082.74")),
    ("gas", "North America"): (7176, Decimal("168605.31")),
}
REGION_TOTALS: dict[str, tuple[int, Decimal]] = {
    "Europe": (8880, Decimal("200588.56")),
    "North America": (7123, Decimal("165408.58")),
    "Global": (8821, Decimal("198690.36")),
}

# weighted_score = severity * confidence * category weight. The events are public record, so
# confidence is 1; energy events affect energy risk most directly.
AI_CONFIDENCE = 1.0
CATEGORY_SHARES = {"energy": 1.0, "supply_chain": 0.9, "geopolitical": 0.8}


@dataclass(frozen=True)
class SampleEvent:
    """One recorded event, for the tables ``events`` and ``risk_events``."""

    title: str
    source_name: str
    source_url: str
    category: str
    region: str
    severity: int
    event_time: datetime
    inserted_at: datetime

    @property
    def weighted_score(self) -> float:
        """The event's weight among the drivers of a spike."""
        return round(self.severity * AI_CONFIDENCE * CATEGORY_SHARES[self.category], 2)


def read_prices() -> dict[str, Prices]:
    """Daily closes by series, in ascending order; a day without a price is omitted."""
    series: dict[str, list[tuple[date, float]]] = {}
    with gzip.open(SAMPLE_DIR / "prices.csv.gz", "rt", encoding="ascii", newline="") as file:
        rows = csv.reader(file)
        _, *names = next(rows)
        series = {name: [] for name in names}
        for day_text, *cells in rows:
            day = date.fromisoformat(day_text)
            for name, cell in zip(names, cells, strict=True):
                if cell:
                    series[name].append((day, float(cell)))
    return dict(series)


def read_events() -> list[SampleEvent]:
    """The dated events, oldest first."""
    with (SAMPLE_DIR / "events.csv").open(encoding="utf-8", newline="") as file:
        return [_event(row) for row in csv.DictReader(file)]


def _event(row: dict[str, str]) -> SampleEvent:
    day = date.fromisoformat(row["event_time"])
    return SampleEvent(
        title=row["title"],
        source_name=row["source_name"],
        source_url=row["source_url"],
        category=row["category"],
        region=row["region"],
        severity=int(row["severity_score"]),
        event_time=datetime.combine(day, time(0, tzinfo=UTC)),
        inserted_at=datetime.combine(day, EVENT_INSERTED_AT),
    )


@cache
def series_scores() -> dict[str, list[Score]]:
    """Scores of each price series over its whole history, computed once per process."""
    return {name: move_scores(prices) for name, prices in read_prices().items()}


def asset_scores() -> dict[tuple[str, str], list[Score]]:
    """The scores for ``asset_risk``, by asset and region."""
    return {key: blend(series_scores(), shares) for key, shares in ASSET_SHARES.items()}


def region_scores() -> dict[str, list[Score]]:
    """The scores for ``risk_indices``, by region."""
    return {region: blend(series_scores(), shares) for region, shares in REGION_SHARES.items()}


def published_at(score: Score) -> datetime:
    """The score's ``calculated_at``."""
    return datetime.combine(score.day, PUBLISHED_AT)
