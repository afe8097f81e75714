"""What a provider's HTTP answer says, if it is the provider's answer at all.

Between us and a provider stand proxies, load balancers, captive portals and whatever a wrong
address leads to, and all of them answer with the provider's status codes. So an answer is
believed in the provider's own shape only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from alerts.channels.transport.retry_after import wait_asked_for
from alerts.failures import DeliveryError, FailureCode

Fields = dict[str, Any]

# Words or a short number. Words and digits mixed, or many digits, may be an echo of what was sent:
# a key, a phone number, a chat id.
ERROR_CODE = re.compile(r"[A-Za-z_.-]{1,40}|[0-9]{1,6}")
_PRIVATE_LENGTH_MIN = 6  # shorter ones stand in ordinary ids by chance
_MESSAGE_ID = re.compile(r"[!-~]{1,200}")
_BLANK = b" \t\r\n\xef\xbb\xbf"  # may stand in front of a JSON text, a byte order mark included

_WAITABLE = (FailureCode.RATE_LIMITED, FailureCode.PROVIDER_UNAVAILABLE)
_LATER = frozenset({408, 421, 425, 429})
_WRONG_PLACE = frozenset({404, 405})


@dataclass(frozen=True, slots=True)
class Raw:
    """An answer as it came; ``whole`` is False where the body was cut off, late or endless."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Shape:
    """How a provider's own answers look, for one who took the message and one who did not."""

    taken: Callable[[Fields], bool]
    refused: Callable[[Fields], bool]


@dataclass(frozen=True, slots=True)
class Answer:
    """A provider's own answer; ``fields`` is empty where its body was empty or cut off."""

    status: int
    headers: Mapping[str, str]
    taken: bool
    fields: Fields


def judge(provider: str, variable: str, shape: Shape, raw: Raw) -> Answer:
    """Believe an answer, or raise :class:`DeliveryError` with ``handed_over``.

    ``variable`` names where the provider's address comes from. Where status and body
    contradict each other, the body counts.
    """
    fields = None if _never_ours(raw.status) else _fields(raw)
    if fields is None:
        return _foreign(provider, variable, raw)
    if not fields:
        return _without_body(provider, variable, raw)
    if shape.taken(fields):
        return Answer(raw.status, raw.headers, True, fields)
    if shape.refused(fields):
        return Answer(raw.status, raw.headers, False, fields)
    return _foreign(provider, variable, raw)


def _never_ours(status: int) -> bool:
    """No API answers a POST with a redirect, a change of protocol, or for a proxy."""
    return status < 200 or 300 <= status < 400 or status == 407


def _fields(raw: Raw) -> Fields | None:
    """The body's object; empty for a body that is empty or broken off, None for any other."""
    body = raw.body.lstrip(_BLANK)
    if not body:
        kind = raw.headers.get("content-type", "")
        return {} if not kind or "json" in kind.lower() else None
    if not body.startswith(b"{"):
        return None
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return parsed or None if isinstance(parsed, dict) else None


def _without_body(provider: str, variable: str, raw: Raw) -> Answer:
    if 200 <= raw.status < 300:
        return Answer(raw.status, raw.headers, True, {})
    if raw.status in _LATER or raw.status >= 500:
        return Answer(raw.status, raw.headers, False, {})
    if not raw.whole:
        detail = f"{provider} {raw.status}: the answer was cut off"
        raise DeliveryError(FailureCode.OUTCOME_UNKNOWN, detail, handed_over=True)
    return _foreign(provider, variable, raw)


def _foreign(provider: str, variable: str, raw: Raw) -> Answer:
    detail = f"{provider} {raw.status}: not its API's answer; check {variable} and what is between"
    raise DeliveryError(FailureCode.UNEXPECTED_ANSWER, detail, handed_over=True)


def failure(
    provider: str,
    variable: str,
    answer: Answer,
    own_code: object = "",
    code: FailureCode | None = None,
) -> DeliveryError:
    """The error for a message that was not taken.

    ``code`` is what the adapter made of the provider's ``own_code``; None leaves it to the
    status.
    """
    code = code or code_of_status(answer.status)
    detail = f"{provider} {answer.status} {error_code(own_code)}".rstrip()
    if answer.status in _WRONG_PLACE:
        detail = f"{detail}: not its API; check {variable}"
    wait = wait_asked_for(answer.headers) if code in _WAITABLE else None
    return DeliveryError(code, detail, retry_after=wait)


def code_of_status(status: int) -> FailureCode:
    """What a status means where the provider's own code says nothing more."""
    if status == 429:
        return FailureCode.RATE_LIMITED
    if status >= 500 or status in _LATER:
        return FailureCode.PROVIDER_UNAVAILABLE
    if status == 402:
        return FailureCode.QUOTA_PROVIDER
    # Nothing a message says makes a provider miss the address: the configured place is wrong.
    # Failing every queued message over that would lose them all.
    if status == 401 or status in _WRONG_PLACE:
        return FailureCode.AUTH_FAILED
    return FailureCode.PAYLOAD_INVALID


def message_id(value: object, *private: str) -> str | None:
    """A provider's message id as text, or None where it is not one to store.

    ``private``: what was sent with the request (destination, key) and must not come back as,
    or inside of, an id.
    """
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not _MESSAGE_ID.fullmatch(text):
        return None
    plain = unquote(text).lower()
    sent = (part.strip("+").lower() for part in private if len(part) >= _PRIVATE_LENGTH_MIN)
    return None if any(part in plain for part in sent) else text


def error_code(value: object) -> str:
    """A provider's own error code, or nothing where it could be free text."""
    text = str(value) if isinstance(value, str | int) else ""
    return text if ERROR_CODE.fullmatch(text) else ""
