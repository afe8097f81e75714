"""Email addresses in the form that mail servers accept.

Non-ASCII domains are encoded by IDNA 2008; the standard library's codec uses the older rules,
which map some names to a different domain. A local part is quoted if necessary. A non-ASCII local
part is left as it is and needs a server that supports SMTPUTF8 (RFC 6531).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import idna

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+"
_DOT_ATOM = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
# Accepted without quotes because they are unambiguous: dots anywhere, colons, brackets.
_NEEDS_QUOTES = re.compile(rf"(?:{_ATOM}|[.:()\[\]])+")
_QUOTED = re.compile(r'"((?:[^"\\\x00-\x1f\x7f]|\\[ -~])*)"')
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_LOCAL_MAX, _DOMAIN_MAX, _ADDRESS_MAX = 64, 253, 254  # octets; RFC 5321, 4.5.3.1


@dataclass(frozen=True, slots=True)
class Mailbox:
    """An address; ``local`` is quoted if necessary, ``domain`` is ASCII."""

    local: str
    domain: str

    @property
    def needs_smtputf8(self) -> bool:
        """Whether only a server with the SMTPUTF8 extension can accept it."""
        return not self.local.isascii()

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"


@lru_cache(maxsize=1024)
def parse_mailbox(text: str) -> Mailbox:
    """Parse exactly one address. Raises ValueError."""
    local, at, domain = text.rpartition("@")
    if not at:
        raise ValueError("no address")
    mailbox = Mailbox(_local(local), ascii_domain(domain))
    if len(str(mailbox).encode()) > _ADDRESS_MAX or len(mailbox.local.encode()) > _LOCAL_MAX:
        raise ValueError("an address that is too long")
    return mailbox


def ascii_domain(domain: str) -> str:
    """Return the domain in its ASCII form. Raises ValueError."""
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True, std3_rules=True).decode()
        except idna.IDNAError:  # its text quotes the domain
            raise ValueError("no domain by IDNA 2008") from None
    if len(domain) > _DOMAIN_MAX or not _DOMAIN.fullmatch(domain):
        raise ValueError("no domain")
    return domain


def _local(text: str) -> str:
    quoted = _QUOTED.fullmatch(text)
    plain = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text
    if not plain.isprintable():  # rejects invisible characters too
        raise ValueError("no local part")
    if _DOT_ATOM.fullmatch(plain):
        return plain
    if quoted is None and not _NEEDS_QUOTES.fullmatch(plain):
        raise ValueError("no local part")
    return quote(plain)


def quote(text: str) -> str:
    """Return ``text`` as a quoted string."""
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'
