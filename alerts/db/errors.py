"""What can be wrong with a connection, beyond what the driver says."""

from __future__ import annotations

import psycopg2


class NoAnswer(psycopg2.OperationalError):
    """The connection was given up since no answer came in time."""


class PoolerDetected(Exception):
    """The database is reached through a transaction pooler, where session locks do not hold."""

    def __init__(self) -> None:
        super().__init__(
            "DATABASE_URL goes through a connection pooler, where the engine's locks and session "
            "settings do not hold; set it to the database's direct address for the runner"
        )


class WrongServer(psycopg2.OperationalError):
    """The connection leads to a standby: it takes no writes, and what it shows may be old."""

    def __init__(self) -> None:
        super().__init__(
            "DATABASE_URL leads to a standby server, which takes no writes; after a failover it "
            "has to name the new primary"
        )
