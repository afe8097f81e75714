"""What is known of a run: one immutable record, which the database, the spool and people get."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from types import NoneType
from typing import Any, TypeVar

from alerts import db
from alerts.readers import TIME

# A run without a heartbeat for this long is lost.
STALE_SECONDS = 90

T = TypeVar("T", "RunItem", "RunRecord")

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
    rerun: bool = False  # somebody started the job again: it fills no slot

    @property
    def counts(self) -> dict[str, Any]:
        """The counts by phase letter."""
        return {item.phase: item.counts for item in self.items}

    def with_item(self, item: RunItem) -> RunRecord:
        """The record with one more phase."""
        return replace(self, items=(*self.items, item))

    def parameters(self, told_at: datetime | None = None) -> dict[str, Any]:
        """The columns of the run's row, and ``items`` as a JSON array of its phases.

        ``told_at`` is the time by the clock that timed the run; None where that clock is another
        machine's.
        """
        columns = {name: getattr(self, name) for name in self.__dataclass_fields__}
        columns["told_at"] = told_at
        columns["counts"] = db.json_text(self.counts)
        columns["items"] = db.json_text([_as_json(item) for item in self.items])
        return columns

    def as_json(self) -> dict[str, Any]:
        """The record as JSON values; :meth:`from_json` gives it back."""
        return {**_as_json(self), "items": [_as_json(item) for item in self.items]}

    def as_line(self) -> str:
        """The record as one line of JSON, in ASCII. A value that JSON cannot hold is named by its
        type: a bug in a count must not cost the record."""
        return json.dumps(self.as_json(), default=lambda v: type(v).__name__)

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> RunRecord:
        """A record from :meth:`as_json`; raises ValueError, TypeError or KeyError for others."""
        items = tuple(_checked(RunItem(**_with_times(item))) for item in told["items"])
        return _checked(cls(**{**_with_times(told), "items": items}))


def _as_json(part: RunItem | RunRecord) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(part).items()
    }


def _with_times(told: Mapping[str, Any]) -> dict[str, Any]:
    times = {name: TIME.read(told[name]) for name in _RUN_TIMES if told[name]}
    return {**told, **times}


# What a value of a record may be, by the annotation of its field: a file may hold anything.
_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,), "str | None": (str, NoneType), "int": (int,), "int | None": (int, NoneType),
    "bool": (bool,), "datetime": (datetime,), "datetime | None": (datetime, NoneType),
    "dict[str, Any]": (dict,), "tuple[RunItem, ...]": (tuple,),
}  # fmt: skip


def _checked(part: T) -> T:
    """The part itself; raises TypeError where a value is not of its field's type."""
    for field_ in fields(part):
        if type(getattr(part, field_.name)) not in _TYPES[str(field_.type)]:
            raise TypeError(field_.name)
    return part
