"""The one table of rules, and the verdict drawn from what they find."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from alerts.health import rules_runs, rules_sending, rules_setup
from alerts.health.facts import Facts
from alerts.health.order import arranged
from alerts.health.reasons import NOTE, SEVERITIES, Reason

# Pure functions of the facts. Reasons of one weight are told in this order.
RULES: tuple[Callable[[Facts], Iterable[Reason]], ...] = (
    rules_runs.paused,
    rules_setup.misconfigured,
    rules_runs.phase_locked_out,
    rules_runs.no_recent_success,
    rules_runs.last_run_failed,
    rules_runs.never_run,
    rules_sending.queue_waiting,
    rules_runs.run_stale,
    rules_sending.sending_stuck,
    rules_sending.channel_not_configured,
    rules_sending.channel_failing,
    rules_setup.clock_skew,
    rules_setup.token_too_short,
    rules_setup.figures_wrong,
)


def verdict(facts: Facts) -> dict[str, Any]:
    """``status``, the worst of the reasons but for notes, and all ``reasons``, causes first."""
    reasons = [reason for rule in RULES for reason in rule(facts)]
    worst = min((SEVERITIES.index(each.severity) for each in reasons), default=-1)
    status = "ok" if worst < 0 or SEVERITIES[worst] == NOTE else SEVERITIES[worst]
    return {"status": status, "reasons": arranged([each.as_json() for each in reasons])}
