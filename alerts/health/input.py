"""How fresh the risk data is, and how far from an alert: nothing came, or nothing was risky."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from alerts.db.together import with_times
from alerts.paging import iso
from alerts.phases.generate import FIRES_AT

# The newest input that there is at the business time, of the window that alerts look at; the newest
# alert; and the highest score of the last day.
INPUT = """
SELECT
    (
        SELECT inserted_at::timestamptz
        FROM events
        WHERE inserted_at <= %(now)s
        ORDER BY inserted_at DESC
        LIMIT 1
    ) AS newest_event,
    (
        SELECT calculated_at::timestamptz
        FROM risk_indices
        WHERE window_days = 7 AND calculated_at <= %(now)s
        ORDER BY calculated_at DESC
        LIMIT 1
    ) AS newest_index,
    (
        SELECT calculated_at::timestamptz
        FROM asset_risk
        WHERE window_days = 7 AND calculated_at <= %(now)s
        ORDER BY calculated_at DESC
        LIMIT 1
    ) AS newest_asset,
    (
        SELECT created_at::timestamptz
        FROM alert_events
        WHERE created_at <= %(now)s
        ORDER BY created_at DESC
        LIMIT 1
    ) AS newest_alert,
    (
        SELECT jsonb_build_object('score', s.risk_score, 'region', s.region, 'asset', s.asset)
        FROM (
            SELECT risk_score, region, NULL AS asset
            FROM risk_indices
            WHERE window_days = 7
              AND calculated_at BETWEEN %(now)s - interval '24 hours' AND %(now)s
            UNION ALL
            SELECT risk_score, region, asset
            FROM asset_risk
            WHERE window_days = 7
              AND calculated_at BETWEEN %(now)s - interval '24 hours' AND %(now)s
        ) AS s
        ORDER BY s.risk_score DESC NULLS LAST
        LIMIT 1
    ) AS highest
"""


@dataclass(frozen=True)
class Input:
    """When each kind of input last came (business time; None: never), and how risky it was."""

    newest_event: datetime | None
    newest_index: datetime | None
    newest_asset: datetime | None
    newest_alert: datetime | None
    highest: dict[str, Any] | None  # ``score``, ``region``, ``asset`` of the last 24 hours

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Input:
        """The row of :data:`INPUT`."""
        times = ("newest_event", "newest_index", "newest_asset", "newest_alert")
        return cls(**with_times(row, *times))

    @property
    def newest_score(self) -> datetime | None:
        """When the newest risk score was calculated, of a region or an asset."""
        known = [each for each in (self.newest_index, self.newest_asset) if each is not None]
        return max(known, default=None)

    def sections(self, now: datetime) -> dict[str, Any]:
        """Health's ``input``, the age of each kind, and ``risk``: how near to an alert it is."""
        kinds = {
            "events": self.newest_event,
            "risk_indices": self.newest_index,
            "asset_risk": self.newest_asset,
        }
        risk = {
            "highest_24h": self.highest,
            "threshold": FIRES_AT,
            "newest_alert_at": self.newest_alert and iso(self.newest_alert),
        }
        return {"input": {name: _age(moment, now) for name, moment in kinds.items()}, "risk": risk}


def _age(moment: datetime | None, now: datetime) -> dict[str, Any]:
    if moment is None:
        return {"newest_at": None, "age_hours": None, "age_seconds": None}
    seconds = max(0, round((now - moment).total_seconds()))
    age = {"age_hours": round(seconds / 3600, 2), "age_seconds": seconds}
    return {"newest_at": iso(moment), **age}
