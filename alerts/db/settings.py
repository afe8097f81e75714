"""The server's settings that our statements rest on, whatever role, database and server say.

They travel with a round trip that exists already: an engine's session sets them with its first
statement, the web's transactions with their BEGIN, for themselves alone, since a pooler may give
each of them another backend.
"""

from __future__ import annotations

import json
from functools import lru_cache

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

_SET = sql.SQL("""
(
    SELECT count(set_config(key, value, {local})) FROM json_each_text(%(settings)s::json)
) AS made
""")
# No row where another backend answers than the one we were given; then nothing is set either.
BEGIN_SESSION = sql.SQL(
    "SELECT {made}, pg_is_in_recovery() AS standby WHERE pg_backend_pid() = %(given)s"
).format(made=_SET.format(local=sql.SQL("FALSE")))
# A reading transaction sees a single snapshot: figures of several statements belong together.
_BEGIN = sql.SQL("BEGIN {mode}; SELECT {made}, pg_is_in_recovery() AS standby")
_LOCAL = _SET.format(local=sql.SQL("TRUE"))
BEGIN_READING = _BEGIN.format(
    mode=sql.SQL("ISOLATION LEVEL REPEATABLE READ READ ONLY"), made=_LOCAL
)
BEGIN_WRITING = _BEGIN.format(
    mode=sql.SQL("ISOLATION LEVEL READ COMMITTED READ WRITE"), made=_LOCAL
)


def of_session(conn: connection, statement_timeout_ms: int, lock_timeout_ms: int) -> str:
    """The settings of a session of the engine's, as JSON."""
    timeouts = (statement_timeout_ms, lock_timeout_ms)
    return _chosen(conn.dsn, conn.info.server_version, timeouts, session=True)


def of_transaction(conn: connection, statement_timeout_ms: int, lock_timeout_ms: int) -> str:
    """The settings of one transaction of the web app or a command, as JSON."""
    timeouts = (statement_timeout_ms, lock_timeout_ms)
    return _chosen(conn.dsn, conn.info.server_version, timeouts, session=False)


@lru_cache(maxsize=64)
def _chosen(dsn: str, version: int, timeouts: tuple[int, int], *, session: bool) -> str:
    statement, lock = timeouts
    meaning = {**_MEANING, **(_SESSION_MEANING if session else {})}
    limits = {**_LIMITS, **(_SESSION_LIMITS if session else {})}
    limits |= {"statement_timeout": str(statement), "lock_timeout": str(lock)}
    if version >= 170_000:
        limits |= _SINCE_17
    theirs = options_of(dsn)
    ours = {name: value for name, value in limits.items() if name not in theirs}
    return json.dumps({**meaning, **ours})
