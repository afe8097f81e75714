"""Redacts text and exceptions before they reach logs, run rows and people.

There are two safety nets. Known secrets are removed anywhere, including URL-encoded or inside
base64. Patterns remove anything that looks like a secret or personal data: addresses, phone
numbers, tokens, credentials in URLs, values of keys such as ``password``.

Integers, UUIDs (run ids), Git hashes and SHA digests must stay readable. So bare hexadecimal counts
as a key only if its length is not 32, 40 or 64, and other strings only if they mix upper case,
lower case and digits. Keys that look like a UUID or a digest are caught as known secrets.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, urlsplit

import psycopg2
from psycopg2.extensions import parse_dsn

from alerts.cleaning import clean_line, cut
from alerts.settings.env import Secret

if TYPE_CHECKING:
    from alerts.settings.config import Settings

REDACTED = "[redacted]"
SECRET_LENGTH_MIN = 6  # shorter secrets would match parts of ordinary words
_SCANNED_FACTOR = 8  # patterns scan this multiple of the length that is kept
_SCANNED_MIN = 4000

_QUOTED = r"""[bru]?(?:"(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?)"""
_VALUE = rf"(?:{_QUOTED}|\[[^\]]*\]?|\{{[^}}]*\}}?|[^\s,;&)}}\]\"']+)"
_EMPTY = r"(?!(?:None|null|true|false)\b|\[redacted)"
_KEYS = (
    r"passw(?:or)?d|passwd|pwd|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key"
    r"|credentials?|chat[_-]?id|phone(?:[_-]?number)?|mobile|msisdn|cookie"
)
# For mapping keys: matches the whole key or its end, as in ``telegram_chat_id``.
KEY_PATTERN = re.compile(rf".*(?:{_KEYS}|authorization)", re.IGNORECASE)
_LOCAL = r"""[^\s@"'<>()\[\]{},;:/?&=]"""
# The wider patterns come first, so that no part of their match is left behind.
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # scheme://user:password@host; the password may contain unencoded slashes or an @.
    (re.compile(r"(://)(?:[^\s/?#@]*:\S*|[^\s/?#]+)@"), rf"\1{REDACTED}@"),
    # A bot token, bare or in a Telegram URL such as /bot<token>/method.
    (re.compile(r"(?<!\d)\d{5,20}(?::|%3A)[\w-]{30,}", re.I), REDACTED),
    (
        re.compile(
            r"\b((?:proxy-)?authorization[\"']?\s?[:=]\s?[\"']?)"
            r"(?:(?:basic|bearer|digest|token)\s)?[^\s\"',;]+",
            re.I,
        ),
        rf"\1{REDACTED}",
    ),
    (
        re.compile(r"\b(bearer\s|basic\s(?=\S{16}))(?!\[redacted)[^\s\"',;]+", re.I),
        rf"\1{REDACTED}",
    ),
    (re.compile(rf"((?:{_KEYS})[\"']?\s?(?:=>|[:=])\s?){_EMPTY}{_VALUE}", re.I), rf"\1{REDACTED}"),
    (re.compile(rf"{_LOCAL}{{1,64}}(?:@|%40)[\w-]+(?:\.[\w-]+)*", re.I), REDACTED),
    (re.compile(r"(?:\+|%2B)\s?\(?\d(?:[ ().\-/]{0,3}\d){6,}", re.I), REDACTED),
    (re.compile(r"\b(?:xkeysib|xsmtpsib|gh[a-z]|github_pat|whsec)[_-][\w-]{12,}"), REDACTED),
    (
        re.compile(
            r"(?<![\w+-])(?=[\w+-]*[A-Z])(?=[\w+-]*[a-z])(?=[\w+-]*\d)[A-Za-z0-9_+-]{24,}={0,2}"
        ),
        REDACTED,
    ),
    (
        re.compile(
            r"(?<![\w-])(?!(?:[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64})(?![\w-]))"
            r"[0-9a-f]{24,}(?![\w-])",
            re.I,
        ),
        REDACTED,
    ),
)


# Example values in our own messages, which the reader must see in full.
_EXAMPLES = tuple(
    (re.compile(rf"(?<!\S){re.escape(example)}(?![^\s;,.])"), chr(number), example)
    for number, example in enumerate(
        (
            "postgresql://user:password@host:5432/name",
            "smtp://user:password@host:587",
            "smtps://user:password@host:465",
        ),
        start=1,
    )
)


class Redactor:
    """Scrubs text. Secrets shorter than six characters are caught only by the patterns."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = {
            form
            for secret in secrets
            if len(secret) >= SECRET_LENGTH_MIN
            for form in _forms(secret)
            if form not in REDACTED
        }
        # Longest first, so a whole URL is replaced before the password inside it.
        self._forms = sorted(known, key=lambda form: (-len(form), form))

    def __repr__(self) -> str:
        return f"Redactor({len(self._forms)} forms)"

    def scrub(self, text: str, limit: int = 300) -> str:
        """Return ``text`` as one safe line of at most ``limit`` characters."""
        line = clean_line(self._without_secrets(text))
        scanned = max(_SCANNED_FACTOR * limit, _SCANNED_MIN)
        if len(line) > scanned:
            line = line[:scanned].rpartition(" ")[0]  # half a token would not be recognized
        # No pattern matches the control characters that stand in; no cleaned line contains them.
        for example, stand_in, _ in _EXAMPLES:
            line = example.sub(stand_in, line)
        for pattern, replacement in _PATTERNS:
            line = pattern.sub(replacement, line)
        for _, stand_in, shown in _EXAMPLES:
            line = line.replace(stand_in, shown)
        # Cleaning may have joined the parts of a secret that an invisible character had split.
        return cut(self._without_secrets(line), limit)

    def _without_secrets(self, text: str) -> str:
        for form in self._forms:
            if form in text:
                text = text.replace(form, REDACTED)
        return text


def redactor_for(settings: Settings) -> Redactor:
    """Return a redactor that knows every :class:`Secret` in ``settings``, however deeply nested."""
    secrets = {secret.reveal() for secret in _secrets_in(settings)}
    for url in (settings.database_url, settings.other_database_url):
        if url is not None:
            secrets |= _passwords_of(url.reveal())
    if settings.owner.ping_url is not None:  # what follows the host is the secret of it
        parts = urlsplit(settings.owner.ping_url.reveal())
        secrets |= {parts.path, parts.path.strip("/"), parts.query}
    return Redactor(secrets)


def describe_exception(error: BaseException, redactor: Redactor, limit: int = 300) -> str:
    """Return the exception's type, its code if any, and its first line with values removed.

    For a database error: its SQLSTATE and the constraint, table or column concerned, never the
    detail or a quoted row value.
    """
    if isinstance(error, psycopg2.Error):
        return redactor.scrub(_describe_database_error(error), limit)
    text = _first_line(error)
    if isinstance(error, ValueError | KeyError):  # these quote the offending value
        text = _without_quoted(text)
    name = type(error).__name__
    code = getattr(error, "code", None)
    if isinstance(code, str | int) and not isinstance(code, bool) and str(code) not in text:
        name = f"{name} {code}"
    return redactor.scrub(f"{name}: {text}" if text else name, limit)


_CONNECTION_KINDS = (
    "password authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "connection refused",
    "connection reset by peer",
    "connection timed out",
    "timeout expired",
    "no route to host",
    "network is unreachable",
    "name or service not known",
    "temporary failure in name resolution",
    "could not translate host name",
    "certificate verify failed",
    "server does not support ssl",
    "ssl connection has been closed unexpectedly",
    "server closed the connection unexpectedly",
    "the database system is starting up",
    "the database system is shutting down",
    "terminating connection due to administrator command",
    "remaining connection slots are reserved",
    "too many clients already",
    "too many connections",
    "no such file or directory",
)
_NO_SUCH = re.compile('(database|role) ".*" does not exist')
_QUOTE = re.compile("[\"«»„“”‘’`]|(?<!n)'|'(?!t\\b)")  # but not the apostrophe in "can't"


def _describe_database_error(error: psycopg2.Error) -> str:
    diag = error.diag
    name = type(error).__name__
    if error.pgcode:
        name = f"{name} {error.pgcode}"
    if _said_by_a_function(error):
        # A trigger of the host may reveal row values, even in the names it reports.
        function = _FUNCTION.search((diag.context or "").partition("\n")[0])
        return f"{name}: raised by function {function[1]}" if function else f"{name}: raised"
    if diag.message_primary:
        text = diag.message_primary
        # Class 42 quotes only table and column names. Other classes may quote row values, and so
        # may a statement that a function assembled.
        if not (error.pgcode or "").startswith("42") or diag.context:
            text = _without_quoted(text)
    else:
        text = _connection_kind(error)
    concerned = {
        "constraint": diag.constraint_name,
        "table": diag.table_name,
        "column": diag.column_name,
    }
    about = ", ".join(f"{kind} {value}" for kind, value in concerned.items() if value)
    text = f"{text} ({about})" if about else text
    return f"{name}: {text}" if text else name


# The server functions behind RAISE and ASSERT; a RAISE may carry any SQLSTATE.
_RAISERS = ("exec_stmt_raise", "exec_stmt_assert")
# SQLSTATE classes that the server itself raises while a function runs.
_SERVER_CLASSES = ("21", "22", "23", "25", "40", "42", "53", "54", "55", "57")
_FUNCTION = re.compile(r"([\w.]+)\(")


def _said_by_a_function(error: psycopg2.Error) -> bool:
    """Whether the error text was written by a function's author rather than by the server."""
    if error.diag.source_function in _RAISERS:
        return True
    inside = error.diag.context is not None
    return inside and (error.pgcode or "")[:2] not in _SERVER_CLASSES


def _connection_kind(error: psycopg2.Error) -> str:
    """Return libpq's own error without hosts, users or connection strings."""
    try:
        whole = str(error).lower()
    except Exception:  # a broken __str__ must not hide the error
        return ""
    for kind in _CONNECTION_KINDS:
        if kind in whole:
            return kind
    missing = _NO_SUCH.search(whole)
    if missing:
        return f"{missing[1]} does not exist"
    return _without_quoted(_first_line(error))


def _without_quoted(text: str) -> str:
    """Remove everything from the first quotation mark to the last.

    The value in between may contain quotation marks itself. A single mark removes all that follows.
    """
    places = [match.start() for match in _QUOTE.finditer(text)]
    if not places:
        return text
    after = text[places[-1] + 1 :] if len(places) > 1 else ""
    return f"{text[: places[0]]}[value]{after}"


def _first_line(error: BaseException) -> str:
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # a broken __str__ must not hide the error
        return ""
    return lines[0].strip() if lines else ""


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield json.dumps(secret)[1:-1]
    yield repr(secret)[1:-1]
    for encoded in (quote(secret, safe="", errors="replace"), quote(secret, errors="replace")):
        yield encoded
        yield re.sub("%..", lambda match: match[0].lower(), encoded)
    yield quote_plus(secret, errors="replace")
    raw = secret.encode(errors="replace")
    for offset in range(3):
        # Only the base64 characters that are independent of the bytes around the secret.
        first, last = -(-offset * 8 // 6), (offset + len(raw)) * 8 // 6
        for encode in (b64encode, urlsafe_b64encode):
            yield encode(b"\0" * offset + raw).decode()[first:last]


def _secrets_in(value: object) -> Iterator[Secret]:
    if isinstance(value, Secret):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _secrets_in(part)
    elif isinstance(value, Mapping):
        yield from _secrets_in(list(value.values()))
    elif is_dataclass(value):
        for field in fields(value):
            yield from _secrets_in(getattr(value, field.name))


def _passwords_of(dsn: str) -> set[str]:
    """Return the passwords in a connection string, both decoded and as written."""
    written = re.match(r"[^:/]+://[^:@/]*:(.*)@", dsn)
    found = {written[1]} if written else set()
    try:
        parts = parse_dsn(dsn)
    except psycopg2.Error:  # connecting will fail with a better message
        return found
    return found | {str(parts[key]) for key in ("password", "sslpassword") if key in parts}
