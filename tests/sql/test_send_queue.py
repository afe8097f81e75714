"""The triggers keep the send queue, whoever writes: each row to send is in it or in one lease."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from tests.support.health_counts import other_role
from tests.support.queue_world import (
    add_digest,
    assert_each_in_its_place,
    places,
    queue_instants,
)
from tests.support.world import NOW, add_alert, add_delivery, add_user, lease, query, value

TABLES = {"deliveries": "user_alert_deliveries", "digests": "user_alert_digests"}
# What somebody may write by hand, for one table or both; {n} picks rows.
CHANGES = (
    "UPDATE {table} SET status = 'skipped' WHERE id %% 3 = {n}",
    "UPDATE {table} SET status = 'queued' WHERE id %% 3 = {n}",
    "UPDATE {table} SET status = 'sent', sent_at = now() WHERE id %% 4 = {n}",
    "UPDATE {table} SET status = 'queued', sent_at = NULL WHERE id %% 4 = {n}",
    "UPDATE {table} SET next_retry_at = created_at + interval '1 hour' WHERE id %% 4 = {n}",
    "UPDATE {table} SET next_retry_at = NULL, attempts = 0 WHERE id %% 4 = {n}",
    "UPDATE {table} SET channel = 'telegram' WHERE id %% 5 = {n}",
    "UPDATE {table} SET user_id = (SELECT max(id) FROM users) WHERE id %% 7 = {n}",
    "UPDATE {table} SET id = id + 1000000 WHERE id %% 11 = {n} AND id < 1000000",
    "UPDATE {table} SET last_error = 'x'",
    "DELETE FROM {table} WHERE id %% 9 = {n}",
)
OF_DELIVERIES = (
    "UPDATE user_alert_deliveries SET delivery_kind = 'digest' WHERE id %% 6 = {n}",
    "UPDATE user_alert_deliveries SET delivery_kind = 'instant' WHERE id %% 6 = {n}",
    "UPDATE user_alert_deliveries SET delivery_kind = 'newsletter' WHERE id %% 6 = {n}",
    "UPDATE user_alert_deliveries SET created_at = created_at - interval '1 day'"
    " WHERE id %% 4 = {n}",
    "DELETE FROM users WHERE id %% 8 = {n}",
)
OF_DIGESTS = (
    "UPDATE user_alert_digests SET window_end = window_end + interval '2 hours'"
    " WHERE id %% 4 = {n}",
)


def fill(conn: Connection, rows: int = 12) -> None:
    for number in range(rows):
        user = add_user(conn)
        kind = ("instant", "instant", "digest")[number % 3]
        add_delivery(conn, user, add_alert(conn), kind=kind)
        add_digest(conn, user, window_end=NOW + timedelta(hours=number - 6))


def claim_some(conn: Connection, rng: random.Random) -> None:
    queue, _ = places(conn)
    for source in TABLES:
        ids = [row_id for name, row_id in queue if name == source]
        if ids:
            taken = rng.sample(ids, rng.randint(1, len(ids)))
            lease(conn, taken, source=source, claimed_until=NOW)


@pytest.mark.parametrize("seed", range(12))
def test_every_row_to_send_stays_in_its_place_whatever_is_written(
    conn: Connection, seed: int
) -> None:
    rng = random.Random(seed)
    fill(conn)
    assert_each_in_its_place(conn)
    for _ in range(25):
        if rng.random() < 0.2:
            claim_some(conn, rng)
        if rng.random() < 0.1:
            fill(conn, 3)
        for table in rng.choice([("deliveries",), ("digests",), tuple(TABLES)]):
            own = OF_DELIVERIES if table == "deliveries" else OF_DIGESTS
            text = rng.choice(CHANGES + own).replace("{table}", TABLES[table])
            db.execute(conn, text.replace("{n}", str(rng.randrange(4))).replace("%%", "%"))
        assert_each_in_its_place(conn)


@pytest.mark.parametrize("source", TABLES)
@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_a_row_that_leaves_and_comes_back_while_it_is_held_stays_held(
    conn: Connection, source: str, isolation: str
) -> None:
    fill(conn)
    queue, _ = places(conn)
    ids = [row_id for name, row_id in queue if name == source]
    lease(conn, ids, source=source, claimed_until=NOW)
    db.execute(conn, f"BEGIN ISOLATION LEVEL {isolation}")
    for status in ("skipped", "queued"):
        db.execute(conn, f"UPDATE {TABLES[source]} SET status = %s WHERE id = ANY (%s)",
                   (status, ids))  # fmt: skip
    db.execute(conn, "COMMIT")
    _, held = places(conn)
    assert held == [(source, row_id) for row_id in sorted(ids)]
    assert_each_in_its_place(conn)


def test_rows_that_only_other_parts_of_the_product_send_never_enter(conn: Connection) -> None:
    user = add_user(conn)
    add_delivery(conn, user, add_alert(conn), kind="newsletter")
    db.execute(conn, "UPDATE user_alert_deliveries SET status = 'queued', attempts = 1")
    assert places(conn) == ({}, [])
    assert query(conn, "SELECT * FROM alerts_digest_waiting") == []


def test_a_row_whose_lease_is_restored_before_it_does_not_enter(conn: Connection) -> None:
    user, event = add_user(conn), add_alert(conn)
    held = "INSERT INTO alerts_leases (run_id, source, until, ids)"
    db.execute(conn, f"{held} VALUES ('lost', 'deliveries', now(), ARRAY[77])")
    db.execute(
        conn,
        "INSERT INTO user_alert_deliveries (id, user_id, alert_event_id, channel)"
        " VALUES (77, %s, %s, 'email'), (78, %s, %s, 'sms')",
        (user, event, user, event),
    )
    assert list(places(conn)[0]) == [("deliveries", 78)]


@pytest.mark.parametrize("table", TABLES.values())
def test_truncating_leaves_nothing_behind_that_a_new_id_could_meet(
    conn: Connection, table: str
) -> None:
    fill(conn)
    claim_some(conn, random.Random(1))
    db.execute(conn, f"TRUNCATE {table} RESTART IDENTITY CASCADE")
    queue, held = places(conn)
    source = next(name for name, own in TABLES.items() if own == table)
    assert source not in {name for name, _ in [*queue, *held]}
    assert_each_in_its_place(conn)


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel)"
        " SELECT user_id, alert_event_id, 'sms' FROM user_alert_deliveries",
        "UPDATE user_alert_deliveries SET status = 'skipped'",
        "UPDATE user_alert_digests SET next_retry_at = now()",
        "DELETE FROM user_alert_digests",
    ],
)
def test_a_write_that_the_queue_cannot_follow_fails(conn: Connection, change: str) -> None:
    """Otherwise than a count, a message outside the queue would be lost."""
    add_delivery(conn, add_user(conn), add_alert(conn))
    add_digest(conn, add_user(conn))
    db.execute(conn, "ALTER TABLE alerts_send_queue RENAME TO away")
    with pytest.raises(psycopg2.errors.UndefinedTable):
        db.execute(conn, change)
    db.execute(conn, "ALTER TABLE away RENAME TO alerts_send_queue")
    assert_each_in_its_place(conn)


def test_who_may_write_rows_may_not_write_the_queue(conn: Connection, database_url: str) -> None:
    fill(conn)
    grants = (
        "GRANT SELECT, INSERT, UPDATE, DELETE ON user_alert_deliveries, user_alert_digests"
        " TO {role}"
    )
    with other_role(conn, database_url, grants) as writer:
        db.execute(writer, "SET search_path = ''")
        for table in TABLES.values():
            db.execute(writer, f"UPDATE public.{table} SET status = 'skipped' WHERE id % 2 = 0")
            db.execute(writer, f"UPDATE public.{table} SET status = 'queued' WHERE id % 4 = 0")
            db.execute(writer, f"DELETE FROM public.{table} WHERE id % 3 = 0")
        assert_each_in_its_place(conn)
        for table in ("alerts_send_queue", "alerts_leases", "alerts_digest_waiting"):
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                db.execute(writer, f"DELETE FROM public.{table}")


# The large tables


def test_no_index_of_the_large_tables_mentions_the_status(conn: Connection) -> None:
    rows = query(
        conn, "SELECT indexdef FROM pg_indexes WHERE tablename = ANY (%s)", list(TABLES.values())
    )
    assert len(rows) > 8
    assert [row["indexdef"] for row in rows if "status" in row["indexdef"]] == []


def test_a_message_that_is_sent_touches_no_index(conn: Connection) -> None:
    """Each update stays on its page where that has room (HOT)."""
    if conn.info.server_version < 150_000:
        pytest.skip("PostgreSQL 14 gathers statistics in the background, at its own pace")
    ids = queue_instants(conn, 20)
    db.execute(conn, "UPDATE user_alert_deliveries SET status = 'sent', sent_at = now(),"
               " attempts = 1, provider_message_id = 'id'")  # fmt: skip
    db.execute(conn, "SELECT pg_stat_force_next_flush()")
    found = query(conn, "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables"
                  " WHERE relname = 'user_alert_deliveries'")  # fmt: skip
    assert found == [{"n_tup_upd": len(ids), "n_tup_hot_upd": len(ids)}]


# A lease

LEASE = {"run_id": "run", "source": "deliveries", "until": NOW, "ids": [1]}


@pytest.mark.parametrize(
    "change",
    [{"ids": []}, {"ids": None}, {"ids": [1, None]}, {"until": None}, {"run_id": None},
     {"source": "others"}],
    ids=str,
)  # fmt: skip
def test_an_impossible_lease_is_refused(conn: Connection, change: dict[str, Any]) -> None:
    text = "INSERT INTO alerts_leases (run_id, source, until, ids)" \
        " VALUES (%(run_id)s, %(source)s, %(until)s, %(ids)s::bigint[])"  # fmt: skip
    with pytest.raises(psycopg2.errors.IntegrityError):
        db.execute(conn, text, {**LEASE, **change})
    db.execute(conn, text, LEASE)
    assert value(conn, "SELECT count(*) FROM alerts_leased") == 1
