"""Pages of deliveries and digests: all that match, once, newest first, whatever the filter."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.lookup import deliveries as browse
from tests.support.queue_rows import Rows
from tests.support.world import NOW, query

COLUMNS = {"event_id": "alert_event_id", "kind": "delivery_kind"}
LISTINGS = pytest.mark.parametrize("listing", [browse.DELIVERIES, browse.DIGESTS])


def fill(conn: Connection, listing: browse.Listing, rng: random.Random) -> list[dict[str, Any]]:
    rows = Rows(conn, listing.name)
    for _ in range(60):
        status = rng.choice(["queued", "sent", "failed", "skipped"])
        columns: dict[str, Any] = {
            "created_at": NOW - timedelta(minutes=rng.choice([1, 1, 2, 90, 3000])),
        }
        if status == "sent":
            columns["sent_at"] = NOW
        if status == "failed":
            columns["failure_code"] = rng.choice(["network", "recipient_invalid"])
        if listing is browse.DELIVERIES:
            columns["kind"] = rng.choice(["instant", "digest"])
        else:
            columns["attempts"] = 1
        rows.add(status, rng.choice(["email", "telegram"]), **columns)
    return query(conn, f"SELECT * FROM {listing.table}")


def all_pages(
    conn: Connection, listing: browse.Listing, limit: int, **filters: Any
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    before = None
    while True:
        page = browse.list_rows(conn, listing, limit=limit, before=before, **filters)
        assert page["count"] == len(page[listing.name]) <= limit
        found += page[listing.name]
        before = page["next_before"]
        if before is None:
            return found


@LISTINGS
@pytest.mark.parametrize("looked_at", [7, 20_000])
def test_all_pages_together_are_the_rows_that_match(
    conn: Connection, monkeypatch: pytest.MonkeyPatch, listing: browse.Listing, looked_at: int
) -> None:
    monkeypatch.setattr(browse, "ROWS_LOOKED_AT", looked_at)
    rng = random.Random(looked_at)
    rows = fill(conn, listing, rng)
    wanted: list[dict[str, Any]] = [{}, {"since": NOW - timedelta(minutes=2)}]
    for name in (*listing.indexed, *listing.others):
        values = {row[COLUMNS.get(name, name)] for row in rows} - {None}
        wanted += [{name: value} for value in sorted(values)[:3]]
    wanted.append({"status": "failed", "channel": "email", "failure_code": "network"})
    for filters in wanted:
        expected = [
            row["id"]
            for row in sorted(rows, key=lambda row: (row["created_at"], row["id"]), reverse=True)
            if all(
                row["created_at"] >= value if name == "since" else
                row[COLUMNS.get(name, name)] == value
                for name, value in filters.items()
            )
        ]  # fmt: skip
        for limit in (1, 6, 200):
            found = all_pages(conn, listing, limit, **filters)
            assert [row["id"] for row in found] == expected, (filters, limit)


def test_rows_made_meanwhile_do_not_disturb_the_pages(conn: Connection) -> None:
    rows = fill(conn, browse.DELIVERIES, random.Random(1))
    page = browse.list_rows(conn, browse.DELIVERIES, limit=10)
    Rows(conn).add(created_at=NOW)
    seen = [row["id"] for row in page["deliveries"]]
    while page["next_before"]:
        page = browse.list_rows(conn, browse.DELIVERIES, limit=10, before=page["next_before"])
        seen += [row["id"] for row in page["deliveries"]]
    assert sorted(seen) == sorted(row["id"] for row in rows)


def test_a_delivery_shows_its_event_and_digest_and_a_digest_its_items(conn: Connection) -> None:
    batched = {"kind": "digest", "failure_code": "batched_into_digest"}
    delivery, digest = Rows(conn).add("skipped", **batched), Rows(conn, "digests").add()
    db.execute(conn, "INSERT INTO user_alert_digest_items VALUES (%s, %s)", (digest, delivery))
    found = browse.get_delivery(conn, delivery)
    assert found is not None
    assert found["digest"]["id"] == found["delivery"]["digest_id"] == digest
    assert set(found["event"]) == {"id", "alert_type", "region", "severity", "created_at"}
    back = browse.get_digest(conn, digest)
    assert back is not None
    event = found["delivery"]["event_id"]
    assert (back["items_total"], back["items"]) == (
        1, [{"delivery_id": delivery, "event_id": event}],
    )  # fmt: skip
    assert browse.get_delivery(conn, delivery + 1) is None
    assert browse.get_digest(conn, digest + 1) is None


def test_times_of_old_deployments_read_as_utc(conn: Connection) -> None:
    change = "ALTER TABLE user_alert_deliveries ALTER COLUMN created_at TYPE timestamp"
    db.execute(conn, change + " USING created_at AT TIME ZONE 'UTC'")
    Rows(conn).add(created_at=NOW)
    db.execute(conn, "SET TimeZone = 'UTC'")
    (row,) = browse.list_rows(conn, browse.DELIVERIES, since=NOW)["deliveries"]
    assert row["created_at"] == NOW.isoformat()


@LISTINGS
def test_what_a_run_holds_is_told_as_sending_and_is_not_queued(
    conn: Connection, listing: browse.Listing
) -> None:
    rows = Rows(conn, listing.name)
    waiting = [rows.add("queued") for _ in range(3)]
    lease = {"claimed_by": "run", "claimed_until": NOW}
    held = [rows.add("sending", **lease) for _ in range(2)]
    other = rows.add("skipped", failure_code="expired")
    db.execute(  # a lease may still name a row that was skipped by hand
        conn, "UPDATE alerts_leases SET ids = ids || %s::bigint WHERE %s = ANY (ids)",
        (other, held[0]),
    )  # fmt: skip

    def found(**filters: Any) -> dict[int, dict[str, Any]]:
        page = browse.list_rows(conn, listing, **filters)
        return {row["id"]: row for row in page[listing.name]}

    assert set(found(status="queued")) == set(waiting)
    assert set(found(status="sending")) == set(held)
    assert set(found(status="skipped")) == {other}
    told = found()
    assert {told[row]["status"] for row in held} == {"sending"}
    assert {told[row]["claimed_by"] for row in held} == {"run"}
    assert told[held[0]]["claimed_until"] == NOW.isoformat()
    for row in (*waiting, other):
        assert (told[row]["claimed_by"], told[row]["claimed_until"]) == (None, None)
