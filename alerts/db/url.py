"""Finds common mistakes in a pasted DATABASE_URL and describes them without quoting the value."""

from __future__ import annotations

import re

import psycopg2
from psycopg2.extensions import parse_dsn

_FORM = "postgresql://user:password@host:5432/name"
_QUOTES = "\"'`“”‘’„«»"
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SERVERS = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")

# How a value that is not an address begins, and what to do about it.
_WRONG_BEGINNINGS = (
    (r"(export\s+|set\s+)?[a-z_]+\s*=\s*[\"'“‘]?\s*(psql|postgres)",
     "begins with the variable's name; keep only the part after the ="),
    (r"psql\b", "contains a psql command; keep only the address, without psql and quotes"),
    (r"jdbc:", f"is an address for Java; write it as {_FORM}"),
    (r"postgres(ql)?\+\w+:",
     "names a Python driver; begin it with postgresql://, without the + and the driver's name"),
    (r"prisma(\+postgres)?:", f"is an address for Prisma; use the database's own, {_FORM}"),
    (r"\$|%\w+%$|\{\{",
     "contains an unexpanded variable; set the address itself"),
    (r"https?:", f"is a web address; use the connection string of the database, {_FORM}"),
    (r"(mysql|mariadb|sqlite|mongodb|redis|mssql|sqlserver|cockroachdb)\b[^=]*:",
     "is the address of another kind of database; the engine needs PostgreSQL"),
)  # fmt: skip
_PLACEHOLDER = re.compile(
    r"[\[<{](your[-_ ]?)?(db[-_ ]?)?(password|user|username|host)[\]>}]", re.IGNORECASE
)


def problem_of_url(text: str) -> str | None:
    """Describe what is wrong with the address and how to fix it, or return None.

    The text continues a sentence that begins with "DATABASE_URL". Errors that only show when
    connecting (a wrong host or password) are not detected.
    """
    is_url = re.match(r"postgres(ql)?://", text)
    if text[:1] in _QUOTES or (is_url and text[-1:] in _QUOTES):
        return "has quotation marks around it; remove them"
    for beginning, problem in _WRONG_BEGINNINGS:
        if re.match(beginning, text, re.IGNORECASE):
            return problem
    if _PLACEHOLDER.search(text):
        return "still contains a placeholder such as [YOUR-PASSWORD]; put the real value there"
    if is_url:
        if re.search(r"\s", text):
            return "contains white space or a line break; in a password write %20 for a space"
        unknown = _unknown_parameters(text)
        if unknown:
            return (
                f"has parameters that PostgreSQL does not know: {', '.join(unknown)}; remove them"
            )
    try:
        parts = parse_dsn(text)
    except (psycopg2.Error, UnicodeError):  # their words quote the address
        return _why_unreadable(text)
    return _problem_of_parts(parts)


def _unknown_parameters(text: str) -> list[str]:
    """Return the query parameters that libpq does not know; unusual names are not shown."""
    unknown = []
    for part in filter(None, _query(text).split("&")):
        if part == "ssl=true":  # a JDBC parameter; libpq accepts only this value
            continue
        name = part.partition("=")[0]
        try:
            parse_dsn(f"postgresql://h/d?{name}=")
        except (psycopg2.Error, UnicodeError):
            unknown.append(name if re.fullmatch(r"[A-Za-z_.]{1,40}", name) else "(not shown)")
    return unknown


def _query(text: str) -> str:
    # After the last @, since a password may contain a question mark.
    return text.rpartition("@")[2].partition("?")[2]


def _why_unreadable(text: str) -> str:
    if not re.match(r"postgres(ql)?://", text):
        return f"is not the address of a PostgreSQL database; it takes {_FORM}"
    login = text.partition("://")[2].rpartition("@")[0]
    if "%" in login:  # an invalid percent escape, or none
        return "contains a % in its user or password; write %25 for it"
    if any(part.count("=") > 1 for part in _query(text).split("&")):
        return "contains an = in the value of a parameter; write %3D for it"
    return f"cannot be read; it takes {_FORM}, with @ : / % in a password as %40 %3A %2F %25"


def _problem_of_parts(parts: dict[str, str]) -> str | None:
    # An unescaped @ or / in the password splits the address in the wrong place.
    host, port = parts.get("host", ""), parts.get("port", "")
    if "@" in host or "@" in parts.get("dbname", "") or not re.fullmatch(r"[0-9,]*", port):
        return (
            "cannot be read: in a password write %40 for @, %2F for /, %3A for :, %25 for %, and "
            "give the port as a number"
        )
    for name, allowed in (("sslmode", _SSL_MODES), ("target_session_attrs", _SERVERS)):
        if name in parts and parts[name] not in allowed:
            return f"has an invalid {name}; it takes {', '.join(allowed)}"
    for name in ("connect_timeout", "keepalives", "tcp_user_timeout", "keepalives_idle"):
        if not re.fullmatch(r"\d{0,9}", parts.get(name, "")):
            return f"has an invalid {name}; it takes a whole number"
    return None


def options_of(database_url: str) -> set[str]:
    """Return the names of the server settings in the address, in lower case."""
    words = parse_dsn(database_url).get("options", "")
    found = re.findall(r"(?:^|\s)(?:-c\s*|--)([\w.-]+)=", words)
    return {name.replace("-", "_").lower() for name in found}
