"""Erasing a user's data: ``erase-user``."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import psycopg2
from psycopg2 import sql
from psycopg2.errors import LockNotAvailable

from alerts import db
from alerts.channels.names import CHANNELS, KINDS
from alerts.locks import lock_number
from alerts.phases import PHASES
from alerts.repair import audit

# The phases that create rows for users; one that is running would go on with what it has read.
_MAKERS = [phase.lock_key for phase in PHASES if phase.letter in ("b", "d")]
_LOCK_MAKERS = "SELECT pg_advisory_xact_lock(n) FROM unnest(%(numbers)s::bigint[]) AS k (n)"
_LOCK_USER = "SELECT FROM users WHERE id = %(user_id)s FOR UPDATE"

# What goes, in this order; the ids of the first two say what a run may hold of it.
_DIGESTS = "DELETE FROM user_alert_digests WHERE user_id = %(user_id)s RETURNING id"
_DELIVERIES = "DELETE FROM user_alert_deliveries WHERE user_id = %(user_id)s RETURNING id"
_ITEMS = """
DELETE FROM user_alert_digest_items AS i
USING user_alert_digests AS g
WHERE g.id = i.digest_id AND g.user_id = %(user_id)s
"""
_ALERT_PREFS = "DELETE FROM user_alert_prefs WHERE user_id = %(user_id)s"
# All except those that only say "off", which stay if the user stays.
_CHANNEL_PREFS = """
DELETE FROM user_channel_prefs
WHERE user_id = %(user_id)s
  AND (%(with_user)s OR enabled OR digest_only OR unsubscribed_at IS NOT NULL)
"""
_REFUSALS = "DELETE FROM alerts_refused_addresses WHERE user_id = %(user_id)s"
_PLAN = "DELETE FROM user_plans WHERE user_id = %(user_id)s"
_USER = "DELETE FROM users WHERE id = %(user_id)s"

# Without a preference the default would apply, which sends.
_SWITCH_OFF = """
INSERT INTO user_channel_prefs (user_id, channel, enabled)
SELECT %(user_id)s, channel, FALSE FROM unnest(%(channels)s::text[]) AS c (channel)
ON CONFLICT (user_id, channel) DO NOTHING
"""

# The leases that hold rows of these; a message of a living one may be under way.
_LEASES = """
SELECT id, until > clock_timestamp() AS living
FROM alerts_leases
WHERE (source = 'deliveries' AND ids && %(deliveries)s::bigint[])
   OR (source = 'digests' AND ids && %(digests)s::bigint[])
"""
# What a lost run held of them. Who locks one of these leases takes it over at this very moment.
_LET_GO = """
WITH lapsed AS MATERIALIZED (
    SELECT
        id,
        ARRAY(
            SELECT unnest(ids) EXCEPT SELECT unnest(
                CASE source WHEN 'deliveries' THEN %(deliveries)s::bigint[]
                ELSE %(digests)s::bigint[] END
            )
        ) AS others
    FROM alerts_leases
    WHERE id = ANY (%(leases)s) AND until <= clock_timestamp()
    FOR UPDATE SKIP LOCKED
),
smaller AS (
    UPDATE alerts_leases AS l
    SET ids = lapsed.others
    FROM lapsed
    WHERE l.id = lapsed.id AND cardinality(lapsed.others) > 0
),
gone AS (
    DELETE FROM alerts_leases AS l
    USING lapsed
    WHERE l.id = lapsed.id AND cardinality(lapsed.others) = 0
)
SELECT count(*) AS amount FROM lapsed
"""

_REQUIRED = """
SELECT attname
FROM pg_attribute
WHERE attrelid = 'users'::regclass AND attname = ANY (%(columns)s) AND attnotnull
"""

# Other tables that refer to users, and what becomes of their rows with the user: a and r refuse,
# c goes too.
_REFERRING = """
SELECT n.nspname AS schema, r.relname AS name, a.attname AS column, c.confdeltype AS on_delete
FROM pg_constraint AS c
JOIN pg_class AS r ON r.oid = c.conrelid
JOIN pg_namespace AS n ON n.oid = r.relnamespace
JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
WHERE c.contype = 'f' AND c.confrelid = 'users'::regclass AND c.conparentid = 0
  AND cardinality(c.conkey) = 1 AND c.confdeltype IN ('a', 'r', 'c')
ORDER BY 1, 2, 3
"""
_ROWS_OF = "SELECT count(*) AS amount FROM {table} WHERE {column} = %(user_id)s"


_BUSY = "{}: nothing was changed. Try again in a minute; a pause ends a run."


class EraseRefused(Exception):
    """The user cannot be erased (now); nothing was changed. The text names the mend."""


def erase(
    conn: db.Connection,
    *,
    user_id: int,
    with_user: bool,
    dry_run: bool,
    now: datetime,
    token_key_id: str,
) -> dict[str, Any] | None:
    """Remove what is kept of a user, and with ``with_user`` the user too; None if there is none.

    The caller gives a READ COMMITTED transaction; the audit row commits with it. A user who stays
    keeps the plan, and a row a channel that says "off". A dry run does the same and undoes it.

    Raises :class:`EraseRefused`, upon which the transaction must be rolled back, and
    ``psycopg2.Error``.
    """
    db.execute(conn, "SAVEPOINT erasing")
    try:
        told = _Erasing(conn, user_id, with_user).run()
    except LockNotAvailable:
        raise EraseRefused(_BUSY.format("A run is at work on who gets which alert")) from None
    except psycopg2.IntegrityError as error:
        raise EraseRefused(_refusal_of(error)) from None
    if told is None:
        return None
    asked = {"user_id": user_id, "with_user": with_user}
    action_id = None
    if dry_run:
        db.execute(conn, "ROLLBACK TO SAVEPOINT erasing")
    else:
        action_id = audit.record_action(
            conn,
            action="erase_user",
            token_key_id=token_key_id,
            parameters=asked,
            result=told,
            now=now,
        )
    return {**asked, "dry_run": dry_run, **told, "action_id": action_id}


class _Erasing:
    def __init__(self, conn: db.Connection, user_id: int, with_user: bool) -> None:
        self.conn, self.user_id, self.with_user = conn, user_id, with_user
        self.asked = {"user_id": user_id, "with_user": with_user}

    def run(self) -> dict[str, Any] | None:
        """``removed`` by what it was, ``channels_switched_off``, and ``also_removed``: rows of
        tables that are not the engine's, by table."""
        db.execute(self.conn, _LOCK_MAKERS, {"numbers": [lock_number(key) for key in _MAKERS]})
        if not db.fetch_all(self.conn, _LOCK_USER, self.asked):
            return None
        removed = {"digest_items": self._execute(_ITEMS)}
        digests, deliveries = self._ids(_DIGESTS), self._ids(_DELIVERIES)
        self._let_go(deliveries, digests)
        removed |= {
            "digests": len(digests),
            "deliveries": len(deliveries),
            "alert_preferences": self._execute(_ALERT_PREFS),
            "channel_preferences": self._execute(_CHANNEL_PREFS),
            "refused_addresses": self._execute(_REFUSALS),
            "destinations": self._remove_destinations(),
            "plan": self._execute(_PLAN) if self.with_user else 0,
            "user": 0,
        }
        switched_off, also = 0, {}
        if self.with_user:
            also = self._referring()
            removed["user"] = self._execute(_USER)
        else:
            switched_off = self._execute(_SWITCH_OFF, channels=list(CHANNELS))
        return {
            "removed": removed,
            "channels_switched_off": switched_off,
            "also_removed": also,
        }

    def _execute(self, statement: Any, **more: Any) -> int:
        return db.execute(self.conn, statement, {**self.asked, **more})

    def _ids(self, statement: str) -> list[int]:
        return [row["id"] for row in db.fetch_all(self.conn, statement, self.asked)]

    def _let_go(self, deliveries: list[int], digests: list[int]) -> None:
        """Take the rows out of the leases of lost runs; refuse while a living run has any.

        What is deleted stands in the queue no more, so no run can claim it from here on; what one
        has claimed before is seen, since the deletion has waited for that.
        """
        held = {"deliveries": deliveries, "digests": digests}
        leases = db.fetch_all(self.conn, _LEASES, held)
        lapsed = [lease["id"] for lease in leases if not lease["living"]]
        if lapsed:
            freed = db.fetch_all(self.conn, _LET_GO, {**held, "leases": lapsed})[0]["amount"]
        if len(lapsed) < len(leases) or (lapsed and freed < len(lapsed)):
            raise EraseRefused(_BUSY.format("A run is sending to this user right now"))

    def _remove_destinations(self) -> int:
        """How many addresses the user had."""
        columns = [str(kind.destination) for kind in KINDS if kind.destination]
        if self.with_user:
            instead: dict[str, str | None] = dict.fromkeys(columns)
        else:
            instead = self._instead_of(columns)
        differs = sql.SQL(" + ").join(
            sql.SQL("({} IS DISTINCT FROM {})::integer").format(
                sql.Identifier(column), sql.Literal(value)
            )
            for column, value in instead.items()
        )
        counting = sql.SQL("SELECT {} AS amount FROM users WHERE id = %(user_id)s").format(differs)
        amount: int = db.fetch_all(self.conn, counting, self.asked)[0]["amount"]
        if amount and not self.with_user:
            values: dict[str, Any] = {**instead, **{k.verified: False for k in KINDS if k.verified}}
            changes = sql.SQL(", ").join(
                sql.SQL("{} = {}").format(sql.Identifier(column), sql.Literal(value))
                for column, value in values.items()
            )
            self._execute(sql.SQL("UPDATE users SET {} WHERE id = %(user_id)s").format(changes))
        return amount

    def _instead_of(self, columns: list[str]) -> dict[str, str | None]:
        """NULL, or in a column that takes none an email address that cannot exist (RFC 6761)."""
        instead: dict[str, str | None] = dict.fromkeys(columns)
        for row in db.fetch_all(self.conn, _REQUIRED, {"columns": columns}):
            if row["attname"] != "email":
                raise EraseRefused(
                    f"users.{row['attname']} does not allow NULL, so it cannot be emptied: nothing "
                    "was changed. Use --with-user, or let the column be NULL."
                )
            instead["email"] = f"erased-{self.user_id}@erased.invalid"
        return instead

    def _referring(self) -> dict[str, int]:
        """Rows of other tables that go with the user; refuse where some keep the user."""
        found: dict[str, int] = {}
        keeping: list[str] = []
        for row in db.fetch_all(self.conn, _REFERRING):
            query = sql.SQL(_ROWS_OF).format(
                table=sql.Identifier(row["schema"], row["name"]),
                column=sql.Identifier(row["column"]),
            )
            amount = db.fetch_all(self.conn, query, self.asked)[0]["amount"]
            if amount and row["on_delete"] == "c":
                found[row["name"]] = found.get(row["name"], 0) + amount
            elif amount:
                keeping.append(f"{row['name']}.{row['column']} ({amount})")
        if keeping:
            raise EraseRefused(
                f"Rows of other tables refer to the user: {', '.join(keeping)}. Nothing was "
                "changed. Remove them first, or leave out --with-user."
            )
        return found


def _refusal_of(error: psycopg2.IntegrityError) -> str:
    """What prevents it, by name only: the database's own message may hold values."""
    table, constraint = error.diag.table_name, error.diag.constraint_name
    where = f"table {table}, constraint {constraint}" if constraint else f"table {table}"
    return f"The database does not allow it ({where}): nothing was changed."
