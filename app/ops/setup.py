"""What the engine and this app run with."""

from __future__ import annotations

from alerts import questions
from alerts.lookup.setup import get_setup
from app.current import database, settings
from app.ops.asking import answer, asked
from app.ops.rendering import page


def setup() -> str:
    """Channels, limits, database, versions, addresses."""
    asked(())
    with database().transaction() as conn:
        health = answer(conn, questions.HEALTH, fail_on=None)
        found = get_setup(conn, settings())
    return page("setup", engine=health["engine"], told=health["channels"], setup=found)
