"""A small world for tests: rows of the host tables, settings, channels that remember."""

from __future__ import annotations

import tempfile
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
    """Rows of a statement."""
    return db.fetch_all(conn, text, params or None)


def value(conn: Connection, text: str, *params: Any) -> Any:
    """The single value of a statement."""
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
    """A user; the number in front of the address keeps addresses apart. Gives the id."""
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
    """A preference row; without arguments it matches everything."""
    db.execute(
        conn,
        "INSERT INTO user_alert_prefs (user_id, alert_type, region, asset, threshold, enabled)"
        " VALUES (%s, %s, %s, %s, %s, %s)",
        (user_id, alert_type, region, asset, threshold, enabled),
    )


def add_channel_pref(
    conn: Connection, user_id: int, channel: str, *, enabled: bool = True, digest_only: bool = False
) -> None:
    """A channel preference row."""
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
    """A row of `events`, with its `risk_events` row when it has a score. Gives the id."""
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
    """A row of `risk_indices`."""
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
    """A row of `asset_risk`."""
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
    """A global alert event that waits for fan-out. Gives the id."""
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
    """Takes every message and keeps it; ``answer`` may raise or give a message id instead."""

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
    """A remembering channel for email, telegram and sms, some replaced by name."""
    return {name: RememberingChannel() for name in ("email", "telegram", "sms")} | replaced


def settings_for(database_url: str, **environ: str) -> Settings:
    """Settings of an environment that has only the database, a spool of its own and ``environ``."""
    spool = Path(tempfile.gettempdir()) / f"alerts-test-spool-{uuid.uuid4()}"
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
    """One run of the engine at ``now``."""
    return run_engine(
        settings_for(database_url, **(environ or {})),
        RunRequest(phase=phase, now=now, **request),
        Hooks(channels=all_channels() if channels is None else channels),
    )


def counts_of(report: RunReport, phase: str) -> dict[str, Any]:
    """The counts of one phase of a run that did not fail."""
    assert report.record.status == "success", report.record.error_summary
    return report.record.counts[phase]


def wait_until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    """Return as soon as the condition holds; fail the test when it does not in time."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "the awaited condition did not come"
        time.sleep(0.005)
