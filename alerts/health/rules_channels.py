"""Reasons that lie in a channel: closed, held, without its settings, or nothing gets through."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from alerts import words
from alerts.channels.provider import Provider
from alerts.failures import FailureClass, FailureCode
from alerts.health.facts import Facts, Tally
from alerts.health.reasons import DEGRADED, NOTE, Reason

FAILING_SHARE = 0.05
FAILING_AT_LEAST = 5
# So many that failed are trouble where not one got through.
ALL_FAILED_AT_LEAST = 3
_REFUSALS = (FailureClass.RECIPIENT, FailureClass.PAYLOAD)


def misconfigured(facts: Facts) -> Iterator[Reason]:
    """Channels whose settings cannot be used, or are gone."""
    code = FailureCode.MISCONFIGURED.value
    for name, channel in facts.channels.items():
        variables = facts.engine.channels_misconfigured.get(name, [])
        lost = channel["state"] == "held" and channel["code"] == code and not variables
        if not variables and not lost:
            continue
        since = _moment(channel["since"]) if channel["code"] == code else None
        told = f" since {facts.wall.at(since)}" if since else ""
        title = words.capital(words.channel(name))
        waits = _waits(facts, name, channel)
        if lost:
            provider = facts.provider(name)
            gone = _settings_of(provider)
            message = f"{title} has lost its settings{told}: {gone} is no longer set; {waits}."
            action = (
                f"Set it again {facts.place(secret=True)}; or name the channel in "
                "ALERTS_CHANNELS_OFF if that is meant."
            )
        else:
            are = words.verb(len(variables), "is", "are")
            names = words.listed(variables)
            message = (
                f"{title} cannot be used{told}: {names} {are} missing or not as it should be; "
                f"{waits}."
            )
            action = (
                f"Set it {facts.place()}; the preflight says what it takes. The next run sends."
            )
        yield Reason(code, DEGRADED, message, action, since, name, page="/ops/setup")


def channel_held(facts: Facts) -> Iterator[Reason]:
    """The provider refuses for a reason that somebody has to mend."""
    for name, channel in facts.channels.items():
        code = channel["code"]
        if channel["state"] != "held" or code == FailureCode.MISCONFIGURED:
            continue
        since = datetime.fromisoformat(channel["since"])
        at, waits = facts.wall.at(since), _waits(facts, name, channel)
        if code == FailureCode.UNEXPECTED_ANSWER:
            what = (channel["detail"] or "no answer of its own").partition(";")[0]
            message = (
                f"Something else has answered instead of {facts.who(name)} since {at} "
                f"({what}); {waits}."
            )
        else:
            has = words.PROVIDER_HAS.get(code, f"has not worked ({code})")
            message = f"{words.capital(facts.who(name))} {has} since {at}; {waits}."
        action = f"{_mend(facts, name, code)} {_next_try(facts, channel)}"
        yield Reason("channel_held", DEGRADED, message, action, since, name, page="/ops/setup")


def _settings_of(provider: Provider | None) -> str:
    """The variables by which a provider is set up."""
    if provider is None:
        return "its provider"
    return words.listed(variable.name for variable in provider.credentials or provider.requires)


def _mend(facts: Facts, name: str, code: str) -> str:
    """What to do about an operator's code."""
    provider, who = facts.provider(name), facts.who(name)
    keys = _settings_of(provider)
    place = facts.place(secret=bool(provider and provider.credentials))
    bases = [v.name for v in provider.variables if v.name.endswith("_BASE")] if provider else []
    base = words.listed(bases) or keys
    told = {
        FailureCode.AUTH_FAILED: f"Renew {keys} {place} and start a run.",
        FailureCode.SENDER_REJECTED: f"Verify our sender with {who}.",
        FailureCode.QUOTA_PROVIDER: f"Raise the plan with {who}, or wait.",
        FailureCode.ACCOUNT_LIMITED: f"Enable what is missing with {who}.",
        FailureCode.UNEXPECTED_ANSWER: f"Check {base} and every proxy on the way.",
    }
    return told.get(FailureCode(code), f"See what {who} says of our account.")


def channel_closed(facts: Facts) -> Iterator[Reason]:
    """The provider cannot take messages for now; it is tried again by itself."""
    for name, channel in facts.channels.items():
        if channel["state"] != "closed":
            continue
        since, code = datetime.fromisoformat(channel["since"]), channel["code"]
        has = words.PROVIDER_HAS.get(code, "has not worked")
        until = _moment(channel["next_try_at"]) if code == FailureCode.RATE_LIMITED else None
        asked = f", until {facts.wall.at(until)}" if until else ""
        message = (
            f"{words.capital(facts.who(name))} {has} since {facts.wall.at(since)}{asked}; "
            f"{_waits(facts, name, channel)}, and nothing is lost."
        )
        action = f"Nothing yet. {_next_try(facts, channel)}"
        if code != FailureCode.RATE_LIMITED:
            action = f"{action} If it lasts, see the status page of {facts.who(name)}."
        page = f"/ops/messages?status=queued&channel={name}"
        yield Reason("channel_closed", DEGRADED, message, action, since, name, page=page)


def refused_at_once(facts: Facts) -> Iterator[Reason]:
    """So many recipients are rarely wrong at once."""
    last = facts.runs.last_finished
    for name, code in facts.runs.held().items():
        if code != FailureCode.REFUSALS_IN_A_ROW or last is None:
            continue
        started = datetime.fromisoformat(last["started_at"])
        failed = facts.last_day.get(name, Tally()).failed
        refused = sum(n for code, n in failed.items() if words.class_of(code) in _REFUSALS)
        message = (
            f"{words.capital(facts.who(name))} refused ten recipients in a row in the run of "
            f"{facts.wall.at(started)}, so our sender or account is the likelier cause; "
            f"{facts.messages_on(refused, name)} failed because of it."
        )
        action = (
            f"See what {facts.who(name)} says of our sender. Once that is mended, send them again "
            "with the retry page, or retry-failed deliveries --include refused."
        )
        page = f"/ops/retry?kind=deliveries&channel={name}&include=refused"
        yield Reason("refused_at_once", DEGRADED, message, action, started, name, page=page)


def channel_not_configured(facts: Facts) -> Iterator[Reason]:
    """Messages were skipped for want of a provider."""
    if facts.not_configured:
        told = words.count(facts.not_configured, "message")
        were = words.verb(facts.not_configured, "was", "were")
        message = f"{told} of the last 24 hours {were} skipped, as the channel has no provider."
        action = (
            f"Set one up {facts.place(secret=True)}, then send them with the retry page or "
            "retry-failed deliveries --include not_configured; or name the channel in "
            "ALERTS_CHANNELS_OFF."
        )
        code = FailureCode.CHANNEL_NOT_CONFIGURED.value
        page = "/ops/retry?kind=deliveries&include=not_configured"
        yield Reason(code, DEGRADED, message, action, page=page)


def channel_failing(facts: Facts) -> Iterator[Reason]:
    """Too many messages of a channel fail, or not one gets through."""
    for name, day in facts.last_day.items():
        hour = facts.last_hour.get(name, Tally())
        failed, tried = day.failed.total(), day.failed.total() + day.sent
        if failed >= FAILING_AT_LEAST and failed > FAILING_SHARE * tried:
            yield _failing(facts, name, day.failed, failed, tried, "in the last 24 hours")
        elif not day.sent and day.bad >= ALL_FAILED_AT_LEAST:
            codes = day.failed + day.retrying
            yield _failing(facts, name, codes, day.bad, day.bad, "in the last 24 hours")
        elif not hour.sent and hour.bad >= ALL_FAILED_AT_LEAST:
            codes = hour.failed + hour.retrying
            yield _failing(facts, name, codes, hour.bad, hour.bad, "in the last hour")
        elif not day.sent and day.retrying:
            amount = day.retrying.total()
            yield _failing(facts, name, day.retrying, amount, amount, "so far", NOTE)


def _failing(
    facts: Facts,
    name: str,
    codes: Counter[str],
    failed: int,
    tried: int,
    when: str,
    severity: str = DEGRADED,
) -> Reason:
    code = codes.most_common(1)[0][0]
    why = words.because(code, facts.who(name))
    mostly = "mostly " if len(codes) > 1 else ""
    message = (
        f"{failed:,} of {words.count(tried, 'message')} on {words.channel(name)} failed {when}, "
        f"{mostly}because {why}"
    )
    if severity == NOTE:
        first = words.verb(failed, "first try", "first tries")
        message = f"The {first} of {facts.messages_on(failed, name)} failed, because {why}"
    since = _moment(facts.channels[name]["last_success_at"])
    if failed == tried and since is not None:
        message += f"; the last one got through at {facts.wall.at(since)}"
    due = facts.around.next_due.get(("deliveries", name))
    they = words.verb(failed, "It is", "They are")
    retried = f"{they} tried again from {facts.business.at(due)} on." if due else ""
    advice, include = _again(code)
    page = f"/ops/retry?kind=deliveries&channel={name}&failure_code={code}{include}"
    if code == FailureCode.RECIPIENT_BLOCKED:  # nothing to send again
        page = f"/ops/messages?status=failed&channel={name}&failure_code={code}"
    if not facts.last_day[name].failed:
        advice, page = (
            retried or f"{they} tried again with the next run.",
            f"/ops/failures?channel={name}",
        )
    return Reason("channel_failing", severity, f"{message}.", advice, since, name, page=page)


def _again(code: str) -> tuple[str, str]:
    """What to do about messages that failed for good, and the retry page's filter for it."""
    kind = words.class_of(code)
    if kind is FailureClass.TRANSIENT:
        return "Once that is over, send them again with the retry page.", "&include=exhausted"
    if kind is FailureClass.UNKNOWN:
        return (
            "Look them up with the provider, then send again what is missing.",
            "&include=unknown",
        )
    if code == FailureCode.RECIPIENT_BLOCKED:
        return "Ask the recipients; sending again will not help.", ""
    if kind in _REFUSALS:
        return (
            "If the addresses are right, send them again with the retry page.",
            "&include=refused",
        )
    return "Send them again with the retry page once the cause is gone.", ""


def _waits(facts: Facts, name: str, channel: dict[str, Any] | Any) -> str:
    """``4 messages on email wait``."""
    waiting = channel["waiting"]
    told = facts.messages_on(waiting, name) if waiting else f"no message on {words.channel(name)}"
    return f"{told} {words.verb(waiting or 1, 'waits', 'wait')}"


def _next_try(facts: Facts, channel: dict[str, Any] | Any) -> str:
    at = _moment(channel["next_try_at"])
    if at is None or at <= facts.wall.now:
        return "The next run tries it again."
    return f"It is tried again at {facts.wall.at(at)}."


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
