"""Keeping the tables small: ``prune`` removes what is old and final, batch by batch.

Each batch is a transaction of its own that also keeps the audit row true, so it can be ended at
any time: what was done is done and told, and the next call goes on.
"""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg2 import sql

from alerts import db
from alerts.locks import lock_number
from alerts.paging import iso
from alerts.repair import audit
from alerts.settings.config import Settings, require_database_url

LEAST_DAYS = 8  # health and repair look back 7 days, and product days may begin a day earlier
MOST_DAYS = 3650
BATCH = 5_000
BATCH_TIMEOUT_MS = 60_000
LOCK_TIMEOUT_MS = 5_000

_OLD_DIGEST = "g.created_at < %(cutoff)s AND g.status IN ('sent', 'failed', 'skipped')"
# Of this engine's kinds, at its end, and in no digest that stays.
_OLD_DELIVERY = f"""
    d.created_at < %(cutoff)s
    AND d.status IN ('sent', 'failed', 'skipped')
    AND d.delivery_kind IN ('instant', 'digest')
    AND NOT EXISTS (
        SELECT
        FROM user_alert_digest_items AS i
        JOIN user_alert_digests AS g ON g.id = i.digest_id
        WHERE i.delivery_id = d.id AND NOT ({_OLD_DIGEST})
    )
"""  # noqa: S608  (composed of constants)

# One batch of each table: the oldest rows from where the last batch ended, at most so many; of
# those the removable ones that nobody has locked. Each is looked up by its key alone: the planner
# knows nothing of what was seen, and could compare each row with each, or take another index for
# what stale statistics say of times and states.
_WALK = """
WITH seen AS MATERIALIZED (
    SELECT {alias}.id, {alias}.{time}::timestamptz AS time
    FROM {table} AS {alias}
    WHERE {alias}.{time} < %(cutoff)s
      AND {alias}.{time} >= %(after_time)s
      AND ({alias}.{time}, {alias}.id) > (%(after_time)s, %(after_id)s)
    ORDER BY {alias}.{time}, {alias}.id
    LIMIT %(batch)s
),
removable AS MATERIALIZED (
    SELECT {alias}.id
    FROM seen
    CROSS JOIN LATERAL (
        SELECT * FROM {table} WHERE id = seen.id OFFSET 0 FOR UPDATE SKIP LOCKED
    ) AS {alias}
    WHERE {removable}
),
parts AS (
    {parts}
),
removed AS (
    DELETE FROM {table} WHERE id = ANY (ARRAY(SELECT id FROM removable)) RETURNING id
)
SELECT
    (SELECT count(*) FROM removed) AS removed,
    (SELECT amount FROM parts) AS parts,
    (SELECT count(*) FROM seen) AS seen,
    (SELECT time FROM seen ORDER BY time DESC, id DESC LIMIT 1) AS last_time,
    (SELECT id FROM seen ORDER BY time DESC, id DESC LIMIT 1) AS last_id
"""

_COUNT = "SELECT count(*) AS amount FROM {table} AS {alias} WHERE {removable}"
_ITEMS = """
SELECT count(*) AS amount
FROM user_alert_digest_items AS i
WHERE i.digest_id IN ({ids})
"""
_RUN_ITEMS = """
SELECT count(*) AS amount
FROM alerts_engine_run_items AS i
JOIN alerts_engine_runs AS x ON x.run_id = i.run_id
WHERE x.id IN ({ids})
"""
_NONE = "SELECT 0 AS amount"
_STEPS: tuple[dict[str, str], ...] = (
    {"name": "digests", "table": "user_alert_digests", "alias": "g", "time": "created_at",
     "removable": _OLD_DIGEST, "parts": _ITEMS, "parts_name": "digest_items"},
    {"name": "deliveries", "table": "user_alert_deliveries", "alias": "d", "time": "created_at",
     "removable": _OLD_DELIVERY, "parts": _NONE},
    {"name": "events", "table": "alert_events", "alias": "e", "time": "created_at",
     "removable": "e.created_at < %(cutoff)s AND NOT EXISTS (SELECT FROM user_alert_deliveries"
     " AS d WHERE d.alert_event_id = e.id AND NOT ({gone}))", "parts": _NONE},
    {"name": "runs", "table": "alerts_engine_runs", "alias": "x", "time": "started_at",
     "removable": "x.started_at < %(cutoff)s AND x.status <> 'running'", "parts": _RUN_ITEMS,
     "parts_name": "run_items"},
)  # fmt: skip

KEPT_OPEN = """
SELECT
    (
        SELECT count(*)
        FROM user_alert_deliveries
        WHERE created_at < %(cutoff)s AND status = 'queued'
          AND delivery_kind IN ('instant', 'digest')
    ) AS deliveries,
    (
        SELECT count(*)
        FROM user_alert_digests
        WHERE created_at < %(cutoff)s AND status = 'queued'
    ) AS digests
"""

# Counts that have dropped to zero.
_EMPTY_COUNTS = """
DELETE FROM alerts_health_counts
WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM alerts_health_counts WHERE amount = 0 AND bucket < %(cutoff)s LIMIT %(batch)s
))
"""


class PruneRefused(Exception):
    """Another prune is running."""


def prune(
    settings: Settings, *, keep_days: int, dry_run: bool, now: datetime, token_key_id: str
) -> dict[str, Any]:
    """Remove what was made more than ``keep_days`` days before ``now`` and has reached its end.

    Runs go by wall time. Open rows stay and are counted. A dry run changes nothing and gives the
    numbers of the real call. Raises ``psycopg2.Error``, :class:`PruneRefused`, and
    :class:`alerts.db.PoolerDetected`.
    """
    with closing(
        db.open_session(
            require_database_url(settings),
            application_name="alerts-prune",
            statement_timeout_ms=BATCH_TIMEOUT_MS,
            lock_timeout_ms=LOCK_TIMEOUT_MS,
        )
    ) as conn:
        lock = {"key": lock_number("alerts_v2_prune")}
        row = db.fetch_one(conn, "SELECT pg_try_advisory_lock(%(key)s) AS acquired", lock)
        if not (row and row["acquired"]):
            raise PruneRefused("another prune is under way; let it end")
        answer = _Prune(conn, keep_days, now, token_key_id, dry_run).run()
        # The end of the connection would do it too, but only when the server has noticed.
        db.execute(conn, "SELECT pg_advisory_unlock(%(key)s)", lock)
        return answer


def walk(step: dict[str, str]) -> sql.Composed:
    """The statement that removes one batch of a step."""
    return sql.SQL(_WALK).format(
        table=sql.Identifier(step["table"]),
        alias=sql.Identifier(step["alias"]),
        time=sql.Identifier(step["time"]),
        removable=sql.SQL(step["removable"].replace("{gone}", "FALSE")),
        parts=sql.SQL(step["parts"]).format(ids=sql.SQL("SELECT id FROM removable")),
    )


class _Prune:
    def __init__(
        self, conn: db.Connection, keep_days: int, now: datetime, token_key_id: str, dry_run: bool
    ) -> None:
        self.conn, self.now, self.token_key_id = conn, now, token_key_id
        self.keep_days, self.dry_run = keep_days, dry_run
        self.cutoff = now - timedelta(days=keep_days)
        self.runs_cutoff = datetime.now(UTC) - timedelta(days=keep_days)
        names = ("deliveries", "digests", "digest_items", "events", "runs", "run_items")
        self.removed: Counter[str] = Counter(dict.fromkeys(names, 0))
        self.batches = 0
        self.action_id: int | None = None

    def run(self) -> dict[str, Any]:
        for step in _STEPS:
            self._count(step) if self.dry_run else self._remove(step)
        if not self.dry_run:
            self._tidy_health()
        kept = db.fetch_all(self.conn, KEPT_OPEN, {"cutoff": self.cutoff})[0]
        return {
            "keep_days": self.keep_days,
            "cutoff": iso(self.cutoff),
            "dry_run": self.dry_run,
            "removed": dict(self.removed),
            "kept_open": kept,
            "batches": self.batches,
            "action_id": self.action_id,
        }

    def _cutoff_of(self, step: dict[str, str]) -> datetime:
        return self.runs_cutoff if step["name"] == "runs" else self.cutoff

    def _count(self, step: dict[str, str]) -> None:
        """What the real call would remove: deliveries that would be gone by then are gone."""
        removable = sql.SQL(step["removable"].replace("{gone}", _OLD_DELIVERY))
        parts = {
            "table": sql.Identifier(step["table"]), "alias": sql.Identifier(step["alias"]),
            "removable": removable,
        }  # fmt: skip
        ids = sql.SQL("SELECT {alias}.id FROM {table} AS {alias} WHERE {removable}").format(**parts)
        cutoff = {"cutoff": self._cutoff_of(step)}
        rows = db.fetch_all(self.conn, sql.SQL(_COUNT).format(**parts), cutoff)
        self.removed[step["name"]] = rows[0]["amount"]
        if "parts_name" in step:
            inner = db.fetch_all(self.conn, sql.SQL(step["parts"]).format(ids=ids), cutoff)
            self.removed[step["parts_name"]] = inner[0]["amount"]

    def _remove(self, step: dict[str, str]) -> None:
        """Walk over the old rows of one table, removing what may go."""
        query = walk(step)
        place: dict[str, Any] = {"after_time": datetime(1, 1, 2, tzinfo=UTC), "after_id": 0}
        seen = BATCH
        while seen == BATCH:
            asked = {**place, "cutoff": self._cutoff_of(step), "batch": BATCH}
            with db.transaction(self.conn):
                row = db.fetch_all(self.conn, query, asked)[0]
                self.removed[step["name"]] += row["removed"]
                if "parts_name" in step:
                    self.removed[step["parts_name"]] += row["parts"]
                self.batches += 1
                self._tell()
            seen = row["seen"]
            place = {"after_time": row["last_time"], "after_id": row["last_id"]}

    def _tell(self) -> None:
        """The audit row: written with the first batch, kept true with each."""
        if self.action_id is not None:
            audit.update_result(self.conn, self.action_id, dict(self.removed))
            return
        self.action_id = audit.record_action(
            self.conn,
            action="prune",
            token_key_id=self.token_key_id,
            parameters={"keep_days": self.keep_days, "cutoff": iso(self.cutoff)},
            result=dict(self.removed),
            now=self.now,
        )

    def _tidy_health(self) -> None:
        db.execute(self.conn, "SELECT alerts_health_fold()")
        asked = {"cutoff": self.cutoff, "batch": BATCH}
        while db.execute(self.conn, _EMPTY_COUNTS, asked) == BATCH:
            pass
