"""Describes migration failures to the operator without showing row values.

PostgreSQL quotes row values in two places: the DETAIL of integrity errors (class 23: "Key
(email)=(...) already exists") and the text of data errors (class 22: "invalid input syntax for
type integer: ..."). Both are omitted. Errors that a migration raises itself (P0001) are shown in
full.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import psycopg2
from psycopg2 import errorcodes
from psycopg2.extensions import Diagnostics, connection

from alerts.migrations.files import Migration, MigrationError
from alerts.migrations.statements import Statement

# Classes whose DETAIL is about definitions (columns, types, dependent objects), not rows.
_DETAIL_CLASSES = ("0A", "25", "2B", "42", "55")

_QUOTED = re.compile(r'"[^"]*"')
# The server translates the surrounding words, but not this name.
_CODE_BLOCK_LINE = re.compile(r"inline_code_block\D*(\d+)")

# Sessions in this database that hold the key's advisory lock (stored as two halves) or, if the key
# is NULL, a lock on a table. Every role may read pg_locks, but not the age of other roles'
# transactions.
_LOCK_HOLDERS = """
SELECT DISTINCT activity.pid, activity.application_name, activity.state
FROM pg_locks AS held
JOIN pg_stat_activity AS activity ON activity.pid = held.pid
WHERE held.granted
  AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND held.pid <> pg_backend_pid()
  AND CASE held.locktype
      WHEN 'relation' THEN %(key)s IS NULL AND held.relation >= 16384
      WHEN 'advisory' THEN held.objsubid = 1
          AND ((held.classid::bigint << 32) | held.objid::bigint) = %(key)s
      ELSE false
  END
ORDER BY activity.pid
LIMIT 5
"""


@dataclass(eq=False)
class StatementFailed(Exception):
    """A migration's statement failed; None means the deferred constraints at its end."""

    migration: Migration
    statement: Statement | None
    error: psycopg2.Error


def explain_failure(failed: StatementFailed, conn: connection) -> MigrationError:
    """Describe a failed statement to people; call it after the rollback."""
    statement, error = failed.statement, failed.error
    if statement is None:
        where = "at its end (deferred constraints)"
    else:
        where = f"line {_line(statement, error.diag)}"
    lines = [f"{failed.migration.file_name}, {where}: {error_summary(error)}"]
    if error.pgcode == errorcodes.LOCK_NOT_AVAILABLE:
        lines.append(
            "A table it changes is in use by another session, and waiting longer would have "
            "blocked everyone else. Run again; if it happens again, end the long "
            f"transaction first.{lock_holders(conn)}"
        )
    elif error.pgcode == errorcodes.ACTIVE_SQL_TRANSACTION:
        lines.append("Migrations run in a transaction: use a form of the command that allows it.")
    elif statement and _is_for_psql(statement, error):
        lines.append("Only psql supports this: use no \\commands, and use INSERT, not COPY.")
    return MigrationError("\n".join(lines))


def _line(statement: Statement, diag: Diagnostics) -> int:
    if diag.statement_position:
        return statement.line_at(int(diag.statement_position) - 1)
    in_block = _CODE_BLOCK_LINE.findall(diag.context or "")
    if in_block and statement.words[:1] == ("DO",) and statement.body is not None:
        return statement.line_at(statement.body) + int(in_block[-1]) - 1
    return statement.line


def _is_for_psql(statement: Statement, error: psycopg2.Error) -> bool:
    if error.pgcode is None:
        return statement.words[:1] == ("COPY",)
    position = int(error.diag.statement_position or 0)
    return position > 0 and statement.text[position - 1 : position] == "\\"


def lock_holders(conn: connection, key: int | None = None) -> str:
    """Name the sessions that hold the advisory lock or, without ``key``, a lock on a table.

    Returns a sentence, or an empty string if none is visible.
    """
    try:
        with conn.cursor() as cursor:
            cursor.execute(_LOCK_HOLDERS, {"key": key})
            rows = cursor.fetchall()
    except psycopg2.Error:  # only a hint: the original error matters more
        return ""
    sessions = ", ".join(
        f"pid {pid} ({name or 'no application name'}, {state or 'state not shown'})"
        for pid, name, state in rows
    )
    return f" Sessions holding locks: {sessions}." if sessions else ""


def error_summary(error: psycopg2.Error) -> str:
    """Return the server's message, detail and hint on separate lines, without row values."""
    code, diag = error.pgcode, error.diag
    if code is None:
        if isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError):
            return "the connection to the database was lost; run again: applied files stay applied"
        return str(error).strip().partition("\n")[0]
    message = diag.message_primary or "the server gave no message"
    if code.startswith(errorcodes.CLASS_INTEGRITY_CONSTRAINT_VIOLATION):
        message = f"{_integrity_error(error)} (SQLSTATE {code}); the values are not shown"
    elif code != errorcodes.RAISE_EXCEPTION:
        # With a position, the value is a constant in the file; without, it may come from a row.
        if code.startswith(errorcodes.CLASS_DATA_EXCEPTION) and not diag.statement_position:
            message = _QUOTED.sub('"..."', message)
        message = f"{message} (SQLSTATE {code})"
    if diag.message_detail and (code == errorcodes.RAISE_EXCEPTION or code[:2] in _DETAIL_CLASSES):
        message += f"\nDETAIL: {diag.message_detail}"
    return f"{message}\nHINT: {diag.message_hint}" if diag.message_hint else message


def _integrity_error(error: psycopg2.Error) -> str:
    concerned = {
        "constraint": error.diag.constraint_name,
        "table": error.diag.table_name,
        "column": error.diag.column_name,
    }
    about = ", ".join(f'{kind} "{name}"' for kind, name in concerned.items() if name)
    kind = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()
    return f"{kind} on {about}" if about else kind
