"""Who may come in with a link: whoever holds one that we signed, not too often."""

from __future__ import annotations

import time

from alerts.leaving import links
from alerts.leaving.links import Leaver
from alerts.leaving.unsubscribe import signing_key
from app.current import database
from app.limits import Limit

KEY_SECONDS = 60.0  # how long the database's key is kept


class Gate:
    """A process's own limits, and the key that it checks links with.

    Wrong links are counted apart and checked without the database, so whoever guesses keeps
    nobody out who shares an address with him. That of right ones is generous: a mail provider
    posts for many of its users from a few addresses.
    """

    def __init__(self) -> None:
        self.wrong = Limit(60)
        self.by_link = Limit(30)
        self.by_address = Limit(1_200)
        self._key: bytes | None = None
        self._read_at = 0.0

    def leaver(self, signed: str) -> Leaver | None:
        """Whom a link is for; None where it is none of ours. Raises ``psycopg2.Error``."""
        if not links.looks_signed(signed):
            return None
        key = self._current_key()
        return links.read(key, signed) if key else None

    def _current_key(self) -> bytes | None:
        now = time.monotonic()
        if self._key is None or now - self._read_at > KEY_SECONDS:
            with database().transaction() as conn:
                self._key = signing_key(conn)
            self._read_at = now
        return self._key
