"""Reasons that lie in the messages: they wait, they were given up, nobody knows what became of
them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from alerts import words
from alerts.failures import FailureClass, FailureCode
from alerts.health.facts import Facts
from alerts.health.reasons import DEGRADED, NOTE, Reason

INTERVALS_QUEUE_MAY_WAIT = 2
# One run that ends at its limit is a burst; the next one goes on.
CAPPED_AT_LEAST = 2


def queue_waiting(facts: Facts) -> Iterator[Reason]:
    """Messages that are due wait longer than two intervals: a reason for each channel that is in
    trouble of its own, and one for all others."""
    since = {
        name: due
        for name, due in facts.oldest_due.items()
        if facts.business.ago(due) > INTERVALS_QUEUE_MAY_WAIT * facts.interval
    }
    troubled = [
        name
        for name in since
        if facts.channels[name]["paused"] or facts.channels[name]["state"] in ("closed", "held")
    ]
    others = [name for name in since if name not in troubled]
    groups = [[name] for name in troubled] + ([others] if others else [])
    for names in groups:
        oldest = min(since[name] for name in names)
        on = words.listed(words.channel(name) for name in names)
        message = f"Messages on {on} have been due since {facts.business.at(oldest)} and wait."
        action = "Look at what the last run says of sending."
        channel = names[0] if len(names) == 1 else None
        page = "/ops/messages?status=queued" + (f"&channel={channel}" if channel else "")
        yield Reason("queue_waiting", DEGRADED, message, action, oldest, channel, page=page)


def cap_reached(facts: Facts) -> Iterator[Reason]:
    """Runs end before the queue does."""
    ended = []
    for run in facts.runs.recent:
        if run["status"] == "running" or "c" not in (run["skipped"] or {}):
            continue  # one that sent nothing, as a phase alone
        if run["stopped_early"] not in ("cap", "deadline"):
            break
        ended.append(run)
    waiting = sum(channel["waiting"] for channel in facts.channels.values())
    if not ended or not waiting:
        return
    since = datetime.fromisoformat(ended[-1]["started_at"])
    cap = ended[0]["stopped_early"] == "cap"
    limit = words.count(facts.engine.max_send_per_run, "message") if cap else "time"
    which = f"The last {len(ended)} runs, since" if len(ended) > 1 else "The run of"
    message = (
        f"{which} {facts.wall.at(since)}{',' if len(ended) > 1 else ''} ended at the limit of "
        f"{limit}, and {words.count(waiting, 'message')} still "
        f"{words.verb(waiting, 'waits', 'wait')}; {words.count(facts.came_in, 'message')} came in "
        "within the last hour."
    )
    action = f"Raise ALERTS_MAX_SEND_PER_RUN {facts.place()}."
    if not cap:
        action = "Give runs more time, or let several hosts send (ALERTS_SENDERS)."
    severity = DEGRADED if len(ended) >= CAPPED_AT_LEAST else NOTE
    yield Reason("cap_reached", severity, message, action, since, page="/ops/runs")


def sending_stuck(facts: Facts) -> Iterator[Reason]:
    """Claims have lapsed."""
    if facts.lapsed_claims:
        told = words.count(facts.lapsed_claims, "message")
        its = words.verb(facts.lapsed_claims, "its", "their")
        message = f"{told} lost {its} sender and may or may not have gone out."
        action = "Nothing at once: the next run takes over."
        page = "/ops/messages?status=sending"
        yield Reason("sending_stuck", DEGRADED, message, action, page=page)


def parked(facts: Facts) -> Iterator[Reason]:
    """Messages that may have gone out and are not sent again by themselves."""
    for name, channel in facts.channels.items():
        amount = channel["in_doubt"]["failed"]
        if not amount:
            continue
        message = (
            f"{facts.messages_on(amount, name)} of the last 7 days may or may not have been "
            f"delivered, as no answer came; {words.verb(amount, 'it is', 'they are')} not sent "
            f"again by {words.verb(amount, 'itself', 'themselves')}."
        )
        action = (
            f"Look {words.verb(amount, 'it', 'them')} up with {facts.who(name)}; send again what "
            "is missing with the retry page, or retry-failed deliveries --include unknown."
        )
        page = f"/ops/retry?kind=deliveries&channel={name}&include=unknown"
        yield Reason("parked", DEGRADED, message, action, None, name, page=page)


def attempts_exhausted(facts: Facts) -> Iterator[Reason]:
    """Messages of the last day that were given up after the last attempt."""
    for name, tally in facts.last_day.items():
        for code, amount in sorted(tally.failed.items()):
            if words.class_of(code) is not FailureClass.TRANSIENT:
                continue
            message = (
                f"{facts.messages_on(amount, name)} {words.verb(amount, 'was', 'were')} given up "
                f"in the last 24 hours, after the last attempt, because "
                f"{words.because(code, facts.who(name))}."
            )
            it = words.verb(amount, "it", "them")
            action = (
                f"Once that is over, send {it} again with the retry page, or retry-failed "
                f"deliveries --channel {name} --failure-code {code} --include exhausted."
            )
            page = (
                f"/ops/retry?kind=deliveries&channel={name}&failure_code={code}&include=exhausted"
            )
            yield Reason("attempts_exhausted", NOTE, message, action, None, name, page=page)


_ASK = "Ask the {users} for another address; sending again to this one will not help."
_REFUSED = {
    FailureCode.RECIPIENT_BLOCKED: (
        "{recipients} on {channel} {have} blocked us in the last 24 hours",
        "Ask the {users}; sending again will not help.",
    ),
    FailureCode.RECIPIENT_INVALID: (
        "{recipients} on {channel} {have} an address that is not valid or does not exist",
        _ASK,
    ),
    FailureCode.PAYLOAD_INVALID: (
        "{messages} {were} not accepted for what {it} {hold}",
        "This is a defect of ours: see the log of the run that sent {it}.",
    ),
}


def recipients_refused(facts: Facts) -> Iterator[Reason]:
    """Messages of the last day that will never be taken as they are."""
    for name, tally in facts.last_day.items():
        for code, (message, action) in _REFUSED.items():
            amount = tally.failed.get(code.value, 0)
            if not amount:
                continue
            says = {
                "recipients": words.count(amount, "recipient"),
                "messages": facts.messages_on(amount, name),
                "channel": words.channel(name),
                "have": words.verb(amount, "has", "have"),
                "were": words.verb(amount, "was", "were"),
                "it": words.verb(amount, "it", "them" if "log" in action else "they"),
                "hold": words.verb(amount, "holds", "hold"),
                "users": words.verb(amount, "user", "users"),
            }
            page = f"/ops/messages?status=failed&channel={name}&failure_code={code.value}"
            told = f"{message.format(**says)}."
            yield Reason(
                "recipients_refused", NOTE, told, action.format(**says), None, name, page=page
            )
