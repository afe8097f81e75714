"""Load the sample into the database that DATABASE_URL names. See --help."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

# The script can be run by path from any folder, so import from the checkout.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import psycopg2

from alerts import db, words
from alerts.settings.config import ConfigError, database_url_of
from scripts.sample import tables, users

DESCRIPTION = """\
Loads the sample data in scripts/sample (prices since 1986, events, about sixty users) into the
input tables of the database that DATABASE_URL names. It runs in one transaction and adds only what
is missing, so it is safe to run again. The tables must exist: run scripts/migrate.py first.

It refuses a database that contains users who are not part of the sample.
"""
APPLICATION_NAME = "alerts-sample"
# The first 64 bits of SHA-256("alerts_v2_sample"), signed. Concurrent loaders take turns.
LOCK_KEY = -239082257691012211

Report = Callable[[str], None]


class SampleRefused(Exception):
    """The sample must not be loaded into this database."""


def load_sample(conn: db.Connection, report: Report = lambda line: None) -> dict[str, int]:
    """Add the missing sample rows in one transaction and return the number added per table.

    Raises :class:`SampleRefused` if ``users`` contains someone who is not part of the sample.
    """
    added: dict[str, int] = {}
    with db.transaction(conn):
        db.execute(conn, "SELECT pg_advisory_xact_lock(%s)", (LOCK_KEY,))
        _refuse_other_users(conn)
        for name, load in tables.LOADERS:
            added[name] = load(conn)
            report(f"sample: {name}: {added[name]} added")
        if any(added.values()):
            # After sixty thousand new rows, the planner needs statistics for the first queries.
            db.execute(conn, "ANALYZE users, events, risk_events, asset_risk, risk_indices")
    return added


def _refuse_other_users(conn: db.Connection) -> None:
    # Users without an email are recognized by their other addresses; without any, nothing is sent.
    row = db.fetch_one(
        conn,
        """
        SELECT count(*) AS others
        FROM users
        WHERE CASE
            WHEN email IS NOT NULL THEN lower(email) NOT LIKE '%%@example.com'
            ELSE coalesce(telegram_chat_id NOT LIKE %(chat)s, FALSE)
                OR coalesce(phone_number NOT LIKE %(phone)s, FALSE)
        END
        """,
        {"chat": f"{users.TELEGRAM_PREFIX}__", "phone": f"{users.PHONE_PREFIX}__"},
    )
    others = row["others"] if row else 0
    if others:
        raise SampleRefused(
            f"the table users contains {words.count(others, 'user')} whose address is not a "
            "sample address (example.com); the sample is never mixed with real users: set "
            "DATABASE_URL to an empty database"
        )


def _database_url() -> str:
    # PRODUCTION_DATABASE_URL is no fallback here: sample data has no business there.
    return database_url_of({"DATABASE_URL": os.environ.get("DATABASE_URL", "")})


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    argparse.ArgumentParser(
        prog="load.py",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args(arguments)
    try:
        conn = db.open_session(_database_url(), application_name=APPLICATION_NAME)
        try:
            load_sample(conn, _report)
        finally:
            conn.close()
    except (ConfigError, SampleRefused, db.PoolerDetected) as error:
        _report(f"error: {error}")
        return 1
    except psycopg2.errors.UndefinedTable:
        _report("error: the tables are missing; run scripts/migrate.py first")
        return 1
    except psycopg2.OperationalError:
        # The driver's message is not shown because it names the host and the user.
        _report("error: the database at DATABASE_URL does not answer")
        return 1
    return 0


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
