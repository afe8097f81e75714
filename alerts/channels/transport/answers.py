"""Interprets a provider's HTTP answer, after checking that it comes from the provider.

Proxies, load balancers, captive portals and whatever a wrong address leads to may answer with the
same status codes. So an answer is trusted only if it has the provider's own shape.
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

# Words or a short number. Letters mixed with digits, or many digits, may echo what was sent: a key,
# a phone number, a chat id.
ERROR_CODE = re.compile(r"[A-Za-z_.-]{1,40}|[0-9]{1,6}")
_PRIVATE_LENGTH_MIN = 6  # shorter ones occur in ordinary ids by chance
_MESSAGE_ID = re.compile(r"[!-~]{1,200}")
_BLANK = b" \t\r\n\xef\xbb\xbf"  # may precede JSON: white space and a byte order mark

_WAITABLE = (FailureCode.RATE_LIMITED, FailureCode.PROVIDER_UNAVAILABLE)
_LATER = frozenset({408, 421, 425, 429})
_WRONG_PLACE = frozenset({404, 405})


@dataclass(frozen=True, slots=True)
class Raw:
    """A raw answer; ``whole`` is False if the body was cut off, late or too long."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Shape:
    """Recognizes a provider's own answers: message accepted, message refused."""

    taken: Callable[[Fields], bool]
    refused: Callable[[Fields], bool]


@dataclass(frozen=True, slots=True)
class Answer:
    """A provider's own answer; ``fields`` is empty if the body was empty or cut off."""

    status: int
    headers: Mapping[str, str]
    taken: bool
    fields: Fields


def judge(provider: str, variable: str, shape: Shape, raw: Raw) -> Answer:
    """Return a trusted answer, or raise :class:`DeliveryError` with ``handed_over``.

    ``variable`` is the variable that sets the provider's address. If status and body contradict
    each other, the body decides.
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
    """Whether no API would answer a POST this way: redirect, protocol switch, proxy login."""
    return status < 200 or 300 <= status < 400 or status == 407


def _fields(raw: Raw) -> Fields | None:
    """Return the body's JSON object: empty if the body is empty or cut off, None if not JSON."""
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


def _kind(raw: Raw) -> str:
    """What it is that is not the provider's, in a fixed phrase."""
    body = raw.body.lstrip(_BLANK).lower()
    if raw.status == 407:
        return "a proxy's login"
    if 300 <= raw.status < 400:
        return "a redirect"
    if body.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "a web page"
    if body.startswith((b"{", b"[")):
        return "JSON of another program"
    return "text" if body else "an empty answer"


def _foreign(provider: str, variable: str, raw: Raw) -> Answer:
    what = _kind(raw)
    detail = f"{provider} {raw.status}: {what} instead of its API's answer; check {variable}"
    raise DeliveryError(FailureCode.UNEXPECTED_ANSWER, detail, handed_over=True)


def failure(
    provider: str,
    variable: str,
    answer: Answer,
    own_code: object = "",
    code: FailureCode | None = None,
) -> DeliveryError:
    """Return the error for a message that was not accepted.

    ``code`` is the adapter's translation of the provider's ``own_code``; if it is None, the status
    decides.
    """
    code = code or code_of_status(answer.status)
    detail = f"{provider} {answer.status} {error_code(own_code)}".rstrip()
    if answer.status in _WRONG_PLACE:
        detail = f"{detail}: not its API; check {variable}"
    wait = wait_asked_for(answer.headers) if code in _WAITABLE else None
    return DeliveryError(code, detail, retry_after=wait)


def code_of_status(status: int) -> FailureCode:
    """Return the failure code for a status if the provider's own code says nothing more."""
    if status == 429:
        return FailureCode.RATE_LIMITED
    if status >= 500 or status in _LATER:
        return FailureCode.PROVIDER_UNAVAILABLE
    if status == 402:
        return FailureCode.QUOTA_PROVIDER
    # No message content causes these: the configured address is wrong. Treating them as a bad
    # payload would fail every queued message.
    if status == 401 or status in _WRONG_PLACE:
        return FailureCode.AUTH_FAILED
    return FailureCode.PAYLOAD_INVALID


def message_id(value: object, *private: str) -> str | None:
    """Return a provider's message id as text, or None if it must not be stored.

    ``private``: values from the request (destination, key) that the id must not contain.
    """
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not _MESSAGE_ID.fullmatch(text):
        return None
    plain = unquote(text).lower()
    sent = (part.strip("+").lower() for part in private if len(part) >= _PRIVATE_LENGTH_MIN)
    return None if any(part in plain for part in sent) else text


def error_code(value: object) -> str:
    """Return a provider's own error code, or an empty string if it could be free text."""
    text = str(value) if isinstance(value, str | int) else ""
    return text if ERROR_CODE.fullmatch(text) else ""
