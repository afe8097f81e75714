"""Reasons that lie in what comes in: nothing came, or nothing of it was risky."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from alerts.health.facts import Facts
from alerts.health.reasons import DEGRADED, NOTE, Reason
from alerts.phases.generate import FIRES_AT

QUIET = timedelta(hours=24)


def input_stale(facts: Facts) -> Iterator[Reason]:
    """No new risk score has come for too long."""
    newest, hours = facts.input.newest_score, facts.engine.input_max_age_hours
    if newest is None or not hours or facts.business.ago(newest) <= timedelta(hours=hours):
        return
    message = (
        f"No new risk score has come since {facts.business.at(newest)}, which is "
        f"{facts.business.age(newest)} ago: no alert can arise from prices and regions."
    )
    action = "Look at the program that calculates the scores; the engine itself is not the cause."
    yield Reason("input_stale", DEGRADED, message, action, newest)


def nothing_risky(facts: Facts) -> Iterator[Reason]:
    """Scores came, and none was high enough."""
    found, highest = facts.input, facts.input.highest
    if highest is None or highest["score"] is None or highest["score"] >= FIRES_AT:
        return
    if found.newest_alert is not None and facts.business.ago(found.newest_alert) < QUIET:
        return
    asset = f"{highest['asset']} in " if highest["asset"] else ""
    message = (
        "Nothing was risky enough for an alert in the last 24 hours: the highest score was "
        f"{highest['score']:.4g} ({asset}{highest['region']}), and an alert takes {FIRES_AT}."
    )
    since = found.newest_alert
    if since is not None:
        message = f"{message[:-1]}; the last alert was made at {facts.business.at(since)}."
    yield Reason("nothing_risky", NOTE, message, "Nothing.", since)
