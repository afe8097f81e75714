"""Codes, states and names in the words of somebody who does not know the code."""

from __future__ import annotations

from typing import NamedTuple

from alerts.failures import FailureCode as F

CHANNELS = {"email": "Email", "telegram": "Telegram", "sms": "SMS", "account": "In-app inbox"}
SERVERS = {"email": "the mail server", "telegram": "Telegram", "sms": "the SMS provider"}
KINDS = {"instant": "instant", "digest": "for a digest"}
TRIGGERS = {
    "github_actions_schedule": "on schedule",
    "github_actions_manual": "by hand on GitHub",
    "local": "on a machine",
}
ACTIONS = {
    "retry_failed": "Sent again",
    "pause": "Paused",
    "resume": "Resumed",
    "prune": "Pruned",
    "rebuild": "Counts rebuilt",
    "erase_user": "User erased",
    "test_message": "Test message",
}
DECISIONS = {
    "created": "Delivered to the queue",
    "plan_type": "Not in the plan",
    "prefs": "Not asked for",
    "missing_destination": "No address",
    "channel_not_in_plan": "Channel not in the plan",
    "quota": "Quota used up",
    "exists": "Delivered before",
    "channel_off": "Channel off",
    "not_in_allowlist": "Not on the allowlist",
    "changed_since": "Not delivered",
    "fanout_expired": "Too late",
}


class Failure(NamedTuple):
    """What a code says of a message, and what helps. ``{server}`` stands for who answered."""

    says: str
    helps: str


FAILURES = {
    F.TIMEOUT_CONNECT: Failure(
        "{server} could not be reached in time", "It is tried again by itself; nothing is lost."
    ),
    F.NETWORK: Failure(
        "{server} could not be reached", "It is tried again by itself; nothing is lost."
    ),
    F.RATE_LIMITED: Failure(
        "{server} asked to slow down", "It is tried again when the wait is over."
    ),
    F.PROVIDER_UNAVAILABLE: Failure(
        "{server} was out of order", "Send again when it works."
    ),
    F.POLICY_REFUSED: Failure(
        "{server} refused it for now", "Look at the sender's reputation, then send again."
    ),
    F.AUTH_FAILED: Failure(
        "{server} refuses our password or key", "Renew it; messages wait and nothing is lost."
    ),
    F.SENDER_REJECTED: Failure(
        "{server} does not accept our sender address", "Verify the sender's domain there."
    ),
    F.QUOTA_PROVIDER: Failure(
        "our account at {server} has used up its quota", "Wait for the next day, or enlarge it."
    ),
    F.ACCOUNT_LIMITED: Failure(
        "our account at {server} may not do this yet", "Enable it in the account there."
    ),
    F.UNEXPECTED_ANSWER: Failure(
        "something else answered in place of {server}", "Look at the address and any proxy."
    ),
    F.REFUSALS_IN_A_ROW: Failure(
        "{server} refused many recipients in a row", "It is rather the channel; look there first."
    ),
    F.MISCONFIGURED: Failure(
        "the channel's settings cannot be used", "Mend the variable that preflight names."
    ),
    F.OUTCOME_UNKNOWN: Failure(
        "no answer came, so it may have arrived", "Sending again may reach people twice."
    ),
    F.SENDER_LOST: Failure(
        "the run died while sending, so it may have arrived",
        "Sending again may reach people twice.",
    ),
    F.RECIPIENT_INVALID: Failure(
        "the address does not work", "Ask the user for another; sending again will not help."
    ),
    F.RECIPIENT_BLOCKED: Failure(
        "the recipient has blocked us", "Ask the user; sending again will not help."
    ),
    F.PAYLOAD_INVALID: Failure(
        "{server} does not take this message", "Mend the text; sending again will not help."
    ),
    F.CHANNEL_NOT_CONFIGURED: Failure(
        "the channel had no provider", "Configure it, then send again what was skipped."
    ),
    F.MISSING_DESTINATION: Failure("the user has no address there", "Nothing to do."),
    F.BATCHED_INTO_DIGEST: Failure("it is part of a digest", "Nothing to do."),
    F.EXPIRED: Failure("it was too old to be worth sending", "Nothing to do."),
    F.CHANNEL_DISABLED: Failure("the user has switched the channel off", "Nothing to do."),
}  # fmt: skip

_OTHERS = {
    "attempts_exhausted": "all attempts are used up",
    "no_code": "the cause was not recorded",
}


def says(code: str | None, channel: str | None = None) -> str:
    """A failure code as a clause that begins small: ``the mail server refuses our password``."""
    if code in _OTHERS:
        return _OTHERS[code]
    known = FAILURES.get(F(code)) if code in F.__members__.values() else None
    if known is None:
        return (code or "no reason was recorded").replace("_", " ")
    return known.says.format(server=SERVERS.get(channel or "", "the provider"))


def helps(code: str | None) -> str:
    """What to do about a failure code; empty for an unknown one."""
    return FAILURES[F(code)].helps if code in F.__members__.values() else ""


def channel(name: str | None) -> str:
    """A channel's name as a word of its own."""
    return CHANNELS.get(name or "", name or "")


def begin(text: str) -> str:
    """The text with a capital letter."""
    return text[:1].upper() + text[1:]


def number(value: int | float | None) -> str:
    """A number with thin spaces between thousands; a dash for none."""
    return "–" if value is None else f"{value:,}".replace(",", "\u202f")


def plural(count: int, one: str, many: str = "") -> str:
    """``1 message``, ``2 messages``."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


def cut_middle(text: str, keep: int = 8) -> str:
    """A long id by its ends."""
    return text if len(text) <= 2 * keep + 1 else f"{text[:keep]}…{text[-4:]}"
