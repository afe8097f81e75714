"""DATABASE_URL as people paste it: what is wrong with it, said without a piece of the value."""

from __future__ import annotations

import re

import psycopg2
from psycopg2.extensions import parse_dsn

_FORM = "postgresql://user:password@host:5432/name"
_QUOTES = "\"'`“”‘’„«»"
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SERVERS = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")

# What an address begins with that is none, and what to do.
_WRONG_BEGINNINGS = (
    (r"(export\s+|set\s+)?[a-z_]+\s*=\s*[\"'“‘]?\s*(psql|postgres)",
     "begins with the variable's name; keep only what stands after the ="),
    (r"psql\b", "holds a psql command; keep only the address, without psql and quotes"),
    (r"jdbc:", f"is an address for Java; write it as {_FORM}"),
    (r"postgres(ql)?\+\w+:",
     "names a Python driver; it begins with postgresql://, without the + and what follows it"),
    (r"prisma(\+postgres)?:", f"is an address for Prisma; use the database's own, {_FORM}"),
    (r"\$|%\w+%$|\{\{",
     "holds the name of a variable that nobody replaced; set the address itself"),
    (r"https?:", f"is a web address; use the connection string of the database, {_FORM}"),
    (r"(mysql|mariadb|sqlite|mongodb|redis|mssql|sqlserver|cockroachdb)\b[^=]*:",
     "is the address of another kind of database; the engine needs PostgreSQL"),
)  # fmt: skip
_PLACEHOLDER = re.compile(
    r"[\[<{](your[-_ ]?)?(db[-_ ]?)?(password|user|username|host)[\]>}]", re.IGNORECASE
)


def problem_of_url(text: str) -> str | None:
    """What is wrong with the address and how to mend it, as "DATABASE_URL ..." goes on; or None.

    What only connecting can tell (a wrong host, a wrong password) is not looked for.
    """
    is_url = re.match(r"postgres(ql)?://", text)
    if text[:1] in _QUOTES or (is_url and text[-1:] in _QUOTES):
        return "has quotation marks around it; leave them out"
    for beginning, problem in _WRONG_BEGINNINGS:
        if re.match(beginning, text, re.IGNORECASE):
            return problem
    if _PLACEHOLDER.search(text):
        return "still holds a placeholder, such as [YOUR-PASSWORD]; put the real value there"
    if is_url:
        if re.search(r"\s", text):
            return "holds white space or a line end; in a password write %20 for a space"
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
    """Names of the query that libpq does not know, as it says itself; odd ones are not shown."""
    unknown = []
    for part in filter(None, _query(text).split("&")):
        if part == "ssl=true":  # of Java; libpq knows it, with this value alone
            continue
        name = part.partition("=")[0]
        try:
            parse_dsn(f"postgresql://h/d?{name}=")
        except (psycopg2.Error, UnicodeError):
            unknown.append(name if re.fullmatch(r"[A-Za-z_.]{1,40}", name) else "(not shown)")
    return unknown


def _query(text: str) -> str:
    # After the last @: a password may hold a question mark.
    return text.rpartition("@")[2].partition("?")[2]


def _why_unreadable(text: str) -> str:
    if not re.match(r"postgres(ql)?://", text):
        return f"is no address of a PostgreSQL database; it takes {_FORM}"
    login = text.partition("://")[2].rpartition("@")[0]
    if "%" in login:  # of two digits that are no sign, or of none
        return "holds a % in its user or password; write %25 for it"
    if any(part.count("=") > 1 for part in _query(text).split("&")):
        return "holds a = in the value of a parameter; write %3D for it"
    return f"cannot be read; it takes {_FORM}, with @ : / % in a password as %40 %3A %2F %25"


def _problem_of_parts(parts: dict[str, str]) -> str | None:
    # A raw @ or / in the password cuts the address in the wrong place.
    host, port = parts.get("host", ""), parts.get("port", "")
    if "@" in host or "@" in parts.get("dbname", "") or not re.fullmatch(r"[0-9,]*", port):
        return (
            "cannot be read: in a password write %40 for @, %2F for /, %3A for :, %25 for %, and "
            "give the port as a number"
        )
    for name, allowed in (("sslmode", _SSL_MODES), ("target_session_attrs", _SERVERS)):
        if name in parts and parts[name] not in allowed:
            return f"has a wrong {name}; it takes {', '.join(allowed)}"
    for name in ("connect_timeout", "keepalives", "tcp_user_timeout", "keepalives_idle"):
        if not re.fullmatch(r"\d{0,9}", parts.get(name, "")):
            return f"has a wrong {name}; it takes a whole number"
    return None


def options_of(database_url: str) -> set[str]:
    """The server's settings that the operator put into the address, in lower case."""
    words = parse_dsn(database_url).get("options", "")
    found = re.findall(r"(?:^|\s)(?:-c\s*|--)([\w.-]+)=", words)
    return {name.replace("-", "_").lower() for name in found}
