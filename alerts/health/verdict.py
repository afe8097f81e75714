"""The one table of rules, and the verdict drawn from what they find."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from alerts.health import (
    rules_channels,
    rules_engine,
    rules_input,
    rules_runs,
    rules_sending,
    rules_setup,
    rules_success,
)
from alerts.health.facts import Facts
from alerts.health.order import arranged
from alerts.health.reasons import NOTE, SEVERITIES, Reason

# Pure functions of the facts. Reasons of equal severity are told in this order.
RULES: tuple[Callable[[Facts], Iterable[Reason]], ...] = (
    rules_setup.migrations_pending,
    rules_engine.paused,
    rules_engine.switched_off,
    rules_engine.dry_run,
    rules_runs.runs_not_recorded,
    rules_engine.two_deployments,
    rules_channels.misconfigured,
    rules_channels.channel_held,
    rules_channels.refused_at_once,
    rules_channels.channel_closed,
    rules_runs.phase_locked_out,
    rules_success.no_recent_success,
    rules_runs.last_run_failed,
    rules_runs.never_run,
    rules_runs.run_stale,
    rules_runs.run_lost,
    rules_sending.cap_reached,
    rules_channels.channel_failing,
    rules_sending.queue_waiting,
    rules_sending.sending_stuck,
    rules_sending.parked,
    rules_channels.channel_not_configured,
    rules_sending.attempts_exhausted,
    rules_sending.recipients_refused,
    rules_input.input_stale,
    rules_engine.allowlist,
    rules_runs.runs_late,
    rules_setup.clock_skew,
    rules_setup.records_spooled,
    rules_setup.token_too_short,
    rules_setup.figures_wrong,
    rules_input.nothing_risky,
    rules_engine.channel_off,
)


def verdict(facts: Facts) -> dict[str, Any]:
    """``status``, the worst reason that is not a note, and all ``reasons``, causes first."""
    reasons = [reason for rule in RULES for reason in rule(facts)]
    worst = min((SEVERITIES.index(each.severity) for each in reasons), default=-1)
    status = "ok" if worst < 0 or SEVERITIES[worst] == NOTE else SEVERITIES[worst]
    return {"status": status, "reasons": arranged([each.as_json() for each in reasons])}
