"""Shared by the tests of phases A, B and D."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extras import Json

from alerts import db, phases
from alerts.clock import Clock
from alerts.logs import bound
from alerts.phases.context import PhaseContext, Stop
from alerts.phases.decisions import DECISIONS
from alerts.product_days import day_window
from alerts.runs.counts import adds_up, checked
from tests.support.world import NOW, counts_of, query, run, settings_for

AMSTERDAM = ZoneInfo("Europe/Amsterdam")
Verdicts = dict[tuple[int, str], str]

# Tables that may have plain TIMESTAMP columns in existing deployments.
OLD_TABLES = (
    *("users", "user_plans", "plan_settings", "user_alert_prefs", "user_channel_prefs"),
    *("events", "risk_events", "risk_indices", "asset_risk", "alert_events"),
    *("user_alert_deliveries", "user_alert_digests", "user_alert_digest_items"),
)

# Columns that only newer migrations make.
NEVER_PLAIN = ("risk_at", "unsubscribed_at")

_DECIDE = sql.SQL("WITH {} SELECT * FROM decisions").format(DECISIONS)


def utc(text: str) -> datetime:
    """Parse an ISO time without offset as UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def counts(
    database_url: str,
    phase: str,
    *,
    now: datetime = NOW,
    environ: Mapping[str, str] | None = None,
    **request: Any,
) -> dict[str, Any]:
    """Run one phase alone and return its counts.

    Without the engine around it, which costs three more connections; what the engine adds, locks
    and the record, has tests of its own. Whatever the phase raises reaches the caller.
    """
    if request:  # the engine's part
        report = run(database_url, phase, now=now, environ=dict(environ or {}), **request)
        return counts_of(report, phase)
    settings = settings_for(database_url, **(environ or {}))
    with closing(db.open_session(database_url, application_name="alerts-engine")) as conn:
        context = phase_context(conn, database_url, settings=settings, clock=Clock(now))
        (chosen,) = phases.chosen(phase)
        safe, problems = checked(chosen.run(context))
    assert not problems
    assert adds_up(phase, safe)
    return dict(safe)


def phase_context(conn: Connection, database_url: str, **replaced: Any) -> PhaseContext:
    """Return a context for calling a part of a phase; its lock counts as held."""
    given: dict[str, Any] = {
        "conn": conn,
        "run_id": "of-a-test",
        "settings": settings_for(database_url),
        "clock": Clock(NOW),
        "since": timedelta(hours=24),
        "batch_size": 200,
        "dry_run": False,
        "stop": Stop(),
        "ensure_lock": lambda: None,
        "channels": {},
        "log": bound(logging.getLogger("alerts.phases")),
    }
    return PhaseContext(**{**given, **replaced})


def decide(
    conn: Connection, event_id: int, now: datetime = NOW, channels_off: Iterable[str] = ()
) -> list[dict[str, Any]]:
    """What fan-out decides for one event, a row a user and channel, without doing it."""
    params = {
        "event_id": event_id,
        "after_user_id": 0,
        "range_size": 1000,
        "allowlist": None,
        "channels_off": list(channels_off),
        "now": now,
        "day_start": day_window(now, AMSTERDAM)[0],
    }
    return db.fetch_all(conn, _DECIDE, params)


def verdicts(
    conn: Connection, event_id: int, now: datetime = NOW, channels_off: Iterable[str] = ()
) -> Verdicts:
    """By user and channel: the reason against a delivery, or the kind of the delivery."""
    return {
        (row["user_id"], row["channel"]): row["reason"] or row["kind"]
        for row in decide(conn, event_id, now, channels_off)
    }


def deliveries(conn: Connection) -> dict[tuple[int, int, str], tuple[str, str]]:
    """Return kind and status by event, user and channel; fails if one has a second kind."""
    rows = query(conn, "SELECT * FROM user_alert_deliveries")
    found = {
        (row["alert_event_id"], row["user_id"], row["channel"]): (
            row["delivery_kind"],
            row["status"],
        )
        for row in rows
    }
    assert len(found) == len(rows), "an event reached someone twice on one channel"
    return found


def allow_null(conn: Connection, table: str, column: str) -> None:
    """Make a column nullable, as it may be in old deployments."""
    change = sql.SQL("ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL")
    db.execute(conn, change.format(sql.Identifier(table), sql.Identifier(column)))


def add_plan(
    conn: Connection,
    code: str,
    *,
    types: Iterable[str] = ("ALL",),
    config: Any = None,
    max_email: int | None = 5,
    active: bool | None = True,
) -> str:
    """Insert a plan with `config` as its delivery_config and return its code."""
    nullable = {
        "delivery_config": config,
        "is_active": active,
        "max_email_alerts_per_day": max_email,
    }
    for column in [name for name, given in nullable.items() if given is None]:
        allow_null(conn, "plan_settings", column)
    db.execute(
        conn,
        "INSERT INTO plan_settings (plan_code, display_name, monthly_price_usd,"
        " allowed_alert_types, max_email_alerts_per_day, delivery_config, is_active)"
        " VALUES (%s, %s, 0, %s, %s, %s, %s)",
        (code, code, list(types), max_email, None if config is None else Json(config), active),
    )
    return code


def channel_config(**instant: int | None) -> dict[str, Mapping[str, Any]]:
    """Build a delivery_config with only these channels and instant limits: `email=1, sms=2`."""
    return {
        "email": {"max_per_day": instant.get("sms", 0), "realtime_limit": instant.get("email", 0)},
        "telegram": {"enabled": "telegram" in instant, "send_all": False},
        "sms": {"enabled": "sms" in instant, "send_all": True},
    }


def use_plain_timestamps(conn: Connection) -> None:
    """Turn the database into an old deployment: TIMESTAMP columns that hold UTC, and a database
    time zone other than UTC."""
    columns = query(
        conn,
        "SELECT c.table_name AS t, c.column_name AS n FROM information_schema.columns AS c"
        " WHERE c.table_name = ANY (%s) AND c.data_type = 'timestamp with time zone'"
        " AND c.column_name <> ALL (%s)",
        list(OLD_TABLES),
        list(NEVER_PLAIN),
    )
    assert len(columns) > 20
    for column in columns:
        change = sql.SQL(
            "ALTER TABLE {t} ALTER COLUMN {n} TYPE timestamp USING {n} AT TIME ZONE 'UTC'"
        )
        names = {name: sql.Identifier(text) for name, text in column.items()}
        db.execute(conn, change.format(**names))
    name = sql.Identifier(conn.info.dbname)
    zone = sql.SQL("ALTER DATABASE {} SET timezone = 'America/New_York'")
    db.execute(conn, zone.format(name))
