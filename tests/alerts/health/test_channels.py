"""What health and the command say of a channel's state."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.health.brief import line
from alerts.health.channels import channel_state
from alerts.health.report import get_health
from alerts.words import Clockface
from tests.support.queue_world import add_digest, queue_instants
from tests.support.world import (
    NOW,
    add_alert,
    add_delivery,
    add_user,
    run,
    settings_for,
)

SINCE = datetime(2026, 1, 16, 12, 0, tzinfo=UTC)
UNTIL = SINCE + timedelta(minutes=15)
CLOSED = {"switched_off": False, "closed_since": SINCE, "closed_until": UNTIL}


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (None, ("open", None, None, None)),
        ({"last_success_at": SINCE}, ("open", None, None, None)),
        (
            {**CLOSED, "code": "network"},
            ("closed", "network", SINCE.isoformat(), UNTIL.isoformat()),
        ),
        (
            {**CLOSED, "code": "auth_failed"},
            ("held", "auth_failed", SINCE.isoformat(), UNTIL.isoformat()),
        ),
        (
            {**CLOSED, "code": "misconfigured", "closed_until": None},
            ("held", "misconfigured", SINCE.isoformat(), None),
        ),
        (
            {**CLOSED, "code": "of_tomorrow"},
            ("closed", "of_tomorrow", SINCE.isoformat(), UNTIL.isoformat()),
        ),
        ({**CLOSED, "code": "network", "switched_off": True}, ("off", None, None, None)),
    ],
)
def test_a_channels_state(row: dict[str, Any] | None, told: tuple[str | None, ...]) -> None:
    found = channel_state("email", row, 7)
    assert (found["state"], found["code"], found["since"], found["next_try_at"]) == told
    assert found["waiting"] == 7


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (None, "ok, 7 messages waiting"),
        (
            {**CLOSED, "code": "network"},
            "the provider cannot be reached, since 13:00; 7 messages waiting, next try at 13:15",
        ),
        (
            {**CLOSED, "code": "rate_limited"},
            "the provider asks us to slow down, since 13:00; 7 messages waiting, next try at 13:15",
        ),
        (
            {**CLOSED, "code": "auth_failed", "closed_until": None},
            "the provider refuses our password or key, since 13:00; 7 messages waiting, next try "
            "with the next run",
        ),
        ({**CLOSED, "code": "network", "switched_off": True}, "switched off"),
    ],
)
def test_a_channels_state_in_words(row: dict[str, Any] | None, text: str) -> None:
    told = {
        **channel_state("email", row, 7), "held": None, "configured": True, "paused": False,
        "oldest_due_delivery_minutes": 3.0, "oldest_due_digest_minutes": None,
        "next_due_at": {"deliveries": UNTIL.isoformat(), "digests": None},
    }  # fmt: skip
    clock = Clockface(SINCE, ZoneInfo("Europe/Amsterdam"))
    assert line(told, clock) == text
    if row is None:
        later = {**told, "oldest_due_delivery_minutes": None}
        assert line(later, clock) == "ok, 7 messages waiting, the next due 13:15"
    assert line({**told, "paused": True}, clock) == "paused, 7 messages waiting"
    assert line({**told, "state": "open", "waiting": 0, "configured": False}, clock) == (
        "not configured"
    )


def test_health_tells_each_channel_and_how_many_wait(conn: Connection, database_url: str) -> None:
    queue_instants(conn, 4)
    add_digest(conn, add_user(conn), [add_alert(conn)])
    add_delivery(conn, add_user(conn), add_alert(conn), kind="digest")  # waits for its digest
    db.execute(
        conn,
        "INSERT INTO alerts_channel_state (channel, code, closed_since, closed_until, failures)"
        " VALUES ('email', 'network', %s, %s, 3)",
        (SINCE, UNTIL),
    )
    channels = get_health(conn, settings_for(database_url), NOW)["channels"]
    email = channels["email"]
    assert (email["state"], email["code"], email["waiting"]) == ("closed", "network", 5)
    assert (email["since"], email["next_try_at"]) == (SINCE.isoformat(), UNTIL.isoformat())
    assert {name: told["state"] for name, told in channels.items() if name != "email"} == {
        "telegram": "open", "sms": "open", "account": "open",
    }  # fmt: skip


@pytest.mark.parametrize("off", [True, False])
def test_a_channel_that_is_off_is_no_trouble(
    conn: Connection, database_url: str, off: bool
) -> None:
    queue_instants(conn, 3, "sms")
    environ = {"ALERTS_CHANNELS_OFF": "sms"} if off else {}
    report = run(database_url, "c", channels={}, environ=environ)
    assert report.record.counts["c"]["deliveries"]["skipped_not_configured"] == 3
    health = get_health(conn, settings_for(database_url), NOW)
    codes = [reason["code"] for reason in health["reasons"]]
    assert ("channel_not_configured" in codes) is not off
    assert health["channels"]["sms"]["state"] == ("off" if off else "open")
