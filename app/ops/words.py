"""Codes, states and names in the words of somebody who does not know the code."""

from __future__ import annotations

from alerts.failures import FailureCode as F
from alerts.words import BECAUSE, PROVIDER_DOES
from alerts.words import count as count  # for the templates, as in the sentences of health

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
    "unsubscribe": "Unsubscribed by link",
    "resubscribe": "Subscribed again by link",
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


# What to do about a failure, for which alerts.words has the cause in words.
_WAITS = "It is tried again by itself; nothing is lost."
_ASK = "Ask the user; sending again will not help."
_TWICE = "Sending again may reach people twice."
_NOTHING = "Nothing to do."
HELPS = {
    F.TIMEOUT_CONNECT: _WAITS,
    F.NETWORK: _WAITS,
    F.RATE_LIMITED: _WAITS,
    F.PROVIDER_UNAVAILABLE: "Send again when it works.",
    F.POLICY_REFUSED: "Look at the sender's reputation, then send again.",
    F.AUTH_FAILED: "Renew it; messages wait and nothing is lost.",
    F.SENDER_REJECTED: "Verify the sender's domain with the provider.",
    F.QUOTA_PROVIDER: "Wait for the provider's next day, or enlarge the plan.",
    F.ACCOUNT_LIMITED: "Enable it in the account with the provider.",
    F.UNEXPECTED_ANSWER: "Look at the address that is used, and at any proxy.",
    F.REFUSALS_IN_A_ROW: "The channel is the likelier cause; look there first.",
    F.MISCONFIGURED: "Mend the variable that preflight names.",
    F.OUTCOME_UNKNOWN: _TWICE,
    F.SENDER_LOST: _TWICE,
    F.RECIPIENT_INVALID: "Ask the user for another; sending again will not help.",
    F.RECIPIENT_BLOCKED: _ASK,
    F.PAYLOAD_INVALID: "Mend the text; sending again will not help.",
    F.CHANNEL_NOT_CONFIGURED: "Configure it, then send again what was skipped.",
    F.MISSING_DESTINATION: _NOTHING,
    F.BATCHED_INTO_DIGEST: _NOTHING,
    F.EXPIRED: _NOTHING,
    F.CHANNEL_DISABLED: _NOTHING,
}
_OTHERS = {
    "attempts_exhausted": "all attempts are used up",
    "no_code": "the cause was not recorded",
}


def says(code: str | None, channel: str | None = None) -> str:
    """Why a message failed or was left out, as a clause: ``the mail server was out of order``."""
    known = BECAUSE.get(code or "") or _OTHERS.get(code or "")
    if known is None:
        return (code or "no reason was recorded").replace("_", " ")
    return known.replace("the provider", server(channel))


def does(code: str | None, channel: str) -> str:
    """What keeps a channel closed: ``the mail server refuses our password or key``."""
    known = PROVIDER_DOES.get(code or "")
    return f"{server(channel)} {known}" if known else says(code, channel)


def helps(code: str | None) -> str:
    """What to do about a failure code; empty for an unknown one."""
    return HELPS[F(code)] if code and code in HELPS else ""


def server(channel: str | None) -> str:
    """Who answers on a channel."""
    return SERVERS.get(channel or "", "the provider")


def channel(name: str | None) -> str:
    """A channel's name as a word of its own."""
    return CHANNELS.get(name or "", name or "")


def number(value: int | float | None) -> str:
    """A number with its thousands marked as in sentences; a dash for none."""
    return "–" if value is None else f"{value:,}"


def cut_middle(text: str, keep: int = 8) -> str:
    """A long id by its ends."""
    return text if len(text) <= 2 * keep + 1 else f"{text[:keep]}…{text[-4:]}"
