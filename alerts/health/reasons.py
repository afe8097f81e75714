"""When delivery health is failing or degraded, and what it tells the owner to look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from alerts.db import Row
from alerts.failures import FailureCode
from alerts.health.runs import LockedOut
from alerts.paging import iso
from alerts.settings.tokens import GOOD_TOKEN, MAKE_TOKEN

INTERVALS_WITHOUT_SUCCESS = 3
INTERVALS_QUEUE_MAY_WAIT = 2
FAILING_SHARE = 0.05
FAILING_AT_LEAST = 5
# One run that finds a phase under way is nothing; the next one would find it done. Of several hosts
# that start together all but one find it so: counted for each of ALERTS_SENDERS.
LOCKED_OUT_AT_LEAST = 2
SKEW_TOLD_SECONDS = 30


@dataclass(frozen=True)
class Facts:
    """What the reasons follow from. Minutes are since; None: never."""

    expected_minutes: int
    last_finished_status: str | None
    last_success_minutes: float | None
    stale_runs: int
    oldest_minutes: float
    lapsed_claims: int
    not_configured: int
    channels: dict[str, dict[str, int]]
    paused: list[dict[str, Any]]
    held: dict[str, str]  # by channel the code, in the last finished run
    counts_stale_since: datetime | None  # a change was not counted; None: all were
    queue_differs: bool  # from what is to be sent by the counts
    enabled: bool = True
    misconfigured: dict[str, list[str]] = field(default_factory=dict)  # by channel the variables
    locked_out: tuple[tuple[LockedOut, list[Row]], ...] = ()  # with who holds its locks
    clock_skew_seconds: int | None = None  # how far ahead the runner's clock is
    weak_tokens: tuple[str, ...] = ()  # variables


def failing_reasons(facts: Facts) -> list[tuple[str, str]]:
    """Code and sentence of everything that makes the engine failing."""
    reasons: list[tuple[str, str]] = []
    if facts.last_finished_status is None:
        return reasons  # never_run
    limit = INTERVALS_WITHOUT_SUCCESS * facts.expected_minutes
    if facts.last_success_minutes is None:
        reasons.append(("no_recent_success", "No run has succeeded yet; look at the last runs."))
    elif facts.last_success_minutes > limit:
        ago = round(facts.last_success_minutes)
        look = "see if the scheduler still starts runs"
        if any(each["channel"] is None for each in facts.paused):
            look = "the engine is paused, resume it"
        elif not facts.enabled:
            look = "ALERTS_V2_ENABLED turns the engine off"
        text = f"The last success was {ago} minutes ago; {look}."
        reasons.append(("no_recent_success", text))
    if facts.last_finished_status == "failed":
        held = ", ".join(f"{name} ({code})" for name, code in sorted(facts.held.items()))
        text = "The last finished run failed; its error_summary says why."
        if held:
            text = f"The last finished run failed, it held {held}: mend that, its messages wait."
        reasons.append(("last_run_failed", text))
    return reasons


def degraded_reasons(facts: Facts) -> list[tuple[str, str]]:
    """Code and sentence of everything that makes it degraded."""
    reasons: list[tuple[str, str]] = []
    for each in facts.paused:
        name = each["channel"] or "The engine"
        text = f"{name} is paused since {each['paused_at']}: {each['reason']}"
        reasons.append(("paused", text))
    if facts.last_finished_status is None:
        reasons.append(("never_run", "No run has finished yet; start one."))
    if facts.oldest_minutes > INTERVALS_QUEUE_MAY_WAIT * facts.expected_minutes:
        look = "resume what is paused" if facts.paused else "see phase c"
        text = f"A due message has waited for {round(facts.oldest_minutes)} minutes; {look}."
        reasons.append(("queue_waiting", text))
    if facts.stale_runs:
        text = f"{facts.stale_runs} run(s) stopped without a word; the next run closes them."
        reasons.append(("run_stale", text))
    if facts.lapsed_claims:
        text = f"{facts.lapsed_claims} claimed message(s) lost their sender; the next run rescues."
        reasons.append(("sending_stuck", text))
    if facts.not_configured:
        text = (
            f"{facts.not_configured} message(s) were skipped for want of a provider; run the "
            "preflight, then retry with include=not_configured."
        )
        reasons.append((FailureCode.CHANNEL_NOT_CONFIGURED.value, text))
    for channel, counts in facts.channels.items():
        failed, tried = counts["failed"], counts["failed"] + counts["sent"]
        if failed >= FAILING_AT_LEAST and failed > FAILING_SHARE * tried:
            text = f"{failed} of {tried} on {channel} failed in 24 h; see failures_24h."
            reasons.append(("channel_failing", text))
    reasons += _around_the_runs(facts)
    if facts.counts_stale_since is not None:
        text = (
            f"Not every change since {iso(facts.counts_stale_since)} was counted, so these figures "
            "may be wrong; run python -m alerts rebuild."
        )
        reasons.append(("counts_stale", text))
    elif facts.queue_differs:
        text = (
            "The send queue does not hold exactly what is queued, so messages may never be sent; "
            "run python -m alerts rebuild."
        )
        reasons.append(("queue_differs", text))
    return reasons


def _around_the_runs(facts: Facts) -> list[tuple[str, str]]:
    """What is wrong with that by which the engine runs: locks, settings, clocks, tokens."""
    reasons = [_locked_out(each, holders) for each, holders in facts.locked_out]
    for channel, variables in facts.misconfigured.items():
        text = (
            f"{channel} cannot be used: {', '.join(variables)} is not as it should be; the "
            "preflight says what it takes. Its messages wait."
        )
        reasons.append((FailureCode.MISCONFIGURED.value, text))
    skew = facts.clock_skew_seconds
    if skew is not None and abs(skew) >= SKEW_TOLD_SECONDS:
        text = (
            f"The clock of the machine that runs the engine is {_duration(abs(skew))} "
            f"{'ahead of' if skew > 0 else 'behind'} the database's; set it."
        )
        reasons.append(("clock_skew", text))
    if facts.weak_tokens:
        text = (
            f"{' and '.join(facts.weak_tokens)} is shorter than {GOOD_TOKEN} characters; make a "
            f"good one with {MAKE_TOKEN}"
        )
        reasons.append(("token_too_short", text))
    return reasons


def _locked_out(each: LockedOut, holders: list[Row]) -> tuple[str, str]:
    """A phase that something else keeps from running, and who that is."""
    name = f"Phase {each.phase.letter} ({each.phase.name})"
    by = "nobody holds its lock now"
    if holders:
        oldest = holders[0]  # the likeliest to hang
        application = oldest["application_name"] or "another role's session"
        start = oldest["backend_start"]
        connected = f", connected since {iso(start)}," if start else ""
        holds = "holds its lock"
        if len(holders) > 1:
            holds = f"holds one of its {len(holders)} locks, the longest"
        by = (
            f"{application}{connected} {holds}; if nothing works there, end it: "
            f"SELECT pg_terminate_backend({oldest['pid']})"
        )
    return (
        "phase_locked_out",
        f"{name} has not run since {iso(each.since)}, in {each.runs} runs: {by}.",
    )


def _duration(seconds: int) -> str:
    for size, name in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {name}"
    return f"{seconds} seconds"
