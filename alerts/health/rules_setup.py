"""Reasons that lie in the set-up: settings, clocks, tokens, figures that may be wrong."""

from __future__ import annotations

from collections.abc import Iterator

from alerts import words
from alerts.failures import FailureCode
from alerts.health.facts import Facts
from alerts.health.reasons import DEGRADED, Reason
from alerts.settings.tokens import GOOD_TOKEN, MAKE_TOKEN

SKEW_TOLD_SECONDS = 30


def misconfigured(facts: Facts) -> Iterator[Reason]:
    """Channels whose settings cannot be used."""
    for channel, variables in facts.misconfigured.items():
        message = (
            f"{words.capital(words.channel(channel))} cannot be used: {words.listed(variables)} "
            f"{words.verb(len(variables), 'is', 'are')} not as it should be; its messages wait."
        )
        action = "The preflight says what it takes; the run after it is mended sends."
        code = FailureCode.MISCONFIGURED.value
        yield Reason(code, DEGRADED, message, action, None, channel, page="/ops/setup")


def clock_skew(facts: Facts) -> Iterator[Reason]:
    """The runner's clock is wrong."""
    skew = facts.runs.clock_skew_seconds
    if skew is not None and abs(skew) >= SKEW_TOLD_SECONDS:
        side = "ahead of" if skew > 0 else "behind"
        message = (
            f"The clock of the machine that runs the engine is {words.duration(abs(skew))} "
            f"{side} the database's."
        )
        yield Reason("clock_skew", DEGRADED, message, "Set that clock.", page="/ops/setup")


def token_too_short(facts: Facts) -> Iterator[Reason]:
    """A token is easily guessed."""
    if facts.weak_tokens:
        names = words.listed(facts.weak_tokens)
        message = f"{names} is shorter than {GOOD_TOKEN} characters."
        action = f"Make a good one with {MAKE_TOKEN}"
        yield Reason("token_too_short", DEGRADED, message, action, page="/ops/setup")


def figures_wrong(facts: Facts) -> Iterator[Reason]:
    """The counts or the queue are not what the rows are."""
    rebuild = "Run python -m alerts rebuild."
    since = facts.counts_stale_since
    if since is not None:
        message = (
            f"Not every change since {facts.wall.at(since)} was counted, so these figures may be "
            "wrong."
        )
        yield Reason("counts_stale", DEGRADED, message, rebuild, since, page="/ops/setup")
    elif facts.queue_differs:
        message = (
            "The send queue does not hold exactly what is queued, so messages may never be sent."
        )
        yield Reason("queue_differs", DEGRADED, message, rebuild, page="/ops/setup")
