"""Why none of a user's preferences matches an event: what came closest, and by how much."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alerts import db, words
from alerts.messages.wording import REGION_MAX, bounded_line, name_of_type

_CONDITIONS = ("type", "region", "asset", "threshold")


def why_none_matches(rules: db.Row, event: db.Row) -> str:
    """The end of a sentence. ``rules`` is explain's row of the decision."""
    closest, rows, on = rules["closest"], rules["preferences"], rules["preferences_on"]
    missed = [name for name in _CONDITIONS if closest[f"misses_{name}"]]
    if not rows:
        told = words.listed(_is(name, closest, event) for name in missed)
        return f"{_DEFAULT}, and this alert {told}"
    if not on:
        return _all_off(rows, fits=not missed)
    which = "the user's only preference" if rows == 1 else "the closest of the user's preferences"
    if not missed:
        return "a preference of the user that would match is switched off"
    if not closest["enabled"]:
        which = f"{which}, one that is switched off,"
    if len(missed) == 1:
        told = _is(missed[0], closest, event)
        return f"{which} {_asks(missed[0], closest, event)}, and this alert {told}"
    differing = words.listed(_named(name, event) for name in missed)
    return f"{which} differs in {differing}"


_DEFAULT = (
    "the user has set no preferences, which means high-impact events in Europe of severity 4 or "
    "more"
)


def types(alert_type: str) -> str:
    """``regional risk spikes``."""
    return f"{name_of_type(alert_type).lower()}s"


def _all_off(rows: int, *, fits: bool) -> str:
    if rows == 1:
        also = "; switched on, it would match" if fits else ""
        return f"the user's only preference is switched off{also}"
    also = "; at least one of them would match" if fits else ""
    return f"all {rows} of the user's preferences are switched off{also}"


def _asks(name: str, closest: Mapping[str, Any], event: db.Row) -> str:
    """What the preference asks for, where the event has something else."""
    if name == "type":
        return f"is for {types(closest['alert_type'])}"
    if name == "threshold":
        return f"asks for a {_measure(event)} of at least {closest['threshold']:g}"
    return f"is for {_clean(closest[name])}"


def _is(name: str, closest: Mapping[str, Any], event: db.Row) -> str:
    """What the event has in its place; of a score, by how much it is too low."""
    if name == "type":
        kind = name_of_type(event["alert_type"]).lower()
        return f"is {'an' if kind[0] in 'aeiou' else 'a'} {kind}"
    if name == "region":
        return f"is about {_clean(event['region'])}"
    if name == "asset":
        assets = words.listed(map(_clean, event["assets"]))
        return f"is about {assets}" if assets else "is about no asset in particular"
    found, least = closest["measure"], closest["threshold"]
    if found is None:
        return "has none"
    return f"has {found:g}, {round(least - found, 6):g} too low"


def _named(name: str, event: db.Row) -> str:
    return f"the {_measure(event)} it asks for" if name == "threshold" else name


def _measure(event: db.Row) -> str:
    """What a threshold is compared with, as in fan-out."""
    return "severity" if event["alert_type"] == "HIGH_IMPACT_EVENT" else "risk score"


def _clean(name: str) -> str:
    return bounded_line(name, REGION_MAX)
