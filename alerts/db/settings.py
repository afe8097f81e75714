"""The server settings that our statements rely on, whatever the role, database or server default.

They need no extra round trip: an engine session sets them with its first statement. A web
transaction sets them with its BEGIN and only for itself, since a pooler may give each transaction
a different backend.
"""

from __future__ import annotations

import json

from psycopg2 import sql
from psycopg2.extensions import connection

from alerts.db.url import options_of

# Settings that change the meaning of a statement or its result; these cannot be overridden.
_MEANING = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "array_nulls": "on",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "row_security": "on",  # off raises an error even if the policies show us every row
}
# Settings that the operator may override in the `options` of the address.
_LIMITS = {
    "search_path": "public",
    "jit": "off",  # compiling a long statement costs more than running it
    "idle_in_transaction_session_timeout": "0",
}
_SESSION_MEANING = {"default_transaction_isolation": "read committed"}
# work_mem keeps the set-based statements out of temporary files. random_page_cost assumes SSDs;
# with the default, a claim reads small tables in full.
_SESSION_LIMITS = {"idle_session_timeout": "0", "work_mem": "32MB", "random_page_cost": "1.1"}
_SINCE_17 = {"transaction_timeout": "0"}

# Returns no row, and sets nothing, if the backend that answers is not the one we were given.
BEGIN_SESSION = """
SELECT
    (SELECT count(set_config(key, value, FALSE)) FROM json_each_text(%(settings)s)) AS made,
    pg_is_in_recovery() AS standby
WHERE pg_backend_pid() = %(given)s
"""
# A read transaction uses a single snapshot, so figures from several statements are consistent.
_READING = sql.SQL("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
_WRITING = sql.SQL("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
_BEGIN = sql.SQL("{begin}; {settings}; SELECT pg_is_in_recovery() AS standby")
_LOCAL = sql.SQL("SET LOCAL {name} = {value}")


def of_session(conn: connection, statement_ms: int, lock_ms: int) -> str:
    """Return the settings of an engine session as JSON."""
    meaning, limits = {**_MEANING, **_SESSION_MEANING}, {**_LIMITS, **_SESSION_LIMITS}
    return json.dumps(_chosen(conn, meaning, {**limits, **_timeouts(statement_ms, lock_ms)}))


def begin_transaction(conn: connection, *, read_only: bool, statement_ms: int, lock_ms: int) -> str:
    """Return the BEGIN, including settings, for a transaction of the web app or a command."""
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


_begins: dict[tuple[str, int, bool, int, int], str] = {}  # small: a process uses one or two DSNs


def _timeouts(statement_ms: int, lock_ms: int) -> dict[str, str]:
    return {"statement_timeout": str(statement_ms), "lock_timeout": str(lock_ms)}


def _chosen(conn: connection, meaning: dict[str, str], limits: dict[str, str]) -> dict[str, str]:
    if conn.info.server_version >= 170_000:
        limits = {**limits, **_SINCE_17}
    theirs = options_of(conn.dsn)
    return {**meaning, **{name: v for name, v in limits.items() if name not in theirs}}
