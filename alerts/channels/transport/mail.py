"""Composes emails as bytes, and holds the address rules that all email adapters share.

The standard library's message object is not used: building and serializing one takes
milliseconds, a hundred times what is needed when the same text goes to many people. Its header
encoder is not used either, because it writes a long name as one encoded word of any length.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache

from alerts.channels.base import Message
from alerts.channels.provider import Variable
from alerts.channels.transport.addresses import Mailbox, parse_mailbox, quote
from alerts.channels.transport.headers import header
from alerts.failures import DeliveryError, FailureCode
from alerts.settings.env import EnvReader

# Ask mail programs not to reply automatically: no out-of-office messages, no receipts.
_NO_REPLY = {"Auto-Submitted": "auto-generated", "X-Auto-Response-Suppress": "All"}

_LINE_BREAKING = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_NOT_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LINE_END = re.compile(r"\r\n?|\n")
# Name <address>; the name is in double quotes if it contains an address separator.
_NAMED = re.compile(r'(?:"((?:[^"\\]|\\.)*)"|([^"<>@,;:\\]*))\s*<([^<>]*)>')
_NAME_AS_IT_IS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]*")


@dataclass(frozen=True, slots=True)
class Sender:
    """The sender of an email; ``mailbox`` is None for an address that no mail server accepts."""

    name: str
    mailbox: Mailbox | None

    @classmethod
    def parse(cls, text: str) -> Sender:
        """Parse ``Name <address>`` or an address; on failure returns a sender without mailbox."""
        try:
            return parse_sender(text)
        except ValueError:
            return cls("", None)

    def usable(self) -> Mailbox:
        """Return the address; raises ``sender_rejected`` if there is none."""
        if self.mailbox is None:
            detail = "EMAIL_FROM is not an address that mail servers accept (ASCII, name@domain)"
            raise DeliveryError(FailureCode.SENDER_REJECTED, detail)
        return self.mailbox

    def __str__(self) -> str:
        """``Name <address>``, with the name quoted if necessary."""
        address = str(self.usable())
        return f"{phrase(self.name)} <{address}>" if self.name else address


def parse_sender(text: str) -> Sender:
    """Parse one sender. Raises ValueError for anything ambiguous."""
    text = text.strip()
    if _LINE_BREAKING.search(text):
        raise ValueError("more than a line")
    named = _NAMED.fullmatch(text)
    quoted, plain, address = named.groups() if named else (None, "", text)
    name = plain or "" if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
    mailbox = parse_mailbox(address.strip())
    if mailbox.needs_smtputf8:
        raise ValueError("a sender that many servers do not take")
    return Sender(one_line(name), mailbox)


def _email_from(env: EnvReader) -> str | None:
    takes = "one address, or Name <address>; a name with , : ; or @ in double quotes"
    return env.parsed("EMAIL_FROM", None, _checked_sender, takes)


def _checked_sender(text: str) -> str | None:
    parse_sender(text)
    return text


EMAIL_FROM = Variable("EMAIL_FROM", _email_from)  # shared by all email providers


def recipient_of(message: Message, *, smtputf8: bool = True) -> Mailbox:
    """Return the recipient's address; raises ``recipient_invalid`` if it is not one address.

    Without ``smtputf8``, also raises for a non-ASCII local part.
    """
    try:
        mailbox = parse_mailbox(message.destination)
    except ValueError:
        raise DeliveryError(FailureCode.RECIPIENT_INVALID, "not an email address") from None
    if mailbox.needs_smtputf8 and not smtputf8:
        raise no_smtputf8()
    return mailbox


def no_smtputf8() -> DeliveryError:
    """Return the error for a non-ASCII local part that the server does not support."""
    detail = "the address needs SMTPUTF8 (a non-ASCII name), which is not offered"
    return DeliveryError(FailureCode.RECIPIENT_INVALID, detail)


def extra_headers(message: Message) -> dict[str, str]:
    """What every email adapter sends beside subject and addresses, as ASCII."""
    if not message.unsubscribe:
        return _NO_REPLY
    return {
        **_NO_REPLY,
        # RFC 2369 and RFC 8058. On one line: a link that was folded is not found by all programs.
        "List-Unsubscribe": f"<{message.unsubscribe}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }


def phrase(name: str) -> str:
    """Return a display name, quoted if necessary."""
    return name if _NAME_AS_IT_IS.fullmatch(name) else quote(name)


def one_line(text: str) -> str:
    """Return ``text`` as one encodable line for a header."""
    return encodable(_LINE_BREAKING.sub(" ", text)).strip()


def encodable(text: str) -> str:
    """Return ``text`` with lone surrogates replaced."""
    return text.encode("utf-8", "replace").decode()


def message_id_of(message: Message, sender: Sender) -> str:
    """The Message-ID: the same for every attempt, so that mail programs show one message."""
    return f"<{message.key}@{sender.usable().domain}>"


def compose(message: Message, sender: Sender) -> bytes:
    """Return the whole email with CRLF line ends; 7-bit unless the recipient needs SMTPUTF8.

    Raises :class:`DeliveryError` for unusable addresses.
    """
    head = (
        f"To: {recipient_of(message)}\r\n"
        f"Date: {format_datetime(datetime.now(UTC))}\r\n"
        f"Message-ID: {message_id_of(message, sender)}\r\n"
    )
    more = "".join(f"{name}: {value}\r\n" for name, value in extra_headers(message).items())
    return (
        _subject_and_sender(one_line(message.subject), sender)
        + f"{head}{more}MIME-Version: 1.0\r\n".encode()
        + _body(message.text, message.html)
    )


@lru_cache(maxsize=256)
def _subject_and_sender(subject: str, sender: Sender) -> bytes:
    address = str(sender.usable())
    name = sender.name
    named = header("From", name, phrase(name), f"<{address}>") if name else f"From: {address}\r\n"
    return f"{header('Subject', subject)}{named}".encode("ascii")


# Cannot occur in the parts: quoted-printable writes every = as =3D.
_BOUNDARY = "=_energyriskiq"
_QP_LINE_MAX = 76


# One event's text goes to many people.
@lru_cache(maxsize=256)
def _body(text: str, html: str) -> bytes:
    """Return the body's headers and content: text and HTML, or only text."""
    if not html:
        return _part("plain", text)
    parts = b"".join(
        b"--%s\r\n%s\r\n" % (_BOUNDARY.encode(), part)
        for part in (_part("plain", text), _part("html", html))
    )
    kind = f'Content-Type: multipart/alternative; boundary="{_BOUNDARY}"\r\n\r\n'
    return kind.encode() + parts + f"--{_BOUNDARY}--\r\n".encode()


def _part(subtype: str, text: str) -> bytes:
    clean = _LINE_END.sub("\r\n", _NOT_TEXT.sub("", text)).encode("utf-8", "replace")
    if not clean.endswith(b"\r\n"):
        clean += b"\r\n"
    head = (
        f'Content-Type: text/{subtype}; charset="utf-8"\r\n'
        "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
    )
    lines = binascii.b2a_qp(clean, istext=True)
    return head.encode() + _MBOX_FROM.sub(_hide_from, lines)


# Relays that store mail in mbox files prefix such lines with ">".
_MBOX_FROM = re.compile(rb"^From [^\r\n]*", re.MULTILINE)


def _hide_from(line: re.Match[bytes]) -> bytes:
    """Encode the line's F, and break the line after it if it would become too long."""
    return (b"=46" if len(line[0]) <= _QP_LINE_MAX - 2 else b"=46=\r\n") + line[0][1:]
