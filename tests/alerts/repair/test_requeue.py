"""Sending again what failed: which rows, which not and why, and that it leaves a trace."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.readers import comma_list
from alerts.repair import requeue
from alerts.repair.requeue import INCLUDES
from tests.support.queue_rows import TABLES, Rows
from tests.support.requeue_world import (
    HOUR,
    KINDS,
    MAX_ATTEMPTS,
    MICROSECOND,
    NEVER,
    TRANSIENT,
    UNKNOWN,
    outcome,
    retry,
)
from tests.support.world import (
    NOW,
    query,
    value,
)


@pytest.fixture
def rows(conn: Connection) -> Rows:
    return Rows(conn)


# Which rows


@KINDS
@pytest.mark.parametrize("code", TRANSIENT)
def test_a_transient_failure_goes_back_to_the_queue(conn: Connection, kind: str, code: str) -> None:
    rows = Rows(conn, kind)
    row_id = rows.add(failure_code=code, attempts=MAX_ATTEMPTS - 1, last_error="503")
    assert retry(conn, kind) == {
        "kind": kind, "since_hours": 24, "dry_run": False, "eligible": 1, "requeued": 1,
        "excluded": {}, "by_channel": {"email": 1},
        "action_id": value(conn, "SELECT max(id) FROM alerts_admin_actions"),
    }  # fmt: skip
    (row,) = query(conn, f"SELECT * FROM {TABLES[kind]} WHERE id = %s", row_id)
    assert row["status"] == "queued"
    assert (row["next_retry_at"], row["failed_at"], row["failure_code"]) == (None, None, None)
    assert (row["attempts"], row["last_error"]) == (MAX_ATTEMPTS - 1, "503")


@KINDS
@pytest.mark.parametrize("code", [*UNKNOWN, *NEVER])
def test_every_other_failure_is_counted_under_its_code(
    conn: Connection, kind: str, code: str
) -> None:
    rows = Rows(conn, kind)
    ids = [rows.add(failure_code=code), rows.add(failure_code=code, attempts=MAX_ATTEMPTS)]
    assert outcome(retry(conn, kind)) == (0, 0, {code: 2})
    assert [rows.status(i) for i in ids] == ["failed", "failed"]


@KINDS
def test_where_only_the_attempts_stand_in_the_way_it_says_so(conn: Connection, kind: str) -> None:
    rows = Rows(conn, kind)
    for attempts in (MAX_ATTEMPTS, MAX_ATTEMPTS + 1):
        rows.add(attempts=attempts)
    assert outcome(retry(conn, kind)) == (0, 0, {"attempts_exhausted": 2})
    raised = {"ALERTS_MAX_ATTEMPTS": str(MAX_ATTEMPTS + 1)}
    assert outcome(retry(conn, kind, environ=raised)) == (1, 1, {"attempts_exhausted": 1})


@KINDS
def test_the_window_goes_by_the_time_of_the_failure(conn: Connection, kind: str) -> None:
    rows = Rows(conn, kind)
    ids = {
        failed_at: rows.add(failed_at=failed_at, created_at=NOW - timedelta(days=9))
        for failed_at in (
            NOW - 3 * HOUR - MICROSECOND,
            NOW - 3 * HOUR,
            NOW - 3 * HOUR + MICROSECOND,
            NOW,
            NOW + MICROSECOND,
        )
    }
    ageless = {"ALERTS_DELIVERY_MAX_AGE_HOURS": "0"}
    assert outcome(retry(conn, kind, since_hours=3, environ=ageless)) == (2, 2, {})
    queued = {failed_at for failed_at, row_id in ids.items() if rows.status(row_id) == "queued"}
    assert queued == {NOW - 3 * HOUR + MICROSECOND, NOW}


@KINDS
@pytest.mark.parametrize("status", ["queued", "sending", "sent"])
def test_rows_that_have_not_failed_are_no_candidates(
    conn: Connection, kind: str, status: str
) -> None:
    needed: dict[str, dict[str, Any]] = {
        "queued": {"failure_code": "network", "next_retry_at": NOW + HOUR},
        "sending": {"claimed_by": "someone", "claimed_until": NOW},
        "sent": {"sent_at": NOW},
    }
    Rows(conn, kind).add(status, **needed[status])
    every = tuple(requeue.INCLUDES)
    assert outcome(retry(conn, kind, include=every)) == (0, 0, {})


@KINDS
def test_an_old_row_without_code_or_time_never_moves(conn: Connection, kind: str) -> None:
    check = f"ck_{TABLES[kind]}_failed"  # what old deployments' rows are from before
    db.execute(conn, f"ALTER TABLE {TABLES[kind]} DROP CONSTRAINT {check}")
    rows = Rows(conn, kind)
    ids = [rows.add(failure_code=None), rows.add(failure_code=None, failed_at=None)]
    every = tuple(requeue.INCLUDES)
    assert outcome(retry(conn, kind, include=every)) == (0, 0, {"no_code": 1})
    assert [rows.status(i) for i in ids] == ["failed", "failed"]


def test_other_kinds_of_deliveries_are_neither_moved_nor_counted(
    conn: Connection, rows: Rows
) -> None:
    row_id = rows.add(kind="index_digest")
    assert outcome(retry(conn)) == (0, 0, {})
    assert rows.status(row_id) == "failed"


def test_by_channel_counts_what_was_requeued(conn: Connection, rows: Rows) -> None:
    for channel in ("email", "sms", "email", "telegram"):
        rows.add(channel=channel)
    rows.add(channel="sms", failure_code="recipient_invalid")
    answer = retry(conn)
    assert answer["by_channel"] == {"email": 2, "sms": 1, "telegram": 1}
    assert answer["excluded"] == {"recipient_invalid": 1}


# What include lifts


@pytest.fixture
def one_of_each(rows: Rows) -> dict[str, int]:
    """A row for every rule, by the name of the rule."""
    skipped = {"failure_code": "channel_not_configured"}
    return {
        "transient": rows.add(),
        "exhausted": rows.add(attempts=MAX_ATTEMPTS),
        "unknown": rows.add(failure_code="outcome_unknown"),
        "lost": rows.add(failure_code="sender_lost", attempts=MAX_ATTEMPTS),
        "invalid": rows.add(failure_code="recipient_invalid"),
        "blocked": rows.add(failure_code="recipient_blocked"),
        "payload": rows.add(failure_code="payload_invalid"),
        "not_configured": rows.add("skipped", **skipped),
        "nowhere": rows.add("skipped", failure_code="missing_destination"),
        "batched": rows.add("skipped", failure_code="batched_into_digest"),
        "expired": rows.add("skipped", failure_code="expired"),
    }


@pytest.mark.parametrize(
    ("include", "moved", "excluded"),
    [
        ("", [], {"attempts_exhausted": 1, "outcome_unknown": 1, "sender_lost": 1}),
        ("exhausted", ["exhausted"], {"outcome_unknown": 1, "sender_lost": 1}),
        ("unknown", ["unknown", "lost"], {"attempts_exhausted": 1}),
        (
            "not_configured",
            ["not_configured"],
            {"attempts_exhausted": 1, "outcome_unknown": 1, "sender_lost": 1},
        ),
        ("exhausted,unknown", ["exhausted", "unknown", "lost"], {}),
        (
            "not_configured, exhausted ,unknown",
            ["exhausted", "unknown", "lost", "not_configured"],
            {},
        ),
    ],
)
def test_each_value_lifts_only_its_own_exclusion(
    conn: Connection,
    rows: Rows,
    one_of_each: dict[str, int],
    include: str,
    moved: list[str],
    excluded: dict[str, int],
) -> None:
    answer = retry(conn, include=comma_list(INCLUDES).read(include) if include else ())
    never = {"recipient_invalid": 1, "recipient_blocked": 1, "payload_invalid": 1}
    assert answer["excluded"] == {**never, **excluded}
    expected = {"transient", *moved}
    assert answer["eligible"] == answer["requeued"] == len(expected)
    assert {name for name, i in one_of_each.items() if rows.status(i) == "queued"} == expected


def test_skipped_rows_go_by_the_time_they_were_made(conn: Connection, rows: Rows) -> None:
    code = {"failure_code": "channel_not_configured"}
    for created_at in (NOW - 3 * HOUR, NOW + MICROSECOND):
        rows.add("skipped", created_at=created_at, **code)
    inside = rows.add("skipped", created_at=NOW - 3 * HOUR + MICROSECOND, **code)
    assert outcome(retry(conn, since_hours=3, include=("not_configured",))) == (1, 1, {})
    assert rows.status(inside) == "queued"


@pytest.mark.parametrize("text", ["", ",", " , ", "all", "unknown exhausted", "Unknown"])
def test_a_list_with_other_words_is_refused(text: str) -> None:
    included = comma_list(INCLUDES)
    assert included.takes == "a comma list of exhausted, unknown, not_configured, refused"
    with pytest.raises(ValueError, match="no such words"):
        included.read(text)
