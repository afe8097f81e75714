"""The one table of counts, and counts before they are stored: safe for anyone, and adding up."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

WARNING = "counts_do_not_add_up"
UNSAFE = "unsafe_value"
_DEEPEST = 4
_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True)
class Count:
    """A count of a phase; ``summary``: whether GitHub's job summary shows it."""

    name: str
    words: str
    summary: bool = False


# In the order that tells the story.
COUNTS = (
    Count("events_created", "events created", summary=True),
    Count("regional_risk_spikes", "regional risk spikes"),
    Count("asset_risk_spikes", "asset risk spikes"),
    Count("high_impact_events", "high impact events"),
    Count("events_existing", "events that were there already"),
    Count("events_processed", "events fanned out"),
    Count("events_expired", "events too old to fan out", summary=True),
    Count("deliveries_considered", "deliveries considered"),
    Count("deliveries_created", "deliveries created", summary=True),
    Count("instant_created", "of them instant"),
    Count("digest_created", "of them for a digest"),
    Count("overflow_to_digest", "over the daily quota, moved to a digest"),
    Count("deliveries_skipped_channel_off", "channel switched off"),
    Count("deliveries_skipped_plan_type", "not in the user's plan"),
    Count("deliveries_skipped_prefs", "not what the user asked for"),
    Count("deliveries_skipped_missing_destination", "user without an address there"),
    Count("deliveries_skipped_channel_not_in_plan", "channel not in the user's plan"),
    Count("deliveries_skipped_exists", "delivered before"),
    Count("deliveries_skipped_quota", "over the daily quota"),
    Count("allowlist_active", "only users of the allowlist"),
    Count("windows_built", "digest windows closed"),
    Count("digests_created", "digests created", summary=True),
    Count("digest_items_attached", "alerts put into digests"),
    Count("deliveries_marked_batched", "deliveries that a digest carries"),
    Count("deliveries", "deliveries"),
    Count("digests", "digests"),
    Count("rescued", "rescued from a lost run", summary=True),
    Count("claimed", "claimed"),
    Count("sent", "sent", summary=True),
    Count("failed", "failed", summary=True),
    Count("retried", "to be tried again", summary=True),
    Count("released", "put back untried", summary=True),
    Count("skipped_not_configured", "skipped, no provider", summary=True),
    Count("skipped_missing_destination", "skipped, no address", summary=True),
    Count("skipped_expired", "skipped, too old", summary=True),
    Count("skipped_channel_disabled", "skipped, switched off by the user", summary=True),
    Count("claims_lost", "outcomes that came too late"),
    Count("channels_held", "channel held"),
    Count("channels_closed", "channel closed"),
    Count("channels", "channel"),
    Count("configured", "configured"),
    Count("held", "held"),
    Count("paused", "paused"),
    Count("rate_limited", "asked to slow down"),
    Count("stopped_early", "stopped early"),
    Count("sender", "number of this sender"),
    Count("skipped", "skipped"),
    Count("warning", "warning"),
)

# What a phase's total is the sum of.
_FUNNELS: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "a": (("events_created", ("regional_risk_spikes", "asset_risk_spikes", "high_impact_events")),),
    "b": (
        ("deliveries_created", ("instant_created", "digest_created")),
        ("deliveries_considered", ("deliveries_created", "deliveries_skipped_*")),
    ),
    "d": (("digest_items_attached", ("deliveries_marked_batched",)),),
    "c": (("claimed", ("sent", "failed", "retried", "released", "skipped_*")),),
}


_BY_NAME = {count.name: count for count in COUNTS}
_PLACES = {name: place for place, name in enumerate(_BY_NAME)}


def words(name: str) -> str:
    """A count in words; a count that is not in the table keeps its name."""
    return _BY_NAME[name].words if name in _BY_NAME else name.replace("_", " ")


def in_order(counts: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Names and values in the table's order, unknown ones last: the database keeps no order."""
    return sorted(counts.items(), key=lambda pair: _PLACES.get(pair[0], len(_PLACES)))


def flat(counts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Counts and counts within them, in words and in order: ``deliveries: sent`` and so on."""
    found: list[tuple[str, Any]] = []
    for name, value in in_order(counts):
        told = f"{prefix}{words(name)}"
        if isinstance(value, Mapping):
            found += flat(value, f"{told}: ")
        else:
            found.append((told, value))
    return found


def checked(counts: Mapping[Any, Any]) -> tuple[dict[str, Any], list[str]]:
    """Integers, booleans, codes and objects of them; and the names of those that were not.

    A number that is whole becomes an integer. Anything else is replaced by a code: counts are
    shown to people and must not carry a text along, but a bug in them must not cost the row.
    """
    problems: list[str] = []
    return _checked_object(counts, problems, ""), problems


def adds_up(phase: str, counts: Mapping[str, Any]) -> bool:
    """Whether every total of the phase is the sum of its parts; true where there is none."""
    parts = [counts]
    if phase == "c":
        parts = [v for v in counts.values() if isinstance(v, Mapping) and "claimed" in v]
    return all(
        _total(part, (total,)) == _total(part, names)
        for part in parts
        for total, names in _FUNNELS.get(phase, ())
        if total in part
    )


def _total(counts: Mapping[str, Any], names: tuple[str, ...]) -> int:
    total = 0
    for key, value in counts.items():
        wanted = any(
            key.startswith(name[:-1]) if name.endswith("*") else key == name for name in names
        )
        if wanted and isinstance(value, int):
            total += value
    return total


def _checked_object(
    counts: Mapping[Any, Any], problems: list[str], path: str, depth: int = 1
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for place, (key, value) in enumerate(counts.items()):
        name = key if isinstance(key, str) and _CODE.fullmatch(key) else f"{UNSAFE}_{place}"
        if name != key:
            problems.append(path + name)
        found[name] = _checked_value(value, problems, path + name, depth)
    return found


def _checked_value(value: Any, problems: list[str], path: str, depth: int) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str) and _CODE.fullmatch(value):
        return str(value)
    if isinstance(value, Mapping) and depth < _DEEPEST:
        return _checked_object(value, problems, f"{path}.", depth + 1)
    problems.append(path)
    return int(value) if _is_whole(value) else UNSAFE


def _is_whole(value: Any) -> bool:
    if isinstance(value, Decimal):
        finite = value.is_finite()
    else:
        finite = isinstance(value, float) and math.isfinite(value)
    return finite and abs(value) < 2**63 and value == int(value)
