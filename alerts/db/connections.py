"""Connecting: the operator's address takes precedence, and a waking database gets time to start."""

from __future__ import annotations

import codecs
import re
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg2
from psycopg2.extensions import connection, encodings, parse_dsn

from alerts.db import settings
from alerts.db.errors import NoAnswer, PoolerDetected, WrongServer
from alerts.db.statements import GRACE_SECONDS, execute, fetch_one
from alerts.db.watch import WatchedConnection, WatchedCursor, watched

# A vanished peer is noticed within about ten seconds even if packets are silently dropped:
# keepalives cover waiting for an answer, the user timeout covers unacknowledged data.
_SOCKET_OPTIONS: dict[str, Any] = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 10_000,
}
# How long programs without a waiting user wait for a waking database.
WAKE_SECONDS = 20.0
_FIRST_STATEMENT_SECONDS = 5.0  # a session's first statement waits for no lock
_PROBE_SECONDS = 3
# A restarting database refuses connections only briefly; a wrong port refuses them forever.
_REFUSED_SECONDS = 3.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 1.0

# The driver gives no error codes for connection failures, only text.
_WAKING = re.compile(
    r"timeout expired|closed the connection unexpectedly|connection reset|SSL SYSCALL error"
    r"|starting up|shutting down|in recovery mode|not yet accepting|not currently accepting"
    r"|Temporary failure in name resolution|08\d\d\d|57P0\d"
    # Of several hosts none takes writes: during a failover, until one is promoted.
    r"|session is read-only|server is in hot standby mode",
    re.IGNORECASE,
)
_DROPPED = re.compile(r"closed the connection unexpectedly|connection reset|SSL SYSCALL error")
_REFUSED = re.compile(r"Connection refused")
_SERVER_SAID = re.compile(r"\w:  ")  # as in "FATAL:  ...", in any language


def connect(
    database_url: str,
    *,
    application_name: str,
    connect_timeout: int = 5,
    limit_seconds: float | None = None,
    wait_seconds: float = 0.0,
    stopped: Callable[[], object] = lambda: None,
) -> WatchedConnection:
    """Open an autocommit connection without session settings, so that it works through a pooler.

    Each host in the address gets ``connect_timeout`` seconds (libpq's minimum is 2), each
    statement ``limit_seconds`` (None: no limit; a web transaction sets its own). If the database
    is waking up, retries for ``wait_seconds`` unless ``stopped()``. Parameters in the address
    override all of these. Raises ``psycopg2.OperationalError``.
    """
    once = partial(_connect, database_url, application_name, connect_timeout, limit_seconds)
    return _patiently(once, wait_seconds, stopped)


def open_session(
    database_url: str,
    *,
    application_name: str,
    connect_timeout: int = 5,
    statement_timeout_ms: int = 0,
    lock_timeout_ms: int = 0,
    limit_seconds: float | None = None,
    wait_seconds: float = 0.0,
    stopped: Callable[[], object] = lambda: None,
) -> WatchedConnection:
    """Open a direct session with :mod:`alerts.db.settings`, whatever the role's defaults.

    The timeouts are the server's (0: none). The client waits ``limit_seconds`` for a statement, by
    default a little longer than the server's timeout; with neither, it waits as long as the server
    reports that it is working on the statement.

    Raises :class:`PoolerDetected` if the backend that answers is not the one the connection was
    given, which means there is a pooler. The same statement applies the settings, but only if the
    two match, so nothing leaks into a pool. Raises :class:`WrongServer` on a standby, unless the
    address asks for one.
    """
    if limit_seconds is None and statement_timeout_ms:
        limit_seconds = statement_timeout_ms / 1000 + GRACE_SECONDS

    def once() -> WatchedConnection:
        conn = _connect(database_url, application_name, connect_timeout, _FIRST_STATEMENT_SECONDS)
        try:
            _begin_session(conn, statement_timeout_ms, lock_timeout_ms)
        except BaseException:
            conn.close()
            raise
        asks = statement_timeout_ms == 0 or statement_timeout_ms > 60_000
        probe = partial(_works_on, database_url, conn.info.host, conn.info.port, _pid(conn))
        watched(conn, limit_seconds=limit_seconds, still_working=probe if asks else None)
        return conn

    return _patiently(once, wait_seconds, stopped)


def cancel_statement(database_url: str, backend_pid: int) -> None:
    """Cancel the statement that another of our connections is waiting for.

    The driver's own cancel is not used because it blocks the interpreter until the network
    answers. Raises ``psycopg2.Error``.
    """
    conn = connect(
        database_url,
        application_name="alerts-cancel",
        connect_timeout=2,
        limit_seconds=_PROBE_SECONDS,
    )
    try:
        execute(conn, "SELECT pg_cancel_backend(%s)", (backend_pid,))
    finally:
        conn.close()


def names_several_hosts(database_url: str) -> bool:
    """Whether there is another server to turn to when one does not answer."""
    return _names_several(parse_dsn(database_url))


def dropped(error: BaseException) -> bool:
    """Whether the connection was dropped at once without an answer, as by a waking database."""
    return bool(_DROPPED.search(str(error)))


def _connect(
    database_url: str,
    application_name: str,
    timeout: int,
    limit_seconds: float | None,
    **forced: Any,
) -> WatchedConnection:
    given = parse_dsn(database_url)
    defaults = {
        "application_name": application_name,
        "connect_timeout": timeout,
        **_SOCKET_OPTIONS,
    }
    if _names_several(given):  # use the primary
        defaults["target_session_attrs"] = "primary"
    options = {name: value for name, value in defaults.items() if name not in given} | forced
    # Use UTF-8, whatever the database, the address or PGCLIENTENCODING specifies.
    conn = _open(database_url, {**options, "client_encoding": "UTF8"})
    if conn.info.parameter_status("server_encoding") == "SQL_ASCII":
        conn.close()
        conn = _open(database_url, {**options, "client_encoding": "SQL_ASCII"})
    wanted = given.get("target_session_attrs", "primary")
    conn.standby_ok = wanted not in ("primary", "read-write")
    watched(conn, limit_seconds=limit_seconds)
    return conn


def _names_several(given: dict[str, str]) -> bool:
    return "," in given.get("host", "") + given.get("hostaddr", "")


def _open(database_url: str, options: dict[str, Any]) -> WatchedConnection:
    conn: WatchedConnection = psycopg2.connect(
        database_url,
        connection_factory=WatchedConnection,
        cursor_factory=WatchedCursor,
        **options,
    )
    conn.autocommit = True
    return conn


def _begin_session(
    conn: WatchedConnection, statement_timeout_ms: int, lock_timeout_ms: int
) -> None:
    wanted = settings.of_session(conn, statement_timeout_ms, lock_timeout_ms)
    asked = {"settings": wanted, "given": conn.get_backend_pid()}
    row = fetch_one(conn, settings.BEGIN_SESSION, asked)
    if row is None:
        raise PoolerDetected
    if row["standby"] and not conn.standby_ok:
        raise WrongServer


def _pid(conn: connection) -> int:
    return int(conn.info.backend_pid)


# If the backend is idle, its answer was lost on the way to us.
_STATE = """
SELECT coalesce(state NOT LIKE 'idle%%', TRUE) AS works FROM pg_stat_activity WHERE pid = %s
"""


def _works_on(database_url: str, host: str, port: int, backend_pid: int) -> bool:
    """Whether the server is still working on the statement of another of our connections.

    Asks on a new connection. A refusal by the server (too many connections) counts as a sign of
    life; silence does not.
    """
    try:
        conn = _connect(
            database_url, "alerts-probe", _PROBE_SECONDS, _PROBE_SECONDS,
            connect_timeout=_PROBE_SECONDS, host=host, port=port,
        )  # fmt: skip
        try:
            row = fetch_one(conn, _STATE, (backend_pid,))
        finally:
            conn.close()
    except psycopg2.Error as error:
        return bool(error.pgcode or _SERVER_SAID.search(str(error)))
    return bool(row and row["works"])


def _patiently(
    once: Callable[[], WatchedConnection], wait_seconds: float, stopped: Callable[[], object]
) -> WatchedConnection:
    """Retry until ``wait_seconds`` have passed, as long as the database seems to be waking up."""
    started, pause = time.monotonic(), _FIRST_PAUSE_SECONDS
    while True:
        try:
            return once()
        except psycopg2.OperationalError as error:
            left = min(wait_seconds, _worth_waiting(error)) - (time.monotonic() - started)
            if left <= 0 or stopped():
                raise
        time.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _worth_waiting(error: psycopg2.OperationalError) -> float:
    """Return for how many seconds it is worth retrying after this failure."""
    if isinstance(error, WrongServer | NoAnswer) or _WAKING.search(str(error)):
        return float("inf")
    return _REFUSED_SECONDS if _REFUSED.search(str(error)) else 0.0


# A database with encoding SQL_ASCII may contain any bytes, and the server converts nothing. Text
# is read as UTF-8 with invalid bytes replaced: with strict decoding, one bad row would block all
# others.
_LENIENT = "alerts-lenient-utf8"


def _lenient(name: str) -> codecs.CodecInfo | None:
    if name.replace("_", "-") != _LENIENT:
        return None
    return codecs.CodecInfo(
        lambda text, errors="strict": codecs.utf_8_encode(text, errors),
        lambda data, errors="strict": codecs.utf_8_decode(data, "replace", True),
        name=_LENIENT,
    )


codecs.register(_lenient)
encodings["SQLASCII"] = encodings["SQL_ASCII"] = _LENIENT
