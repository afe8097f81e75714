"""Times, ages, counts and failure codes in words for people, the same wherever they are shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from alerts.channels.names import KINDS
from alerts.failures import CLASS_OF, FailureClass, FailureCode

_C = FailureCode
# What a provider does that answers with the code; its name stands before it.
PROVIDER_DOES: Mapping[str, str] = {
    _C.TIMEOUT_CONNECT: "does not answer",
    _C.NETWORK: "cannot be reached",
    _C.RATE_LIMITED: "asks us to slow down",
    _C.PROVIDER_UNAVAILABLE: "is out of order",
    _C.POLICY_REFUSED: "turns our messages away for now",
    _C.AUTH_FAILED: "refuses our password or key",
    _C.SENDER_REJECTED: "does not accept our sender",
    _C.QUOTA_PROVIDER: "says that our plan is used up",
    _C.ACCOUNT_LIMITED: "does not allow our account to send this",
    _C.UNEXPECTED_ANSWER: "did not answer: something else did, such as a proxy",
    _C.REFUSALS_IN_A_ROW: "refused ten recipients in a row",
    _C.MISCONFIGURED: "cannot be used with the settings there are",
}
# The same of a time that lasts; "since" follows.
PROVIDER_HAS: Mapping[str, str] = {
    _C.TIMEOUT_CONNECT: "has not answered",
    _C.NETWORK: "has been out of reach",
    _C.RATE_LIMITED: "has asked us to slow down",
    _C.PROVIDER_UNAVAILABLE: "has been out of order",
    _C.POLICY_REFUSED: "has turned our messages away",
    _C.AUTH_FAILED: "has refused our password or key",
    _C.SENDER_REJECTED: "has not accepted our sender",
    _C.QUOTA_PROVIDER: "has said that our plan is used up",
    _C.ACCOUNT_LIMITED: "has not allowed our account to send this",
    _C.UNEXPECTED_ANSWER: "has not answered, something else has,",
    _C.OUTCOME_UNKNOWN: "has left our messages without an answer",
}
# Why a message has not gone out; stands after "because" or a colon.
BECAUSE: Mapping[str, str] = {
    _C.TIMEOUT_CONNECT: "the provider did not answer",
    _C.NETWORK: "the provider could not be reached",
    _C.RATE_LIMITED: "the provider asked us to slow down",
    _C.PROVIDER_UNAVAILABLE: "the provider was out of order",
    _C.POLICY_REFUSED: "the recipient's mail server turned us away for now",
    _C.AUTH_FAILED: "the provider refused our password or key",
    _C.SENDER_REJECTED: "the provider did not accept our sender",
    _C.QUOTA_PROVIDER: "our plan with the provider was used up",
    _C.ACCOUNT_LIMITED: "our account with the provider does not allow it",
    _C.UNEXPECTED_ANSWER: "something else answered in the provider's place",
    _C.REFUSALS_IN_A_ROW: "too many recipients in a row were refused",
    _C.MISCONFIGURED: "the channel's settings cannot be used",
    _C.OUTCOME_UNKNOWN: "no answer came, so it may or may not have been delivered",
    _C.SENDER_LOST: "the run died while sending, so it may or may not have been delivered",
    _C.RECIPIENT_INVALID: "the address is not valid or does not exist",
    _C.RECIPIENT_BLOCKED: "the recipient has blocked us",
    _C.PAYLOAD_INVALID: "the provider does not take this message",
    _C.CHANNEL_NOT_CONFIGURED: "the channel has no provider",
    _C.MISSING_DESTINATION: "the user has no usable address for the channel",
    _C.BATCHED_INTO_DIGEST: "it went into a digest",
    _C.EXPIRED: "it had become too old to be of use",
    _C.CHANNEL_DISABLED: "the user has switched the channel off",
}
_CHANNELS = {kind.name: kind.word or kind.name for kind in KINDS}


def class_of(code: str | None) -> FailureClass | None:
    """The class of a failure code; None for a code that is not ours."""
    known = code in FailureCode.__members__.values()
    return CLASS_OF[FailureCode(str(code))] if known else None


def does(code: str) -> str:
    """What a provider does that answers with the code."""
    return PROVIDER_DOES.get(code, f"does not work ({code})")


def because(code: str, who: str = "the provider") -> str:
    """Why messages have not gone out; stands after "because"."""
    return BECAUSE.get(code, f"{who} did not take them").replace("the provider", who)


def clipped(text: str, longest: int = 240) -> str:
    """The beginning of a long text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 3].rstrip()}..."


def channel(name: str) -> str:
    """A channel's name within a sentence."""
    return _CHANNELS.get(name, name)


def capital(sentence: str) -> str:
    """The sentence with its first letter in upper case and the others as they are."""
    return sentence[:1].upper() + sentence[1:]


def count(number: int, thing: str, things: str | None = None) -> str:
    """``1 message``, ``4 messages``, ``12,000 messages``."""
    return f"{number:,} {thing if number == 1 else things or f'{thing}s'}"


def verb(number: int, one: str, many: str) -> str:
    """The form of a verb that fits the number."""
    return one if number == 1 else many


def listed(names: Iterable[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *first, last = [*names] or [""]
    return f"{', '.join(first)} and {last}" if first else last


def duration(seconds: float) -> str:
    """A length of time in the largest unit of which there are two or more, never negative."""
    seconds = max(0.0, seconds)
    for size, name in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= 2 * size:
            return count(round(seconds / size), name)
    return count(round(seconds), "second")


def zone_of(name: str, otherwise: ZoneInfo) -> ZoneInfo:
    """The zone of that name, if this machine knows it."""
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        return otherwise


@dataclass(frozen=True)
class Clockface:
    """Tells times as somebody in ``zone`` would who looks at the clock at ``now``."""

    now: datetime
    zone: ZoneInfo

    def at(self, moment: datetime) -> str:
        """``14:03`` of today, ``Tuesday 14:03`` within six days, else with the date."""
        there, today = moment.astimezone(self.zone), self.now.astimezone(self.zone)
        clock = f"{there:%H:%M}"
        days = abs((there.date() - today.date()).days)
        if days == 0:
            return clock
        if days < 7:
            return f"{there:%A} {clock}"
        year = "" if there.year == today.year else f" {there.year}"
        return f"{there.day} {there:%B}{year} {clock}"

    def ago(self, moment: datetime) -> timedelta:
        """How long ago it was; nothing for what the clock has yet to reach."""
        return max(timedelta(0), self.now - moment)

    def age(self, moment: datetime) -> str:
        """How long ago it was, in words."""
        return duration(self.ago(moment).total_seconds())
