"""What the engine runs with, as its runs say: the web app has variables of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import takewhile
from typing import Any

from alerts import db
from alerts.channels.choosing import ChannelProblem
from alerts.paging import iso
from alerts.settings.config import Settings

KEPT = 50  # changes

# One row per change: a run with the settings of the newest row extends it, any other adds a row.
# Wall time.
STORE_STATE = """
WITH told AS (
    SELECT
        %(git_sha)s::text AS git_sha,
        %(enabled)s::boolean AS enabled,
        %(allowlist)s::bigint[] AS allowlist,
        %(max_send_per_run)s::integer AS max_send_per_run,
        %(interval_minutes)s::integer AS interval_minutes,
        %(timezone)s::text AS timezone,
        %(digest_period)s::text AS digest_period,
        %(channels_configured)s::text[] AS channels_configured,
        %(channels_off)s::text[] AS channels_off,
        %(channels_misconfigured)s::jsonb AS channels_misconfigured,
        %(senders)s::integer AS senders,
        %(providers)s::jsonb AS providers,
        %(input_max_age_hours)s::integer AS input_max_age_hours
),
newest AS (
    SELECT * FROM alerts_engine_state ORDER BY id DESC LIMIT 1
),
same AS (
    UPDATE alerts_engine_state AS s
    SET last_run_id = %(run_id)s, last_at = clock_timestamp()
    FROM newest AS n, told AS t
    WHERE s.id = n.id
      AND (n.git_sha, n.enabled, n.allowlist, n.max_send_per_run, n.interval_minutes, n.timezone,
           n.digest_period, n.channels_configured, n.channels_off, n.channels_misconfigured,
           n.senders, n.providers, n.input_max_age_hours)
          IS NOT DISTINCT FROM
          (t.git_sha, t.enabled, t.allowlist, t.max_send_per_run, t.interval_minutes, t.timezone,
           t.digest_period, t.channels_configured, t.channels_off, t.channels_misconfigured,
           t.senders, t.providers, t.input_max_age_hours)
    RETURNING s.id
),
added AS (
    INSERT INTO alerts_engine_state (
        first_run_id, last_run_id, first_at, last_at, git_sha, enabled, allowlist,
        max_send_per_run, interval_minutes, timezone, digest_period, channels_configured,
        channels_off, channels_misconfigured, senders, providers, input_max_age_hours
    )
    SELECT %(run_id)s, %(run_id)s, clock_timestamp(), clock_timestamp(), t.*
    FROM told AS t
    WHERE NOT EXISTS (SELECT FROM same)
    RETURNING id
)
DELETE FROM alerts_engine_state
WHERE EXISTS (SELECT FROM added)
  AND id IN (SELECT id FROM alerts_engine_state ORDER BY id DESC OFFSET %(kept_before)s)
"""

# What the engine ran with, the newest first.
_STATES = """
SELECT
    first_at, last_at, git_sha, enabled, allowlist, max_send_per_run, interval_minutes, timezone,
    digest_period, channels_configured, channels_off, channels_misconfigured, senders,
    providers, input_max_age_hours
FROM alerts_engine_state
ORDER BY id DESC
LIMIT {}
"""
CURRENT = _STATES.format(1)
HISTORY = _STATES.format(KEPT)


@dataclass(frozen=True)
class EngineState:
    """What the engine last ran with; ``first_at`` None: no run has told yet, it is assumed."""

    enabled: bool
    allowlist: list[int] | None  # None: everyone
    max_send_per_run: int
    interval_minutes: int
    timezone: str
    channels_configured: list[str]
    channels_misconfigured: dict[str, list[str]]  # by channel the variables that are to blame
    digest_period: str = "daily"
    git_sha: str | None = None
    channels_off: list[str] | None = None
    senders: int = 1  # hosts that may send at once
    providers: dict[str, str] = field(default_factory=dict)  # by channel
    input_max_age_hours: int = 26
    first_at: datetime | None = None
    last_at: datetime | None = None

    def parameters(self, run_id: str) -> dict[str, Any]:
        """What :data:`STORE_STATE` takes."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        blamed = json.dumps(self.channels_misconfigured, sort_keys=True)
        return {
            **fields,
            "channels_misconfigured": blamed,
            "providers": json.dumps(self.providers, sort_keys=True),
            "run_id": run_id,
            "kept_before": KEPT - 1,
        }

    def what(self) -> dict[str, Any]:
        """The settings alone, without when they held."""
        names = [n for n in self.__dataclass_fields__ if n not in ("first_at", "last_at")]
        return {name: getattr(self, name) for name in names}

    def as_json(self) -> dict[str, Any]:
        """What health says of it; the allowlist's members are users and stay out."""
        listed = None if self.allowlist is None else len(self.allowlist)
        return {
            "since": self.first_at and iso(self.first_at),
            "git_sha": self.git_sha,
            "enabled": self.enabled,
            "allowlist_users": listed,
            "max_send_per_run": self.max_send_per_run,
            "interval_minutes": self.interval_minutes,
            "timezone": self.timezone,
            "digest_period": self.digest_period,
            "channels_configured": self.channels_configured,
            "channels_off": self.channels_off or [],
            "channels_misconfigured": self.channels_misconfigured,
            "senders": self.senders,
            "providers": self.providers,
            "input_max_age_hours": self.input_max_age_hours,
        }


def state_of(settings: Settings) -> EngineState:
    """What a run with these settings runs with."""
    channels = settings.channels
    return EngineState(
        git_sha=settings.github.sha,
        enabled=settings.enabled,
        allowlist=None if settings.allowlist is None else list(settings.allowlist),
        max_send_per_run=settings.max_send_per_run,
        interval_minutes=settings.expected_interval_minutes,
        timezone=settings.timezone.key,
        digest_period=settings.digest_period,
        channels_configured=sorted(channels.providers),
        channels_off=sorted(channels.off),
        channels_misconfigured=_blamed(channels.problems),
        senders=settings.senders,
        providers=dict(sorted(channels.providers.items())),
        input_max_age_hours=settings.input_max_age_hours,
    )


def _blamed(problems: Iterable[ChannelProblem]) -> dict[str, list[str]]:
    """By channel that is set up but cannot be used, the variables that are to blame."""
    found: dict[str, list[str]] = {}
    for problem in problems:
        found.setdefault(problem.channel, []).append(problem.variable)
    return found


def current(conn: db.Connection, settings: Settings) -> EngineState:
    """What the engine last ran with; before its first run what ``settings`` say."""
    return states_in(db.fetch_all(conn, CURRENT), settings)[0]


def states_in(rows: Sequence[Mapping[str, Any]], settings: Settings) -> list[EngineState]:
    """What :data:`CURRENT` or :data:`HISTORY` brought. Never empty: before the engine's first run
    it is what ``settings`` say."""
    return [EngineState(**row) for row in rows] or [state_of(settings)]


def history(conn: db.Connection, settings: Settings) -> list[EngineState]:
    """What the engine ran with, the newest first; before its first run what ``settings`` say."""
    return states_in(db.fetch_all(conn, HISTORY), settings)


def true_since(
    states: Iterable[EngineState], holds: Callable[[EngineState], bool]
) -> datetime | None:
    """Since when something has held in a :func:`history`; None where it does not hold now.

    Where it held in all that is kept, it may have held before as well.
    """
    held = [state.first_at for state in takewhile(holds, states) if state.first_at]
    return held[-1] if held else None


def is_off(channel: str, state: EngineState) -> bool:
    """Whether the owner had switched the channel off."""
    return channel in (state.channels_off or ())
