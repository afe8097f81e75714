"""A call that sends again what failed: its limit, locks, dry run and trace, and what follows."""

from __future__ import annotations

import json
import random
from collections import Counter
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.cli import commands
from alerts.failures import DeliveryError, FailureCode
from alerts.repair import requeue
from tests.support.queue_rows import TABLES, Rows
from tests.support.requeue_world import (
    HOUR,
    KINDS,
    MAX_ATTEMPTS,
    NEVER,
    TRANSIENT,
    UNKNOWN,
    outcome,
    retry,
)
from tests.support.web import ADMIN, PREFIX, app_for
from tests.support.world import (
    NOW,
    RememberingChannel,
    add_alert,
    add_delivery,
    add_user,
    all_channels,
    query,
    run,
    value,
)


@pytest.fixture
def rows(conn: Connection) -> Rows:
    return Rows(conn)


# Limit, order, locks


@KINDS
def test_the_limit_takes_the_oldest_failures_first(conn: Connection, kind: str) -> None:
    rows = Rows(conn, kind)
    ids = [rows.add(failed_at=NOW - n * HOUR) for n in (1, 5, 3, 4)]
    answer = retry(conn, kind, limit=2)
    assert (answer["eligible"], answer["requeued"]) == (4, 2)
    assert [rows.status(i) for i in ids] == ["failed", "queued", "failed", "queued"]
    assert answer["by_channel"] == {"email": 2}


@pytest.mark.parametrize(("limit", "moved"), [(None, 3), (2, 2), (3, 3), (1000, 3)])
def test_one_call_never_moves_more_than_a_run_may_send(
    conn: Connection, rows: Rows, limit: int | None, moved: int
) -> None:
    for _ in range(5):
        rows.add()
    answer = retry(conn, limit=limit, environ={"ALERTS_MAX_SEND_PER_RUN": "3"})
    assert (answer["eligible"], answer["requeued"]) == (5, moved)


@KINDS
def test_rows_that_someone_else_has_locked_are_left_to_him(
    database_url: str, conn: Connection, kind: str
) -> None:
    rows = Rows(conn, kind)
    locked, free = rows.add(), rows.add()
    with closing(psycopg2.connect(database_url)) as other, other.cursor() as cursor:
        cursor.execute(f"SELECT FROM {TABLES[kind]} WHERE id = %s FOR UPDATE", (locked,))
        for dry_run in (True, False):
            assert outcome(retry(conn, kind, dry_run=dry_run)) == (2, 1, {})
        other.rollback()
    assert (rows.status(locked), rows.status(free)) == ("failed", "queued")
    assert outcome(retry(conn, kind)) == (1, 1, {})


def test_calls_at_the_same_time_move_each_row_once(database_url: str, conn: Connection) -> None:
    rows = Rows(conn)
    for _ in range(6):
        rows.add()
    with closing(psycopg2.connect(database_url)) as other:
        other.autocommit = True
        db.execute(other, "BEGIN")
        assert retry(other, limit=4)["requeued"] == 4  # a savepoint: not committed yet
        assert retry(conn)["requeued"] == 2
        db.execute(other, "COMMIT")
    assert retry(conn)["eligible"] == 0


# Dry run and audit


@KINDS
def test_a_dry_run_tells_what_a_real_one_then_does(conn: Connection, kind: str) -> None:
    rng = random.Random(kind)
    rows = Rows(conn, kind)
    table = TABLES[kind]
    for _ in range(20):
        db.execute(conn, f"DELETE FROM {table}")
        for _ in range(rng.randint(0, 8)):
            status = rng.choice(["failed", "failed", "failed", "skipped"])
            columns: dict[str, Any] = {
                "attempts": rng.randint(0, 7),
                "failure_code": rng.choice([*TRANSIENT, *UNKNOWN, *NEVER])
                if status == "failed"
                else rng.choice(["channel_not_configured", "missing_destination"]),
            }
            moment = NOW - rng.choice([0, 1, 2, 3, 30]) * HOUR
            columns["failed_at" if status == "failed" else "created_at"] = moment
            rows.add(status, rng.choice(["email", "telegram"]), **columns)
        asked = {
            "since_hours": rng.choice([1, 2, 24, 168]),
            "limit": rng.choice([None, 1, 3]),
            "include": tuple(rng.sample(requeue.INCLUDES, rng.randint(0, 3))),
        }
        before = query(conn, f"SELECT * FROM {table} ORDER BY id")
        audits = value(conn, "SELECT count(*) FROM alerts_admin_actions")
        rehearsed = retry(conn, kind, dry_run=True, **asked)
        assert query(conn, f"SELECT * FROM {table} ORDER BY id") == before
        assert value(conn, "SELECT count(*) FROM alerts_admin_actions") == audits
        real = retry(conn, kind, **asked)
        assert real["action_id"] is not None
        assert rehearsed == {**real, "dry_run": True, "action_id": None}
        moved = Counter(
            row["channel"] for row in query(conn, f"SELECT * FROM {table} WHERE status = 'queued'")
        )
        assert real["by_channel"] == moved
        assert real["requeued"] == moved.total()
        assert value(conn, "SELECT count(*) FROM alerts_admin_actions") == audits + 1
        again = retry(conn, kind, dry_run=True, **asked)
        assert again["eligible"] == real["eligible"] - real["requeued"]


def test_a_call_that_finds_nothing_leaves_its_trace_too(conn: Connection) -> None:
    answer = retry(conn, "digests", since_hours=5, include=("unknown",))
    (audit,) = query(conn, "SELECT * FROM alerts_admin_actions")
    assert audit["id"] == answer["action_id"]
    assert (audit["action"], audit["token_key_id"]) == ("retry_failed", "0123abcd")
    assert audit["parameters"] == {
        "kind": "digests", "since_hours": 5, "limit": 1000, "include": ["unknown"],
        "failure_code": None, "channel": None,
    }  # fmt: skip
    assert audit["result"] == {"eligible": 0, "requeued": 0, "excluded": {}, "by_channel": {}}


def refuse_audits(conn: Connection) -> None:
    db.execute(
        conn,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'refused'; END $$;"
        "CREATE TRIGGER refuse BEFORE INSERT ON alerts_admin_actions"
        " FOR EACH ROW EXECUTE FUNCTION refuse()",
    )


@KINDS
def test_without_its_audit_nothing_is_requeued(
    database_url: str, conn: Connection, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = Rows(conn, kind)
    row_id = rows.add()
    refuse_audits(conn)
    with pytest.raises(psycopg2.Error, match="refused"):
        retry(conn, kind)
    assert rows.status(row_id) == "failed"
    assert commands.main(["retry-failed", kind], {"DATABASE_URL": database_url}) == 1
    assert rows.status(row_id) == "failed"
    assert outcome(retry(conn, kind, dry_run=True)) == (1, 1, {})  # needs no audit


# From end to end


@KINDS
def test_a_requeued_row_is_sent_by_the_next_run(
    database_url: str, conn: Connection, kind: str
) -> None:
    rows = Rows(conn, kind)
    row_id = rows.add(attempts=3)
    channels = all_channels()
    run(database_url, "c", channels=channels)
    assert channels["email"].sent == []
    retry(conn, kind)
    run(database_url, "c", channels=channels)
    assert len(channels["email"].sent) == 1
    assert rows.status(row_id) == "sent"
    assert value(conn, f"SELECT attempts FROM {TABLES[kind]} WHERE id = %s", row_id) == 4


def test_an_exhausted_row_gets_one_more_attempt(database_url: str, conn: Connection) -> None:
    def refuse(_: object) -> None:
        raise DeliveryError(FailureCode.PROVIDER_UNAVAILABLE, "503")

    rows = Rows(conn)
    row_id = rows.add(attempts=MAX_ATTEMPTS)
    assert retry(conn, include=("exhausted",))["requeued"] == 1
    run(database_url, "c", channels=all_channels(email=RememberingChannel(refuse)))
    (row,) = query(conn, "SELECT * FROM user_alert_deliveries WHERE id = %s", row_id)
    assert (row["status"], row["attempts"]) == ("failed", MAX_ATTEMPTS + 1)
    assert outcome(retry(conn)) == (0, 0, {"attempts_exhausted": 1})


def test_a_message_skipped_without_provider_goes_out_once_there_is_one(
    database_url: str, conn: Connection
) -> None:
    user, event = add_user(conn, phone="+31600000000"), add_alert(conn)
    row_id = add_delivery(conn, user, event, "sms")
    channels = all_channels()
    sms = channels.pop("sms")
    run(database_url, "c", channels=channels)
    assert Rows(conn).status(row_id) == "skipped"
    assert retry(conn, include=("not_configured",))["requeued"] == 1
    run(database_url, "c", channels={**channels, "sms": sms})
    assert len(sms.sent) == 1


@KINDS
def test_the_command_line_gives_the_endpoints_json(
    database_url: str, conn: Connection, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = Rows(conn, kind)
    for columns in ({}, {"attempts": 9}, {"failure_code": "recipient_blocked"}, {}):
        rows.add(**columns)
    rows.add(channel="telegram", failure_code="rate_limited")
    filters = (
        ["--failure-code", "network", "--channel", "email"],
        "&failure_code=network&channel=email",
    )
    options = ["--since-hours", "48", "--limit", "1", "--include", "exhausted", *filters[0]]
    arguments = ["retry-failed", kind, "--json", *options]
    environ = {"DATABASE_URL": database_url, "ALERTS_CLOCK": NOW.isoformat()}
    params = f"kind={kind}&since_hours=48&limit=1&include=exhausted{filters[1]}"
    client = app_for(database_url).test_client()

    def both(*extra: str, query_string: str = "") -> tuple[Any, Any]:
        capsys.readouterr()
        assert commands.main([*arguments, *extra], environ) == 0
        told = json.loads(capsys.readouterr().out)
        path = f"{PREFIX}/retry_failed?{params}{query_string}"
        return told, client.post(path, headers=ADMIN).get_json()

    told, answered = both("--dry-run", query_string="&dry_run=true")
    assert told == answered
    assert (told["eligible"], told["requeued"], told["dry_run"]) == (3, 1, True)
    told, answered = both()
    assert answered == {**told, "eligible": 2, "action_id": told["action_id"] + 1}
    found = query(conn, "SELECT token_key_id, parameters FROM alerts_admin_actions ORDER BY id")
    assert found[0]["token_key_id"] == "cli"
    assert found[0]["parameters"] == found[1]["parameters"]
    assert (found[0]["parameters"]["failure_code"], found[0]["parameters"]["channel"]) == (
        "network", "email",
    )  # fmt: skip


@pytest.mark.parametrize("options", [
    ["--since-hours", "169"], ["--since-hours", "0"], ["--limit", "0"], ["--include", "all"],
    ["--include", ""], ["--channel", "account"], ["--channel", "fax"],
    ["--failure-code", "timeout"], ["--failure-code", ""],
])  # fmt: skip
def test_the_command_line_refuses_what_the_endpoint_refuses(options: list[str]) -> None:
    assert commands.main(["retry-failed", "deliveries", *options], {}) == 2


def test_the_command_line_takes_no_limit_above_what_one_run_may_send(
    database_url: str, conn: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {"DATABASE_URL": database_url, "ALERTS_MAX_SEND_PER_RUN": "10"}
    assert commands.main(["retry-failed", "deliveries", "--limit", "11"], environ) == 2
    assert "--limit takes a whole number from 1 to 10" in capsys.readouterr().err
    assert commands.main(["retry-failed", "deliveries", "--limit", "10"], environ) == 0
