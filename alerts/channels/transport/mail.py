"""Emails as bytes, and the rules for addresses that all email adapters share.

The standard library encodes the parts. Its message object is not used: building and serializing
one takes milliseconds, a hundred times what is needed where the same texts go to many people.
"""

from __future__ import annotations

import binascii
import re
import time
from dataclasses import dataclass
from email.header import Header
from email.headerregistry import Address
from email.utils import formataddr, formatdate, parseaddr
from functools import lru_cache

from alerts.channels.base import Message
from alerts.channels.provider import Variable
from alerts.failures import DeliveryError, FailureCode
from alerts.settings.env import EnvReader

# Tells other mail programs not to answer: no out-of-office notes, no receipts.
NO_REPLY_HEADERS = {"Auto-Submitted": "auto-generated", "X-Auto-Response-Suppress": "All"}

_LINE_MAX = 66  # characters of a subject that fit its line
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(
    rf"(?=.{{3,254}}\Z)(?=[^@]{{1,64}}@){_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*"
)
_LINE_BREAKING = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_NOT_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LINE_END = re.compile(r"\r\n?|\n")


@dataclass(frozen=True, slots=True)
class Sender:
    """Who an email is from; ``domain`` ends its Message-ID."""

    name: str
    address: str

    @classmethod
    def parse(cls, text: str) -> Sender:
        """Read ``Name <address>`` or an address; the domain becomes its ASCII form."""
        name, address = parseaddr(text)
        local, _, domain = address.rpartition("@")
        try:
            domain = domain.encode("idna").decode()
        except UnicodeError:
            domain = ""
        return cls(one_line(name), f"{local}@{domain}")

    @property
    def domain(self) -> str:
        """The part behind the @."""
        return self.address.rpartition("@")[2]

    def require_usable(self) -> None:
        """Raise ``sender_rejected`` for an address that mail servers do not take."""
        if not _ADDRESS.fullmatch(self.address):
            detail = "EMAIL_FROM is not an address that mail servers take (ASCII, name@domain)"
            raise DeliveryError(FailureCode.SENDER_REJECTED, detail)

    def __str__(self) -> str:
        """``Name <address>``, the name quoted where it must be."""
        return str(Address(self.name, addr_spec=self.address)) if self.name else self.address


def _email_from(env: EnvReader) -> str | None:
    return env.parsed("EMAIL_FROM", None, _parse_sender, "an address or Name <address>")


def _parse_sender(text: str) -> str | None:
    _, address = parseaddr(text)
    local, _, domain = address.rpartition("@")
    if not local.isascii() or not local or not domain or any(c in text for c in "\r\n\0"):
        raise ValueError("no address")
    domain.encode("idna")  # UnicodeError is a ValueError
    return text


EMAIL_FROM = Variable("EMAIL_FROM", _email_from)  # of every email provider


def require_recipient(address: str) -> None:
    """Raise ``recipient_invalid`` for what is not one plain ASCII address."""
    if not _ADDRESS.fullmatch(address):
        raise DeliveryError(FailureCode.RECIPIENT_INVALID, "not an email address")


def one_line(text: str) -> str:
    """``text`` for a header: one line, encodable."""
    return encodable(_LINE_BREAKING.sub(" ", text)).strip()


def encodable(text: str) -> str:
    """``text`` without lone surrogates."""
    return text.encode("utf-8", "replace").decode()


def message_id_of(message: Message, sender: Sender) -> str:
    """The Message-ID: the same for every attempt, so that mail programs show one message."""
    return f"<{message.key}@{sender.domain}>"


def compose(message: Message, sender: Sender) -> bytes:
    """The whole email, 7-bit, with CRLF line ends.

    Raises :class:`DeliveryError` for addresses that cannot be used.
    """
    sender.require_usable()
    require_recipient(message.destination)
    head = (
        f"From: {formataddr((sender.name, sender.address))}\r\n"
        f"To: {message.destination}\r\n"
        f"Date: {formatdate(time.time(), usegmt=True)}\r\n"
        f"Message-ID: {message_id_of(message, sender)}\r\n"
    )
    return (
        _subject(one_line(message.subject))
        + head.encode("ascii")
        + _FIXED
        + _body(message.text, message.html)
    )


@lru_cache(maxsize=256)
def _subject(text: str) -> bytes:
    """The header line. What looks like an encoded word is encoded itself: the newer header
    classes would decode it, line breaks included, and write those out as a header of its own."""
    if not text.isascii() or len(text) > _LINE_MAX or "=?" in text:
        text = Header(text, "utf-8", header_name="Subject").encode(linesep="\r\n")
    return f"Subject: {text}\r\n".encode("ascii")


_FIXED = "".join(
    f"{name}: {value}\r\n" for name, value in {**NO_REPLY_HEADERS, "MIME-Version": "1.0"}.items()
).encode()
# Cannot occur in the parts: quoted-printable writes every = as =3D.
_BOUNDARY = "=_energyriskiq"


# One event's texts go to many people.
@lru_cache(maxsize=256)
def _body(text: str, html: str) -> bytes:
    """The headers and content of the body: both forms, or the text alone."""
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
    return head.encode() + binascii.b2a_qp(clean, istext=True)
