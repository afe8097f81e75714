"""Reasons that lie in the set-up: migrations, clocks, tokens, figures that may be wrong."""

from __future__ import annotations

from collections.abc import Iterator

from alerts import VERSION, words
from alerts.db import MIGRATE
from alerts.health.facts import Facts
from alerts.health.reasons import DEGRADED, Reason
from alerts.settings.tokens import GOOD_TOKEN, MAKE_TOKEN

SKEW_TOLD_SECONDS = 30


def migrations_pending(facts: Facts) -> Iterator[Reason]:
    """The database is older than this version."""
    lacking = facts.around.lacking
    if not lacking:
        return
    names = words.listed(lacking)
    last = facts.runs.last_finished
    failing = last is not None and last["status"] == "failed"
    breaks = "runs fail because of it" if failing else "nothing has failed because of it yet"
    message = (
        f"The database lacks the {words.verb(len(lacking), 'migration', 'migrations')} {names} of "
        f"version {VERSION}; {breaks}."
    )
    action = f"{words.capital(MIGRATE)} on this database."
    yield Reason("migrations_pending", DEGRADED, message, action, page="/ops/setup")


def clock_skew(facts: Facts) -> Iterator[Reason]:
    """The runner's clock is wrong."""
    skew = facts.runs.clock_skew_seconds
    if skew is not None and abs(skew) >= SKEW_TOLD_SECONDS:
        side = "ahead of" if skew > 0 else "behind"
        message = (
            f"The clock of the machine that runs the engine is {words.duration(abs(skew))} "
            f"{side} the database's."
        )
        action = "Set that clock: quotas, windows and ages go by it."
        yield Reason("clock_skew", DEGRADED, message, action, page="/ops/setup")


def records_spooled(facts: Facts) -> Iterator[Reason]:
    """Records of runs wait beside the runner, and do not come back by themselves."""
    amount, since = facts.runs.spooled_records, facts.runs.spooled_since
    if not amount:
        return
    told = f" (the oldest of {facts.wall.at(since)})" if since else ""
    message = (
        f"{words.count(amount, 'record')} of runs{told} {words.verb(amount, 'waits', 'wait')} in "
        "a file beside the runner, as the database has not taken "
        f"{words.verb(amount, 'it', 'them')}."
    )
    action = (
        "On that machine see why above each line of the file that ALERTS_RUN_SPOOL names (or its "
        ".rejected), mend it, and run python -m alerts replay-spool FILE."
    )
    yield Reason("records_spooled", DEGRADED, message, action, since, page="/ops/runs")


def token_too_short(facts: Facts) -> Iterator[Reason]:
    """A token is easily guessed."""
    if facts.weak_tokens:
        names = words.listed(facts.weak_tokens)
        are = words.verb(len(facts.weak_tokens), "is", "are")
        message = f"{names} {are} shorter than {GOOD_TOKEN} characters."
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
