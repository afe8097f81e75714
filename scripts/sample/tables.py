"""Adds missing sample rows to the input tables; each function handles one table.

All of them work in the caller's transaction and return the number of rows added.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple
from typing import Any

from psycopg2.extras import execute_values

from alerts import db
from scripts.sample import files, users
from scripts.sample.scores import trends

WINDOW_DAYS = 7


def _load_users(conn: db.Connection) -> int:
    """Add all users with their rows, or nothing if any exist, so that edits are kept."""
    people = users.sample_users()
    emails = [user.email for user in people if user.email]
    if db.fetch_all(conn, "SELECT FROM users WHERE email = ANY (%s) LIMIT 1", (emails,)):
        return 0
    with conn.cursor() as cursor:
        ids = execute_values(
            cursor,
            "INSERT INTO users (email, email_verified, telegram_chat_id, phone_number) "
            "VALUES %s RETURNING id",
            [(u.email, u.email_verified, u.telegram_chat_id, u.phone_number) for u in people],
            page_size=len(people),
            fetch=True,
        )
    # Ids are assigned in the order of the rows.
    numbered = list(zip((row[0] for row in ids), people, strict=True))
    _insert(
        conn,
        "INSERT INTO user_plans (user_id, plan) VALUES %s",
        [(user_id, user.plan) for user_id, user in numbered if user.plan],
    )
    _insert(
        conn,
        "INSERT INTO user_alert_prefs (user_id, region, alert_type, asset, threshold, enabled) "
        "VALUES %s",
        [(user_id, *row) for user_id, user in numbered for row in user.preferences],
    )
    _insert(
        conn,
        "INSERT INTO user_channel_prefs (user_id, channel, enabled, digest_only) VALUES %s",
        [(user_id, *row) for user_id, user in numbered for row in user.channel_preferences],
    )
    return len(numbered)


def _load_events(conn: db.Connection) -> int:
    rows = db.fetch_all(
        conn,
        "SELECT source_url FROM events WHERE source_url = ANY (%s)",
        ([event.source_url for event in files.read_events()],),
    )
    known = {row["source_url"] for row in rows}
    return _insert(
        conn,
        "INSERT INTO events (title, source_name, source_url, category, region, severity_score, "
        "event_time, inserted_at) VALUES %s",
        [astuple(event) for event in files.read_events() if event.source_url not in known],
    )


def _load_risk_events(conn: db.Connection) -> int:
    events = files.read_events()
    return db.execute(
        conn,
        """
        INSERT INTO risk_events (
            event_id, region, category, base_severity, ai_confidence, weighted_score
        )
        SELECT id, region, category, severity_score, %(confidence)s, weighed.score
        FROM events
        JOIN unnest(%(urls)s, %(scores)s::double precision[]) AS weighed (url, score)
            ON weighed.url = events.source_url
        WHERE NOT EXISTS (SELECT FROM risk_events WHERE event_id = events.id)
        ORDER BY id
        """,
        {
            "confidence": files.AI_CONFIDENCE,
            "urls": [event.source_url for event in events],
            "scores": [event.weighted_score for event in events],
        },
    )


def _load_asset_risk(conn: db.Connection) -> int:
    known = db.fetch_all(
        conn,
        """
        SELECT asset, region, count(*) AS scores, sum(risk_score::numeric) AS total
        FROM asset_risk WHERE window_days = %s GROUP BY asset, region
        """,
        (WINDOW_DAYS,),
    )
    totals = {(row["asset"], row["region"]): (row["scores"], row["total"]) for row in known}
    if totals == files.ASSET_TOTALS:
        return 0
    rows = (
        (asset, region, WINDOW_DAYS, score.value, score.direction, files.published_at(score))
        for (asset, region), scores in files.asset_scores().items()
        for score in scores
    )
    _stage(
        conn,
        "CREATE TEMPORARY TABLE staged_asset_risk (asset text, region text, window_days integer, "
        "risk_score double precision, direction text, calculated_at timestamptz) ON COMMIT DROP",
        "COPY staged_asset_risk FROM STDIN (FORMAT csv)",
        rows,
    )
    return db.execute(
        conn,
        """
        INSERT INTO asset_risk (asset, region, window_days, risk_score, direction, calculated_at)
        SELECT asset, region, window_days, risk_score, direction, calculated_at
        FROM staged_asset_risk AS staged
        WHERE NOT EXISTS (
            SELECT
            FROM asset_risk AS known
            WHERE known.asset = staged.asset
              AND known.region = staged.region
              AND known.window_days = staged.window_days
              AND known.calculated_at = staged.calculated_at
        )
        ORDER BY calculated_at, asset, region
        """,
    )


def _load_risk_indices(conn: db.Connection) -> int:
    known = db.fetch_all(
        conn,
        """
        SELECT region, count(*) AS scores, sum(risk_score::numeric) AS total
        FROM risk_indices WHERE window_days = %s GROUP BY region
        """,
        (WINDOW_DAYS,),
    )
    if {row["region"]: (row["scores"], row["total"]) for row in known} == files.REGION_TOTALS:
        return 0
    rows = (
        (region, WINDOW_DAYS, score.value, trend, files.published_at(score))
        for region, scores in files.region_scores().items()
        for score, trend in zip(scores, trends(scores), strict=True)
    )
    _stage(
        conn,
        "CREATE TEMPORARY TABLE staged_risk_indices (region text, window_days integer, "
        "risk_score double precision, trend text, calculated_at timestamptz) ON COMMIT DROP",
        "COPY staged_risk_indices FROM STDIN (FORMAT csv)",
        rows,
    )
    return db.execute(
        conn,
        """
        INSERT INTO risk_indices (region, window_days, risk_score, trend, calculated_at)
        SELECT region, window_days, risk_score, trend, calculated_at
        FROM staged_risk_indices AS staged
        WHERE NOT EXISTS (
            SELECT
            FROM risk_indices AS known
            WHERE known.region = staged.region
              AND known.window_days = staged.window_days
              AND known.calculated_at = staged.calculated_at
        )
        ORDER BY calculated_at, region
        """,
    )


def _stage(conn: db.Connection, create: str, copy: str, rows: Iterable[Sequence[Any]]) -> None:
    """Copy all rows into a temporary table in one round trip."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    text.seek(0)
    with conn.cursor() as cursor:
        cursor.execute(create)
        cursor.copy_expert(copy, text)


def _insert(conn: db.Connection, query: str, rows: Sequence[Sequence[Any]]) -> int:
    """Insert the rows in one statement and return their number."""
    if rows:
        with conn.cursor() as cursor:
            execute_values(cursor, query, rows, page_size=len(rows))
    return len(rows)


LOADERS: tuple[tuple[str, Callable[[db.Connection], int]], ...] = (
    ("users", _load_users),
    ("events", _load_events),
    ("risk_events", _load_risk_events),
    ("asset_risk", _load_asset_risk),
    ("risk_indices", _load_risk_indices),
)
