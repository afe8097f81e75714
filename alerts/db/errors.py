"""Connection errors that the driver does not report itself."""

from __future__ import annotations

import psycopg2


class NoAnswer(psycopg2.OperationalError):
    """The connection was abandoned because no answer came in time."""


class PoolerDetected(Exception):
    """The connection goes through a transaction pooler, where session locks do not hold."""

    def __init__(self) -> None:
        super().__init__(
            "DATABASE_URL goes through a connection pooler, where the engine's locks and session "
            "settings do not hold; set it to the database's direct address for the runner"
        )


class WrongServer(psycopg2.OperationalError):
    """The connection leads to a standby, which refuses writes and may show stale data."""

    def __init__(self) -> None:
        super().__init__(
            "DATABASE_URL leads to a standby server, which takes no writes; after a failover it "
            "must name the new primary"
        )
