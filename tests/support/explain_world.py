"""What becomes of a single message, made to happen with real rows.

Business time stands at ``NOW``, a Tuesday at 19:00 in Amsterdam. A :data:`Make` inserts rows and
gives the event and the user.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg2.extensions import connection as Connection

from alerts import db
from tests.support.queue_world import add_digest
from tests.support.world import (
    NOW,
    add_alert,
    add_channel_pref,
    add_delivery,
    add_pref,
    add_user,
)

LONG_AGO = datetime(2022, 3, 7, 11, 0, tzinfo=UTC)  # of the machinery, which goes by wall time
FAR_AHEAD = datetime(2999, 1, 1, tzinfo=UTC)
SPIKE: dict[str, Any] = {"alert_type": "REGIONAL_RISK_SPIKE", "risk_score": 72.5}

Asked = tuple[int, int]  # the event and the user
Make = Callable[[Connection], Asked]


def engine_ran_with(conn: Connection, first_at: datetime = LONG_AGO, **columns: Any) -> None:
    """Insert what a run said it ran with; later ones are newer."""
    row = {
        "first_run_id": "a-run", "last_run_id": "a-run", "first_at": first_at, "last_at": first_at,
        "enabled": True, "allowlist": None, "max_send_per_run": 1000, "interval_minutes": 10,
        "timezone": "Europe/Amsterdam", "digest_period": "daily",
        "channels_configured": ["email", "sms", "telegram"], "channels_off": [],
        "channels_misconfigured": "{}", **columns,
    }  # fmt: skip
    names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
    db.execute(
        conn, f"INSERT INTO alerts_engine_state ({names}) VALUES ({marks})", tuple(row.values())
    )


def reader(conn: Connection, plan: str | None = "pro", *prefs: dict[str, Any]) -> int:
    """A user with every address and these preferences, by default one that matches anything."""
    user = add_user(
        conn, plan, email="somebody@example.com", telegram="77001", phone="+31610000001"
    )
    for pref in prefs or ({},):
        add_pref(conn, user, **pref)
    return user


def handed_out(conn: Connection, **alert: Any) -> int:
    """An alert that fan-out is done with."""
    event = add_alert(conn, **alert)
    db.execute(
        conn, "UPDATE alert_events SET fanout_completed_at = %s WHERE id = %s",
        (NOW - timedelta(minutes=6), event),
    )  # fmt: skip
    return event


def preferring(*prefs: dict[str, Any], **alert: Any) -> Make:
    return lambda conn: (handed_out(conn, **alert), reader(conn, "pro", *prefs))


def delivered(channel: str = "email", **columns: Any) -> Make:
    def make(conn: Connection) -> Asked:
        event, user = handed_out(conn), reader(conn)
        add_delivery(conn, user, event, channel, **columns)
        return event, user

    return make


def failed(code: str, attempts: int = 1, channel: str = "email") -> Make:
    return delivered(channel, status="failed", failure_code=code, attempts=attempts)


def in_digest(window_end: datetime, **columns: Any) -> Make:
    def make(conn: Connection) -> Asked:
        event, user = handed_out(conn), reader(conn)
        add_channel_pref(conn, user, "email", digest_only=True)
        add_digest(conn, user, [event], window_end=window_end, **columns)
        return event, user

    return make


def quota_full(conn: Connection, channel: str, used: int, plan: str) -> Asked:
    event, user = handed_out(conn), reader(conn, plan)
    for minutes in range(used):
        at = NOW - timedelta(minutes=30 + minutes)
        add_delivery(conn, user, add_alert(conn), channel, status="sent", created_at=at)
    return event, user


def over_quota(conn: Connection) -> Asked:
    event, user = quota_full(conn, "email", 3, "trader")
    add_delivery(conn, user, event, kind="digest")
    return event, user


def after(prepare: Callable[[Connection], None], make: Make) -> Make:
    def both(conn: Connection) -> Asked:
        prepare(conn)
        return make(conn)

    return both


def paused(channel: str) -> Callable[[Connection], None]:
    """Pause the engine (``all``) or a channel."""
    return lambda conn: _execute(
        conn,
        "INSERT INTO alerts_pauses VALUES (%s, 'wrong headline', %s, 'cli')",
        channel,
        LONG_AGO,
    )


def closed(code: str, until: datetime | None = None) -> Callable[[Connection], None]:
    """Close the email channel."""
    return lambda conn: _execute(
        conn,
        "INSERT INTO alerts_channel_state (channel, code, closed_since, closed_until)"
        " VALUES ('email', %s, %s, %s)",
        code, LONG_AGO, until,
    )  # fmt: skip


def _execute(conn: Connection, text: str, *values: Any) -> None:
    db.execute(conn, text, values)


def switched_off(channel: str, prefs: dict[str, Any]) -> Make:
    def make(conn: Connection) -> Asked:
        event, user = handed_out(conn), reader(conn, "pro", prefs)
        add_channel_pref(conn, user, channel, enabled=False)
        return event, user

    return make


def unsubscribed(at: datetime, make: Make) -> Make:
    """The user left by the link of a message."""

    def both(conn: Connection) -> Asked:
        event, user = make(conn)
        add_channel_pref(conn, user, "email", enabled=False)
        _execute(conn, "UPDATE user_channel_prefs SET unsubscribed_at = %s", at)
        return event, user

    return both


def sms_digests_only(conn: Connection) -> Asked:
    event, user = handed_out(conn), reader(conn)
    add_channel_pref(conn, user, "sms", digest_only=True)
    return event, user


def refused_three_times(conn: Connection) -> Asked:
    event, user = handed_out(conn), reader(conn)
    _execute(
        conn,
        "INSERT INTO alerts_refused_addresses SELECT id, 'email',"
        " alerts_address_hash(id, 'email', email), 3, %s FROM users WHERE id = %s",
        NOW, user,
    )  # fmt: skip
    return event, user


def unverified(conn: Connection) -> Asked:
    event, user = handed_out(conn), reader(conn)
    _execute(conn, "UPDATE users SET email_verified = FALSE WHERE id = %s", user)
    return event, user


def without(column: str) -> Make:
    def make(conn: Connection) -> Asked:
        event, user = handed_out(conn), reader(conn)
        _execute(conn, f"UPDATE users SET {column} = NULL WHERE id = %s", user)
        return event, user

    return make


def pending(**alert: Any) -> Make:
    return lambda conn: (add_alert(conn, **alert), reader(conn))


def on_allowlist(conn: Connection) -> None:
    engine_ran_with(conn, LONG_AGO - timedelta(days=9))
    engine_ran_with(conn, allowlist=[999_999])
    engine_ran_with(conn, LONG_AGO + timedelta(hours=1), allowlist=[999_998, 999_999])


def switched_off_for_all(conn: Connection) -> None:
    engine_ran_with(conn, channels_off=["email"])


def disabled(conn: Connection) -> None:
    engine_ran_with(conn, enabled=False)
