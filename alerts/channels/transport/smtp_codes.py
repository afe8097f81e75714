"""What an SMTP server's refusal means, judged only by its codes and the stage.

The enhanced status code (RFC 3463, registry of RFC 5248) takes precedence over the three-digit
code, since 550 says little more than "no". docs/providers.md has the table with sources.
"""

from __future__ import annotations

import re
from enum import StrEnum

from alerts.failures import CLASS_OF, DeliveryError, FailureClass, FailureCode

# At the start of the reply, in the spellings seen in practice: "5.7.1 no", "5.7.1: no",
# "#5.1.0 no", "[5.1.1] no". Not later in the reply, where servers quote other servers or addresses.
_STATUS = re.compile(r"[\s#:(\[<]*([245])\.(\d{1,3})\.(\d{1,3})(?!\.?\d)")

_K = FailureClass
Detail = tuple[int, int]  # subject and detail: X.7.26 is (7, 26)


class Stage(StrEnum):
    """How far the SMTP conversation had come; the value is the wording for people."""

    CONNECT = "on connecting"
    TLS = "at STARTTLS"
    AUTH = "at AUTH"
    MAIL = "at MAIL FROM"
    RCPT = "at RCPT TO"
    DATA = "at DATA"
    CONTENT = "after DATA"


_BEFORE_THE_MESSAGE = (Stage.CONNECT, Stage.TLS, Stage.AUTH)

_AUTH_CODES = frozenset({530, 534, 535, 538})
_RECIPIENT_CODES = frozenset({550, 551, 553})

# From MAIL FROM on, these mean the same at every stage.
MEANINGS: dict[FailureCode, tuple[Detail, ...]] = {
    FailureCode.AUTH_FAILED: (
        (7, 3), (7, 8), (7, 9), (7, 11), (7, 14), (7, 57),  # no login, or login refused
    ),
    FailureCode.SENDER_REJECTED: (
        (1, 7), (1, 8),  # the sender's address
        (2, 252), (7, 60),  # this account may not send as that address
        (7, 20), (7, 21), (7, 22), (7, 23), (7, 24), (7, 26), (7, 27),  # DKIM, SPF, DMARC
        (7, 30), (7, 31), (7, 32), (7, 40),  # Google's: DKIM, DMARC, alignment
        (7, 501), (7, 502), (7, 503),  # Microsoft's: a banned account
        (7, 509), (7, 515), (7, 750),  # Microsoft's: DMARC, authentication, unregistered domain
        (7, 708),  # Microsoft's: this tenant may not send
    ),
    FailureCode.QUOTA_PROVIDER: (
        (4, 5), (1, 90), (7, 232), (7, 233), (7, 705),  # the account's daily limit
    ),
    FailureCode.PROVIDER_UNAVAILABLE: (
        (2, 2), (2, 121), (2, 122),  # the mailbox is full or receives too much right now
        (3, 1), (3, 2), (3, 3), (3, 5),  # the mail system is full, down or misconfigured
    ),
    FailureCode.RECIPIENT_INVALID: (
        (2, 1), (6, 7),  # the mailbox is closed; the address needs SMTPUTF8
        (7, 17), (7, 18),  # the mailbox or its domain has a new owner
        (7, 504), (7, 505),  # Microsoft's: no such recipient
    ),
    FailureCode.RECIPIENT_BLOCKED: (
        # Microsoft's: this recipient accepts no mail from outside
        (7, 12), (7, 124), (7, 129), (7, 133), (7, 134), (7, 135), (7, 136),
    ),
    FailureCode.PAYLOAD_INVALID: ((2, 3), (3, 4)),  # too large
}  # fmt: skip
_MEANING = {detail: code for code, details in MEANINGS.items() for detail in details}


def refusal(stage: Stage, code: int, reply: bytes) -> DeliveryError:
    """Translate a server's negative reply into a failure."""
    match = _STATUS.match(reply.decode("ascii", "replace"))
    status = f"{match[1]}.{match[2]}.{match[3]}" if match else ""
    said = f"SMTP {code} {status}".rstrip() + f" {stage.value}"
    if not 400 <= code < 600:
        what = f"{said}: no such reply" if code > 0 else f"SMTP: no SMTP reply {stage.value}"
        return DeliveryError(
            FailureCode.UNEXPECTED_ANSWER,
            f"{what}; check SMTP_URL",
            handed_over=stage is Stage.CONTENT,
        )
    detail = (int(match[2]), int(match[3])) if match else None
    # A refusal is permanent only if both codes say so.
    if code < 500 or (match and match[1] == "4"):
        return DeliveryError(
            FailureCode.PROVIDER_UNAVAILABLE,
            said,
            concerns_channel=stage in _BEFORE_THE_MESSAGE,
            concerns_recipient=stage is Stage.RCPT,  # greylisting
        )
    return DeliveryError(_for_good(stage, code, detail), said)


def _for_good(stage: Stage, code: int, detail: Detail | None) -> FailureCode:
    if stage in (Stage.TLS, Stage.AUTH) or code in _AUTH_CODES:
        return FailureCode.AUTH_FAILED
    if stage is Stage.CONNECT:
        return FailureCode.SENDER_REJECTED
    meaning = _MEANING.get(detail) if detail else None
    if stage is Stage.MAIL:  # the recipient has not been named yet, so this is about the sender
        ours = meaning is not None and CLASS_OF[meaning] in (_K.OPERATOR, _K.TRANSIENT)
        return meaning if meaning and ours else FailureCode.SENDER_REJECTED
    if meaning:
        return meaning
    if detail is not None and detail[0] == 1:
        return FailureCode.RECIPIENT_INVALID
    if detail is not None and detail[0] == 7:
        # Many servers check the sender only here. 553 5.7.1: the address is not this account's.
        own = (code, stage, detail) == (553, Stage.RCPT, (7, 1))
        return FailureCode.SENDER_REJECTED if own else FailureCode.POLICY_REFUSED
    if stage is Stage.RCPT:
        return _at_rcpt(code)
    return FailureCode.PAYLOAD_INVALID


def _at_rcpt(code: int) -> FailureCode:
    if code == 552:  # the mailbox is full, which is temporary (RFC 5321, 4.5.3.1.10)
        return FailureCode.PROVIDER_UNAVAILABLE
    invalid = code in _RECIPIENT_CODES
    return FailureCode.RECIPIENT_INVALID if invalid else FailureCode.PAYLOAD_INVALID
