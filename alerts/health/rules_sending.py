"""Reasons that lie in the messages: they wait, they fail, nobody knows what became of them."""

from __future__ import annotations

from collections.abc import Iterator

from alerts import words
from alerts.failures import FailureCode
from alerts.health.facts import Facts
from alerts.health.reasons import DEGRADED, Reason

INTERVALS_QUEUE_MAY_WAIT = 2
FAILING_SHARE = 0.05
FAILING_AT_LEAST = 5


def queue_waiting(facts: Facts) -> Iterator[Reason]:
    """Messages that are due wait longer than two intervals."""
    since = {
        name: due
        for name, due in facts.oldest_due.items()
        if facts.business.ago(due) > INTERVALS_QUEUE_MAY_WAIT * facts.interval
    }
    if not since:
        return
    oldest, names = min(since.values()), words.listed(words.channel(name) for name in since)
    message = f"Messages that are due wait since {facts.business.at(oldest)}, on {names}."
    action = "Look at what the last run says of sending."
    if facts.paused:
        action = "Resume what is paused."
    channel = next(iter(since)) if len(since) == 1 else None
    page = "/ops/messages?status=queued" + (f"&channel={channel}" if channel else "")
    yield Reason("queue_waiting", DEGRADED, message, action, oldest, channel, page=page)


def sending_stuck(facts: Facts) -> Iterator[Reason]:
    """A claim has lapsed."""
    if facts.lapsed_claims:
        told = words.count(facts.lapsed_claims, "message")
        message = f"{told} lost their sender and may or may not have gone out."
        action = "Nothing to do: the next run takes them over."
        yield Reason(
            "sending_stuck", DEGRADED, message, action, page="/ops/messages?status=sending"
        )


def channel_not_configured(facts: Facts) -> Iterator[Reason]:
    """Messages were skipped for want of a provider."""
    if facts.not_configured:
        told = words.count(facts.not_configured, "message")
        message = f"{told} of the last 24 hours were skipped, as their channel has no provider."
        action = "Set its provider where the engine runs, then send them with the retry page."
        code = FailureCode.CHANNEL_NOT_CONFIGURED.value
        page = "/ops/retry?kind=deliveries&include=not_configured"
        yield Reason(code, DEGRADED, message, action, page=page)


def channel_failing(facts: Facts) -> Iterator[Reason]:
    """Too many messages of a channel failed."""
    for channel, counts in facts.deliveries_24h.items():
        failed, tried = counts["failed"], counts["failed"] + counts["sent"]
        if failed >= FAILING_AT_LEAST and failed > FAILING_SHARE * tried:
            name = words.channel(channel)
            message = f"{failed:,} of {tried:,} messages on {name} failed in the last 24 hours."
            action = "See why under failures; send them again once the cause is gone."
            page = f"/ops/failures?channel={channel}"
            yield Reason("channel_failing", DEGRADED, message, action, None, channel, page=page)
