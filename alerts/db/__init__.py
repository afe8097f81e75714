"""PostgreSQL: addresses, connections that do not hang, transactions, statements.

Every connection is in autocommit mode and transactions are opened explicitly, so a single
statement costs one round trip instead of three.
"""

from alerts.db.connections import (
    WAKE_SECONDS,
    cancel_statement,
    connect,
    dropped,
    names_several_hosts,
    open_session,
)
from alerts.db.errors import NoAnswer, PoolerDetected, WrongServer
from alerts.db.statements import (
    MIGRATE,
    Connection,
    Params,
    Row,
    execute,
    fetch_all,
    fetch_one,
    json_text,
    lacks_migrations,
    transaction,
    web_transaction,
)
from alerts.db.url import problem_of_url
from alerts.db.watch import WatchedConnection, watched

__all__ = [
    "MIGRATE",
    "WAKE_SECONDS",
    "Connection",
    "NoAnswer",
    "Params",
    "PoolerDetected",
    "Row",
    "WatchedConnection",
    "WrongServer",
    "cancel_statement",
    "connect",
    "dropped",
    "execute",
    "fetch_all",
    "fetch_one",
    "json_text",
    "lacks_migrations",
    "names_several_hosts",
    "open_session",
    "problem_of_url",
    "transaction",
    "watched",
    "web_transaction",
]
