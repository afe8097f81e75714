"""Counts before they are stored: only what is safe in a row that anyone may read, and adding up."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

WARNING = "counts_do_not_add_up"
UNSAFE = "unsafe_value"
_DEEPEST = 4
_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")

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
