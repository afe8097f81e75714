"""The status of delivery health: every reason made to happen. The figures are tested apart."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection

from alerts.cli import commands
from alerts.failures import DeliveryError, FailureCode
from alerts.health.report import get_health
from tests.support.queue_rows import add_digest
from tests.support.web import add_run
from tests.support.world import (
    NOW,
    RememberingChannel,
    add_alert,
    add_delivery,
    add_user,
    all_channels,
    run,
    settings_for,
)

DAY, MICROSECOND = timedelta(hours=24), timedelta(microseconds=1)
MINUTE = timedelta(minutes=1)
SETTINGS = settings_for("postgresql://unused")


def health_of(conn: Connection, now: datetime = NOW) -> dict[str, Any]:
    return get_health(conn, SETTINGS, now)


def reasons_of(conn: Connection, now: datetime = NOW) -> tuple[str, list[str]]:
    health = health_of(conn, now)
    assert all(reason["message"] for reason in health["reasons"])
    return health["status"], [reason["code"] for reason in health["reasons"]]


# Status and reasons


def ago(minutes: float) -> datetime:
    """Wall time so many minutes ago."""
    return datetime.now(UTC) - timedelta(minutes=minutes)


def test_never_run_is_degraded_and_not_failing(conn: Connection) -> None:
    assert reasons_of(conn) == ("degraded", ["never_run"])
    add_run(conn, status="running")
    assert reasons_of(conn) == ("degraded", ["never_run"])
    add_run(conn)
    assert reasons_of(conn) == ("ok", [])


@pytest.mark.parametrize(("minutes", "codes"), [(29, []), (31.1, ["no_recent_success"])])
def test_no_success_for_three_intervals_is_failing(
    conn: Connection, minutes: float, codes: list[str]
) -> None:
    add_run(conn, started_at=ago(minutes))
    add_run(conn, status="skipped", started_at=ago(1))
    assert reasons_of(conn) == ("failing" if codes else "ok", codes)
    assert health_of(conn)["last_success_minutes"] == pytest.approx(minutes, abs=0.2)


def test_the_expected_interval_is_a_setting(database_url: str, conn: Connection) -> None:
    add_run(conn, started_at=ago(100))
    settings = settings_for(database_url, ALERTS_EXPECTED_INTERVAL_MINUTES="60")
    assert get_health(conn, settings, NOW)["status"] == "ok"


def test_a_failed_last_run_is_failing_until_one_succeeds(conn: Connection) -> None:
    add_run(conn, started_at=ago(5))
    add_run(conn, status="failed", started_at=ago(4))
    add_run(conn, status="running", started_at=ago(0.5))
    assert reasons_of(conn) == ("failing", ["last_run_failed"])
    add_run(conn, started_at=ago(3))
    assert reasons_of(conn) == ("ok", [])


def test_a_run_that_waits_for_no_success_yet_is_failing(conn: Connection) -> None:
    add_run(conn, status="failed", started_at=ago(1))
    assert reasons_of(conn) == ("failing", ["last_run_failed", "no_recent_success"])
    assert health_of(conn)["last_success_minutes"] is None


def test_dry_runs_prove_nothing(conn: Connection) -> None:
    add_run(conn, dry_run=True)
    add_run(conn, status="failed", dry_run=True)
    assert reasons_of(conn) == ("degraded", ["dry_run", "never_run"])
    assert health_of(conn)["last_run"] is None
    real = add_run(conn, started_at=ago(2))
    assert reasons_of(conn) == ("ok", ["dry_run"])
    health = health_of(conn)
    assert health["last_run"]["run_id"] == real
    assert health["last_success_minutes"] == pytest.approx(2, abs=0.2)


def test_the_last_run_may_still_be_running(conn: Connection) -> None:
    add_run(conn, started_at=ago(2))
    running = add_run(conn, status="running", started_at=ago(1), heartbeat_at=ago(0))
    last = health_of(conn)["last_run"]
    assert (last["run_id"], last["status"], last["finished_at"]) == (running, "running", None)
    assert reasons_of(conn) == ("ok", [])


@pytest.mark.parametrize("queue", ["deliveries", "digests"])
def test_a_due_row_that_waits_longer_than_two_intervals_is_degraded(
    conn: Connection, queue: str
) -> None:
    add_run(conn)
    user = add_user(conn)
    if queue == "deliveries":
        add_delivery(conn, user, add_alert(conn), created_at=NOW)
    else:
        add_digest(conn, user, window_end=NOW)
    assert reasons_of(conn, NOW + 20 * MINUTE) == ("ok", [])
    assert reasons_of(conn, NOW + 21 * MINUTE) == ("degraded", ["queue_waiting"])


def test_a_stale_run_is_degraded(conn: Connection) -> None:
    add_run(conn)
    add_run(conn, status="running", started_at=ago(60), heartbeat_at=ago(1))
    assert reasons_of(conn) == ("ok", [])
    add_run(conn, status="running", started_at=ago(60), heartbeat_at=ago(2))
    assert reasons_of(conn) == ("degraded", ["run_stale"])


@pytest.mark.parametrize("queue", ["deliveries", "digests"])
def test_a_lapsed_claim_is_degraded(conn: Connection, queue: str) -> None:
    add_run(conn)
    user = add_user(conn)

    def claim(until: datetime) -> None:
        if queue == "deliveries":
            add_delivery(conn, user, add_alert(conn), status="sending", claimed_until=until)
        else:
            add_digest(conn, user, status="sending", claimed_until=until)

    claim(ago(-1))
    assert reasons_of(conn) == ("ok", [])
    claim(ago(0.1))
    assert reasons_of(conn) == ("degraded", ["sending_stuck"])


@pytest.mark.parametrize("queue", ["deliveries", "digests"])
def test_a_row_skipped_for_want_of_a_provider_is_degraded_for_a_day(
    conn: Connection, queue: str
) -> None:
    add_run(conn)
    user = add_user(conn)
    skipped = {"status": "skipped", "failure_code": "channel_not_configured", "created_at": NOW}
    if queue == "deliveries":
        add_delivery(conn, user, add_alert(conn), "sms", **skipped)
    else:
        add_digest(conn, user, "telegram", **skipped)
    assert reasons_of(conn) == ("degraded", ["channel_not_configured"])
    assert reasons_of(conn, NOW + DAY + MINUTE - MICROSECOND) == (
        "degraded",
        ["channel_not_configured"],
    )
    assert reasons_of(conn, NOW + DAY + MINUTE) == ("ok", [])


@pytest.mark.parametrize(
    ("failed", "sent", "codes"),
    [
        (2, 0, []),
        (3, 0, ["channel_failing"]),  # fewer than five, but not one got through
        (5, 0, ["channel_failing"]),
        (5, 95, []),  # exactly 5 percent is not over it
        (5, 94, ["channel_failing"]),
        (7, 133, []),
    ],
)
def test_a_channel_fails_over_five_percent_and_from_five_failures_on(
    conn: Connection, failed: int, sent: int, codes: list[str]
) -> None:
    add_run(conn)
    user = add_user(conn)
    for status, number in (("failed", failed), ("sent", sent)):
        for _ in range(number):
            add_delivery(conn, user, add_alert(conn), status=status)
    # What the day no longer holds, other channels and other kinds do not count.
    for created_at, kind, channel in (
        (NOW - DAY - MICROSECOND, "instant", "email"),
        (NOW, "index_digest", "email"),
        (NOW + MINUTE, "instant", "email"),
    ):
        for _ in range(6):
            event = add_alert(conn)
            row = {"status": "failed", "created_at": created_at, "kind": kind}
            add_delivery(conn, user, event, channel, **row)
    for _ in range(200):
        add_delivery(conn, user, add_alert(conn), "telegram", status="sent")
    status, found = reasons_of(conn)
    assert status == ("degraded" if codes else "ok")
    assert found == [*codes, "attempts_exhausted"]


@pytest.mark.parametrize("code", [code.value for code in FailureCode])
def test_what_sending_again_cannot_help_does_not_lead_to_sending_again(
    conn: Connection, code: str
) -> None:
    add_run(conn)
    user = add_user(conn)
    for _ in range(5):
        add_delivery(conn, user, add_alert(conn), status="failed", failure_code=code)
    reasons = health_of(conn)["reasons"]
    assert "channel_failing" in [reason["code"] for reason in reasons]
    for reason in reasons:
        if "will not help" in reason["action"]:
            assert not reason["page"].startswith("/ops/retry"), reason


def test_rows_of_other_parts_of_the_product_give_no_reason(conn: Connection) -> None:
    add_run(conn)
    user = add_user(conn)
    others: list[dict[str, Any]] = [
        {"status": "queued", "created_at": NOW - DAY + MINUTE},
        {"status": "failed", "failed_at": ago(60), "failure_code": "network"},
        {"status": "skipped", "failure_code": "channel_not_configured"},
    ]
    for row in others:
        add_delivery(conn, user, add_alert(conn), kind="index_digest", **row)
    assert reasons_of(conn) == ("ok", [])
    assert len(health_of(conn)["breakdown"]["deliveries_24h"]) == 3


def test_failing_outranks_degraded_and_every_reason_is_told(conn: Connection) -> None:
    add_run(conn, status="failed", started_at=ago(60))
    add_run(conn, status="running", started_at=ago(60), heartbeat_at=ago(50))
    user = add_user(conn)
    add_delivery(conn, user, add_alert(conn), created_at=NOW - 60 * MINUTE)
    add_delivery(conn, user, add_alert(conn), status="sending", claimed_until=ago(1))
    assert reasons_of(conn) == (
        "failing",
        ["last_run_failed", "run_stale", "no_recent_success", "queue_waiting", "sending_stuck"],
    )


# As the engine leaves things


def test_health_after_real_runs_tells_what_they_did(database_url: str, conn: Connection) -> None:
    def refuse(_: object) -> None:
        raise DeliveryError(FailureCode.PROVIDER_UNAVAILABLE, "503")

    user = add_user(conn, "pro", telegram="1")
    event = add_alert(conn)
    for channel in ("email", "telegram"):
        add_delivery(conn, user, event, channel)
    channels = all_channels(telegram=RememberingChannel(refuse))
    run(database_url, "c", channels=channels)
    health = health_of(conn)
    assert health["deliveries_24h"]["email"]["sent"] == 1
    assert health["deliveries_24h"]["telegram"]["queued"] == 1
    assert health["deliveries_24h"]["telegram"]["retried"] == 1
    assert health["oldest_queued_delivery_minutes"] is None  # the retry is scheduled for later
    assert health["status"] == "ok"


def test_the_command_line_gives_the_endpoints_json(
    database_url: str, conn: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    add_delivery(conn, add_user(conn), add_alert(conn), created_at=NOW - 5 * MINUTE)
    capsys.readouterr()
    environ = {"DATABASE_URL": database_url, "ALERTS_CLOCK": NOW.isoformat()}
    code = commands.main(["health", "--json"], environ)
    assert code == 0
    assert json.loads(capsys.readouterr().out) == health_of(conn)
