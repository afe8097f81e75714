"""The server's settings that our statements rest on, whatever role, database and server say.

They travel with a round trip that exists already: an engine's session sets them with its first
statement, the web's transactions with their BEGIN, for themselves alone, since a pooler may give
each of them another backend.
"""

from __future__ import annotations

import json

from psycopg2 import sql
from psycopg2.extensions import connection

from alerts.db.url import options_of

# What decides the meaning of a statement or of its answer: nobody else's business.
_MEANING = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "array_nulls": "on",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "row_security": "on",  # off would fail statements whose policies let us see everything
}
# What the operator may decide otherwise, in the address's `options`.
_LIMITS = {
    "search_path": "public",
    "idle_in_transaction_session_timeout": "0",
}
_SESSION_MEANING = {"default_transaction_isolation": "read committed"}
# The working memory lets the set-based statements keep their sets out of temporary files; the
# page cost is that of the SSDs databases live on, or a claim reads small tables from end to end.
_SESSION_LIMITS = {"idle_session_timeout": "0", "work_mem": "32MB", "random_page_cost": "1.1"}
_SINCE_17 = {"transaction_timeout": "0"}

# No row where another backend answers than the one we were given; then nothing is set either.
BEGIN_SESSION = """
SELECT
    (SELECT count(set_config(key, value, FALSE)) FROM json_each_text(%(settings)s)) AS made,
    pg_is_in_recovery() AS standby
WHERE pg_backend_pid() = %(given)s
"""
# A reading transaction sees a single snapshot: figures of several statements belong together.
_READING = sql.SQL("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
_WRITING = sql.SQL("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
_BEGIN = sql.SQL("{begin}; {settings}; SELECT pg_is_in_recovery() AS standby")
_LOCAL = sql.SQL("SET LOCAL {name} = {value}")


def of_session(conn: connection, statement_ms: int, lock_ms: int) -> str:
    """The settings of a session of the engine's, as JSON."""
    meaning, limits = {**_MEANING, **_SESSION_MEANING}, {**_LIMITS, **_SESSION_LIMITS}
    return json.dumps(_chosen(conn, meaning, {**limits, **_timeouts(statement_ms, lock_ms)}))


def begin_transaction(conn: connection, *, read_only: bool, statement_ms: int, lock_ms: int) -> str:
    """The BEGIN of a transaction of the web app or a command, which carries its settings."""
    key = (conn.dsn, conn.info.server_version, read_only, statement_ms, lock_ms)
    if key not in _begins:
        chosen = _chosen(conn, _MEANING, {**_LIMITS, **_timeouts(statement_ms, lock_ms)})
        query = _BEGIN.format(
            begin=_READING if read_only else _WRITING,
            settings=sql.SQL("; ").join(
                _LOCAL.format(name=sql.Identifier(name), value=sql.Literal(value))
                for name, value in chosen.items()
            ),
        )
        _begins[key] = query.as_string(conn)
    return _begins[key]


_begins: dict[tuple[str, int, bool, int, int], str] = {}  # a process has one address or two


def _timeouts(statement_ms: int, lock_ms: int) -> dict[str, str]:
    return {"statement_timeout": str(statement_ms), "lock_timeout": str(lock_ms)}


def _chosen(conn: connection, meaning: dict[str, str], limits: dict[str, str]) -> dict[str, str]:
    if conn.info.server_version >= 170_000:
        limits = {**limits, **_SINCE_17}
    theirs = options_of(conn.dsn)
    return {**meaning, **{name: v for name, v in limits.items() if name not in theirs}}
