"""The constraints refuse every state that the engine must never reach."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from tests.support.world import NOW, add_alert, add_delivery, add_user, value

ENGINE_TABLES = ("user_alert_deliveries", "user_alert_digests")


def insert(conn: Connection, table: str, row: dict[str, Any]) -> None:
    names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
    db.execute(conn, f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(row.values()))


def row_of(conn: Connection, table: str) -> dict[str, Any]:
    """A row that the table takes."""
    base: dict[str, Any] = {"user_id": add_user(conn), "channel": "email", "status": "queued"}
    if table == "user_alert_deliveries":
        return {**base, "alert_event_id": add_alert(conn), "delivery_kind": "instant"}
    window = {"window_start": NOW - timedelta(days=1), "window_end": NOW}
    return {**base, **window, "period": "daily", "digest_key": "k"}


@pytest.mark.parametrize("table", ENGINE_TABLES)
@pytest.mark.parametrize(
    "state",
    [
        {"status": "done"},
        {"status": "QUEUED"},
        {"status": "sent"},
        {"status": "failed"},
        {"status": "failed", "failed_at": NOW},
        {"status": "failed", "failure_code": "network"},
        {"status": "sending"},  # no stored state
        {"channel": "pigeon"},
    ],
)
def test_an_impossible_state_is_refused(
    conn: Connection, table: str, state: dict[str, Any]
) -> None:
    with pytest.raises(psycopg2.errors.CheckViolation):
        insert(conn, table, {**row_of(conn, table), **state})


@pytest.mark.parametrize("table", ENGINE_TABLES)
@pytest.mark.parametrize(
    "state",
    [
        {"status": "queued"},
        {"status": "sent", "sent_at": NOW},
        {"status": "failed", "failed_at": NOW, "failure_code": "network"},
        {"status": "skipped", "failure_code": "expired"},
    ],
)
def test_every_state_of_the_machine_is_taken(
    conn: Connection, table: str, state: dict[str, Any]
) -> None:
    insert(conn, table, {**row_of(conn, table), **state})


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("user_alert_digests", {"channel": "sms"}),
        ("user_alert_digests", {"channel": "account"}),
        ("user_alert_digests", {"period": "weekly"}),
        ("user_alert_digests", {"window_start": NOW}),
        ("user_alert_deliveries", {"alert_event_id": None}),
        ("user_alert_deliveries", {"alert_event_id": None, "delivery_kind": "digest"}),
    ],
)
def test_what_only_one_of_the_queues_refuses(
    conn: Connection, table: str, change: dict[str, Any]
) -> None:
    with pytest.raises(psycopg2.errors.CheckViolation):
        insert(conn, table, {**row_of(conn, table), **change})


def test_other_kinds_of_deliveries_need_no_event(conn: Connection) -> None:
    row = row_of(conn, "user_alert_deliveries")
    insert(
        conn,
        "user_alert_deliveries",
        {**row, "alert_event_id": None, "delivery_kind": "index_digest"},
    )


RUN = {
    "run_id": "r",
    "triggered_by": "local",
    "phase": "all",
    "started_at": NOW,
    "status": "running",
}


@pytest.mark.parametrize(
    "change",
    [
        {"phase": "e"},
        {"status": "done"},
        {"status": "success"},  # ended without a time
        {"finished_at": NOW},  # a time while running
        {"duration_ms": -1},
        {"error_summary": "x" * 2001},
    ],
)
def test_an_impossible_run_is_refused(conn: Connection, change: dict[str, Any]) -> None:
    with pytest.raises(psycopg2.errors.CheckViolation):
        insert(conn, "alerts_engine_runs", {**RUN, **change})
    insert(conn, "alerts_engine_runs", {**RUN, "error_summary": "x" * 2000})


@pytest.mark.parametrize("change", [{"phase": "all"}, {"status": "running"}])
def test_an_impossible_item_is_refused(conn: Connection, change: dict[str, Any]) -> None:
    insert(conn, "alerts_engine_runs", RUN)
    item = {"run_id": "r", "phase": "a", "started_at": NOW, "status": "success"}
    with pytest.raises(psycopg2.errors.CheckViolation):
        insert(conn, "alerts_engine_run_items", {**item, **change})
    insert(conn, "alerts_engine_run_items", item)
    with pytest.raises(psycopg2.errors.UniqueViolation):
        insert(conn, "alerts_engine_run_items", item)
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        insert(conn, "alerts_engine_run_items", {**item, "run_id": "unknown"})


def test_nothing_is_there_twice(conn: Connection) -> None:
    user, event = add_user(conn), add_alert(conn)
    delivery = add_delivery(conn, user, event)
    with pytest.raises(psycopg2.errors.UniqueViolation):
        add_delivery(conn, user, event)
    add_delivery(conn, user, event, kind="digest")
    digests = []
    for key in ("k1", "k2"):
        insert(
            conn, "user_alert_digests", {**row_of(conn, "user_alert_digests"), "digest_key": key}
        )
        digests.append(value(conn, "SELECT max(id) FROM user_alert_digests"))
    with pytest.raises(psycopg2.errors.UniqueViolation):
        insert(
            conn, "user_alert_digests", {**row_of(conn, "user_alert_digests"), "digest_key": "k1"}
        )
    insert(conn, "user_alert_digest_items", {"digest_id": digests[0], "delivery_id": delivery})
    with pytest.raises(psycopg2.errors.UniqueViolation):
        insert(conn, "user_alert_digest_items", {"digest_id": digests[1], "delivery_id": delivery})


def test_an_event_is_global_and_held_to_its_fingerprint(conn: Connection) -> None:
    add_alert(conn)
    with pytest.raises(psycopg2.errors.UniqueViolation):
        db.execute(
            conn,
            "INSERT INTO alert_events (alert_type, severity, headline, body, cooldown_key,"
            " event_fingerprint) SELECT alert_type, severity, headline, body, 'other',"
            " event_fingerprint FROM alert_events",
        )
    for change in ("severity = 0", "severity = 6"):
        with pytest.raises(psycopg2.errors.CheckViolation):
            db.execute(conn, f"UPDATE alert_events SET {change}")
    for change in ("scope_assets = NULL", "event_fingerprint = NULL"):
        with pytest.raises(psycopg2.errors.NotNullViolation):
            db.execute(conn, f"UPDATE alert_events SET {change}")
