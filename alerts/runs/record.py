"""What is known of a run: one immutable record, which the database, the spool and people get."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from alerts import db

# A run still running whose heart has not beaten for so long is lost.
STALE_SECONDS = 90

_RUN_TIMES = ("started_at", "finished_at")


@dataclass(frozen=True)
class RunItem:
    """One phase of a run; times are wall time, ``duration_ms`` is measured monotonically."""

    phase: str
    started_at: datetime
    finished_at: datetime
    duration_ms: int
    status: str  # success, failed, skipped
    counts: dict[str, Any] = field(default_factory=dict)
    error_summary: str | None = None


@dataclass(frozen=True)
class RunRecord:
    """Everything known of a run at one moment."""

    run_id: str
    triggered_by: str
    phase: str
    started_at: datetime
    dry_run: bool
    git_sha: str | None = None
    ci_run_url: str | None = None
    status: str = "running"  # running, success, failed, skipped
    finished_at: datetime | None = None
    duration_ms: int | None = None
    error_summary: str | None = None
    items: tuple[RunItem, ...] = ()
    interval_minutes: int = 10  # expected, by which a scheduled run finds its slot

    @property
    def counts(self) -> dict[str, Any]:
        """The counts by phase letter."""
        return {item.phase: item.counts for item in self.items}

    def with_item(self, item: RunItem) -> RunRecord:
        """The record with one more phase."""
        return replace(self, items=(*self.items, item))

    def parameters(self) -> dict[str, Any]:
        """The columns of the run's row, and ``items`` as a JSON array of its phases."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        fields["counts"] = db.json_text(self.counts)
        fields["items"] = db.json_text([_as_json(item) for item in self.items])
        return fields

    def as_json(self) -> dict[str, Any]:
        """The record as JSON values; :meth:`from_json` gives it back."""
        return {**_as_json(self), "items": [_as_json(item) for item in self.items]}

    def as_line(self) -> str:
        """The record as one line of JSON. A value that JSON cannot hold is named by its type: a
        bug in a count must not cost the record."""
        return json.dumps(self.as_json(), ensure_ascii=False, default=lambda v: type(v).__name__)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> RunRecord:
        """A record from :meth:`as_json`; raises ValueError, TypeError or KeyError for others."""
        items = tuple(RunItem(**_with_times(item)) for item in fields["items"])
        return cls(**{**_with_times(fields), "items": items})


def _as_json(part: RunItem | RunRecord) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(part).items()
    }


def _with_times(fields: Mapping[str, Any]) -> dict[str, Any]:
    times = {name: datetime.fromisoformat(fields[name]) for name in _RUN_TIMES if fields[name]}
    return {**fields, **times}
