"""A small world for tests: host table rows, settings, and channels that record messages."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.channels.base import Message
from alerts.engine import Hooks, RunReport, RunRequest, run_engine
from alerts.settings.config import Settings

# A Tuesday in winter: Amsterdam is at UTC+1.
NOW = datetime(2022, 3, 8, 18, 0, tzinfo=UTC)


def query(conn: Connection, text: str, *params: Any) -> list[dict[str, Any]]:
    """Return a statement's rows."""
    return db.fetch_all(conn, text, params or None)


def value(conn: Connection, text: str, *params: Any) -> Any:
    """Return a statement's single value."""
    return next(iter(query(conn, text, *params)[0].values()))


def add_user(
    conn: Connection,
    plan: str | None = None,
    *,
    email: str | None = "user@example.com",
    email_verified: bool = True,
    telegram: str | None = None,
    phone: str | None = None,
) -> int:
    """Insert a user and return the id; a number before the address keeps addresses unique."""
    user_id: int = value(
        conn,
        "INSERT INTO users (email_verified, telegram_chat_id, phone_number)"
        " VALUES (%s, %s, %s) RETURNING id",
        email_verified,
        telegram,
        phone,
    )
    if email is not None:
        db.execute(
            conn, "UPDATE users SET email = %s WHERE id = %s", (f"{user_id}.{email}", user_id)
        )
    if plan is not None:
        db.execute(conn, "INSERT INTO user_plans (user_id, plan) VALUES (%s, %s)", (user_id, plan))
    return user_id


def add_pref(
    conn: Connection,
    user_id: int,
    *,
    alert_type: str | None = None,
    region: str | None = None,
    asset: str | None = None,
    threshold: float | None = None,
    enabled: bool = True,
) -> None:
    """Insert a preference row; without arguments it matches everything."""
    db.execute(
        conn,
        "INSERT INTO user_alert_prefs (user_id, alert_type, region, asset, threshold, enabled)"
        " VALUES (%s, %s, %s, %s, %s, %s)",
        (user_id, alert_type, region, asset, threshold, enabled),
    )


def add_channel_pref(
    conn: Connection, user_id: int, channel: str, *, enabled: bool = True, digest_only: bool = False
) -> None:
    """Insert a channel preference row."""
    db.execute(
        conn,
        "INSERT INTO user_channel_prefs (user_id, channel, enabled, digest_only)"
        " VALUES (%s, %s, %s, %s)",
        (user_id, channel, enabled, digest_only),
    )


def add_source_event(
    conn: Connection,
    title: str = "Pipeline stops",
    *,
    region: str = "Europe",
    severity: int = 5,
    inserted_at: datetime = NOW - timedelta(hours=1),
    weighted_score: float | None = None,
) -> int:
    """Insert a row in `events`, and in `risk_events` if it has a score; returns the id."""
    event_id: int = value(
        conn,
        "INSERT INTO events (title, source_name, source_url, category, region, severity_score,"
        " event_time, inserted_at)"
        " VALUES (%s, 'wire', gen_random_uuid()::text, 'energy', %s, %s, %s, %s) RETURNING id",
        title,
        region,
        severity,
        inserted_at,
        inserted_at,
    )
    if weighted_score is not None:
        db.execute(
            conn,
            "INSERT INTO risk_events (event_id, region, category, base_severity, ai_confidence,"
            " weighted_score) VALUES (%s, %s, 'energy', %s, 1, %s)",
            (event_id, region, severity, weighted_score),
        )
    return event_id


def add_index(
    conn: Connection,
    score: float,
    *,
    region: str = "Europe",
    at: datetime = NOW - timedelta(hours=1),
    window_days: int = 7,
) -> None:
    """Insert a row in `risk_indices`."""
    db.execute(
        conn,
        "INSERT INTO risk_indices (region, window_days, risk_score, trend, calculated_at)"
        " VALUES (%s, %s, %s, 'rising', %s)",
        (region, window_days, score, at),
    )


def add_asset_risk(
    conn: Connection,
    score: float,
    *,
    asset: str = "gas",
    region: str = "Europe",
    at: datetime = NOW - timedelta(hours=1),
    window_days: int = 7,
) -> None:
    """Insert a row in `asset_risk`."""
    db.execute(
        conn,
        "INSERT INTO asset_risk (asset, region, window_days, risk_score, direction, calculated_at)"
        " VALUES (%s, %s, %s, %s, 'up', %s)",
        (asset, region, window_days, score, at),
    )


def add_alert(
    conn: Connection,
    *,
    alert_type: str = "HIGH_IMPACT_EVENT",
    region: str | None = "Europe",
    assets: Iterable[str] = (),
    severity: int = 5,
    risk_score: float | None = None,
    headline: str = "Pipeline stops",
    created_at: datetime = NOW - timedelta(minutes=10),
) -> int:
    """Insert a global alert event that is waiting for fan-out, and return its id."""
    event_id: int = value(
        conn,
        "INSERT INTO alert_events (alert_type, scope_region, scope_assets, severity, risk_score,"
        " headline, body, cooldown_key, event_fingerprint, created_at)"
        " SELECT %s, %s, %s::text[], %s, %s, %s, 'What happened.', f, f, %s"
        " FROM (SELECT gen_random_uuid()::text AS f) AS x RETURNING id",
        alert_type,
        region,
        list(assets),
        severity,
        risk_score,
        headline,
        created_at,
    )
    return event_id


def add_delivery(
    conn: Connection,
    user_id: int,
    event_id: int,
    channel: str = "email",
    *,
    kind: str = "instant",
    status: str = "queued",
    created_at: datetime = NOW - timedelta(minutes=5),
    **columns: Any,
) -> int:
    """A delivery; for final states the columns their checks ask for are filled in.

    ``sending`` is a queued one in a lease of ``claimed_by`` until ``claimed_until``.
    """
    needed: dict[str, Any] = {
        "sent": {"sent_at": created_at},
        "failed": {"failed_at": created_at, "failure_code": "provider_unavailable"},
    }.get(status, {})
    claimed = {
        name: columns.pop(name) for name in ("claimed_by", "claimed_until") if name in columns
    }
    row = {
        "user_id": user_id,
        "alert_event_id": event_id,
        "channel": channel,
        "delivery_kind": kind,
        "status": "queued" if status == "sending" else status,
        "created_at": created_at,
        **needed,
        **columns,
    }
    names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
    text = f"INSERT INTO user_alert_deliveries ({names}) VALUES ({marks}) RETURNING id"
    delivery_id: int = value(conn, text, *row.values())
    if status == "sending":
        lease(conn, [delivery_id], **{"claimed_until": created_at, **claimed})
    return delivery_id


def lease(
    conn: Connection,
    ids: list[int],
    *,
    source: str = "deliveries",
    claimed_by: str = "lost",
    claimed_until: datetime,
) -> int:
    """Moves rows from the send queue into a lease, as a claim does. Gives the lease's id."""
    lease_id: int = value(
        conn,
        "WITH taken AS (DELETE FROM alerts_send_queue WHERE source = %s AND id = ANY (%s))"
        " INSERT INTO alerts_leases (run_id, source, until, ids) VALUES (%s, %s, %s, %s)"
        " RETURNING id",
        source, ids, claimed_by, source, claimed_until, ids,
    )  # fmt: skip
    return lease_id


class RememberingChannel:
    """Accepts and keeps every message; ``answer`` may raise or return a message id instead."""

    def __init__(self, answer: Callable[[Message], str | None] | None = None) -> None:
        self.name = "remembering"
        self.sent: list[Message] = []
        self._answer = answer
        self._lock = threading.Lock()

    def send(self, message: Message) -> str | None:
        result = self._answer(message) if self._answer else f"id-{message.key}"
        with self._lock:
            self.sent.append(message)
        return result

    def close(self) -> None:
        pass


def all_channels(**replaced: RememberingChannel) -> dict[str, RememberingChannel]:
    """Return a recording channel for email, telegram and sms, some replaced by name."""
    return {name: RememberingChannel() for name in ("email", "telegram", "sms")} | replaced


def settings_for(database_url: str, **environ: str) -> Settings:
    """Return settings from an environment with the database, a separate spool and ``environ``."""
    spool = Path(os.environ["ALERTS_TEST_SPOOLS"]) / str(uuid.uuid4())
    return Settings.from_env(
        {"DATABASE_URL": database_url, "ALERTS_RUN_SPOOL": str(spool), **environ}
    )


def run(
    database_url: str,
    phase: str = "all",
    *,
    now: datetime = NOW,
    channels: dict[str, RememberingChannel] | None = None,
    environ: dict[str, str] | None = None,
    **request: Any,
) -> RunReport:
    """Run the engine once at ``now``."""
    return run_engine(
        settings_for(database_url, **(environ or {})),
        RunRequest(phase=phase, now=now, **request),
        Hooks(channels=all_channels() if channels is None else channels),
    )


def counts_of(report: RunReport, phase: str) -> dict[str, Any]:
    """Return the counts of one phase in a run that did not fail."""
    assert report.record.status == "success", report.record.error_summary
    return report.record.counts[phase]


def wait_until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    """Return as soon as the condition holds; fail the test if it does not in time."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "the awaited condition did not come"
        time.sleep(0.005)
