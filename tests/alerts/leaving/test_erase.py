"""Erasing: nothing of the user is left, nothing of anybody else is touched, nothing is sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import pytest
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.channels.base import Message
from alerts.channels.names import CHANNELS
from alerts.cli import commands, tables
from alerts.cli.text import Style
from alerts.leaving.erase import EraseRefused, erase
from alerts.locks import lock_number
from alerts.migrations import migrate
from tests.support.leaving import audit, channel_pref
from tests.support.old_deployment import OLD_DEPLOYMENT
from tests.support.queue_world import add_digest
from tests.support.world import (
    NOW,
    RememberingChannel,
    add_alert,
    add_channel_pref,
    add_delivery,
    add_pref,
    add_user,
    all_channels,
    counts_of,
    lease,
    query,
    run,
    value,
    wait_until,
)

WHAT = {
    "digest_items": 2,
    "digests": 1,
    "deliveries": 8,
    "alert_preferences": 1,
    "channel_preferences": 2,
    "refused_addresses": 1,
    "destinations": 3,
    "plan": 0,
    "user": 0,
}
NOTHING = dict.fromkeys(WHAT, 0)
OFF = {"enabled": False, "digest_only": False, "unsubscribed_at": None}
PERSONAL = ("anna@example.com", "77001", "+31610000001")


def add_person(conn: Connection) -> int:
    """A user of whom everything is kept that can be."""
    email, chat, phone = PERSONAL
    user = add_user(conn, "pro", email=email, telegram=chat, phone=phone)
    add_pref(conn, user)
    add_channel_pref(conn, user, "telegram", digest_only=True)
    add_channel_pref(conn, user, "email", enabled=False)
    db.execute(conn, "UPDATE user_channel_prefs SET unsubscribed_at = %s WHERE NOT enabled", (NOW,))
    add_digest(conn, user, [add_alert(conn), add_alert(conn)])
    for status in ("queued", "sent", "failed", "skipped"):
        add_delivery(conn, user, add_alert(conn), status=status)
    add_delivery(conn, user, add_alert(conn), kind="digest")
    db.execute(
        conn,
        "INSERT INTO user_alert_deliveries (user_id, channel, delivery_kind, status)"
        " VALUES (%s, 'email', 'newsletter', 'queued')",
        (user,),
    )
    db.execute(
        conn,
        "INSERT INTO alerts_refused_addresses SELECT id, 'email',"
        " alerts_address_hash(id, 'email', email), 2, now() FROM users WHERE id = %s",
        (user,),
    )
    return user


@pytest.fixture
def person(conn: Connection) -> int:
    return add_person(conn)


def call(database_url: str, capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    """The answer of the command, which must succeed."""
    environ = {"DATABASE_URL": database_url, "CI": "true", "ALERTS_CLOCK": NOW.isoformat()}
    assert commands.main(["erase-user", *map(str, words)], environ) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def refusal(
    database_url: str, capsys: pytest.CaptureFixture[str], *words: object, code: int = 1
) -> str:
    """What the command says when it does nothing."""
    assert commands.main(["erase-user", *map(str, words)], {"DATABASE_URL": database_url}) == code
    return capsys.readouterr().err


def everything(conn: Connection) -> dict[str, list[str]]:
    """All rows of all tables, as text."""
    tables = query(
        conn,
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        " AND relname NOT LIKE 'alerts_health%%'",
    )
    return {
        row["relname"]: sorted(
            each["text"]
            for each in query(
                conn,
                sql.SQL("SELECT t::text AS text FROM {} AS t").format(
                    sql.Identifier(row["relname"])
                ),
            )
        )
        for row in tables
    }


def check_counts(conn: Connection) -> None:
    """The figures of health and the queue are what the rows say."""
    assert query(conn, "SELECT * FROM alerts_health_differences()") == []
    assert query(conn, "SELECT * FROM alerts_queue_differences()") == []
    assert query(conn, "SELECT * FROM alerts_health_stale") == []


# What goes


@pytest.mark.parametrize("with_user", [False, True])
def test_everything_of_the_user_goes_and_nothing_of_others(
    conn: Connection,
    database_url: str,
    capsys: pytest.CaptureFixture[str],
    person: int,
    with_user: bool,
) -> None:
    add_user(conn, "trader", email="other@example.com")
    words = (person, "--with-user") if with_user else (person,)
    before = everything(conn)
    tried = call(database_url, capsys, *words, "--dry-run")
    assert everything(conn) == before

    answer = call(database_url, capsys, *words)
    gone = {"plan": 1, "user": 1} if with_user else {}
    assert answer["removed"] == {**WHAT, **gone}
    assert answer["channels_switched_off"] == (0 if with_user else len(CHANNELS))
    assert tried == {**answer, "dry_run": True, "action_id": None}
    check_counts(conn)
    after = everything(conn)
    assert not [word for word in PERSONAL if word in str(after)]
    assert [row for row in after["users"] if "other@" in row]
    for table in ("user_alert_deliveries", "user_alert_digests", "alerts_send_queue"):
        assert after[table] == []
    assert after["alerts_digest_waiting"] == after["alerts_refused_addresses"] == []
    if with_user:
        assert len(after["user_plans"]) == 1
        assert after["user_channel_prefs"] == []
    else:
        assert {channel: channel_pref(conn, person, channel) for channel in CHANNELS} == (
            dict.fromkeys(CHANNELS, OFF)
        )
    assert audit(conn) == [
        {
            "action": "erase_user",
            "token_key_id": "cli",
            "parameters": {"user_id": person, "with_user": with_user},
            "result": {
                name: answer[name] for name in ("removed", "channels_switched_off", "also_removed")
            },
        }
    ]


def test_again_there_is_nothing(
    conn: Connection, database_url: str, capsys: pytest.CaptureFixture[str], person: int
) -> None:
    call(database_url, capsys, person)
    before = everything(conn)
    for words in ((person, "--dry-run"), (person,)):
        answer = call(database_url, capsys, *words)
        assert answer["removed"] == NOTHING
        assert answer["channels_switched_off"] == 0
    before.pop("alerts_admin_actions")
    assert {name: rows for name, rows in everything(conn).items() if name in before} == before
    assert call(database_url, capsys, person, "--with-user")["removed"]["user"] == 1
    assert "no user has this id" in refusal(database_url, capsys, person)


def test_unknown_user_is_told(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    wrong: dict[tuple[str, ...], tuple[int, str]] = {
        ("4711",): (1, "no user has this id"),
        ("4711", "--with-user", "--dry-run"): (1, "no user has this id"),
        ("anna@example.com",): (2, "ID takes"),
        ("0",): (2, "ID takes"),
        (): (2, "ID is missing"),
    }
    for words, (code, told) in wrong.items():
        said = refusal(database_url, capsys, *words, code=code)
        assert told in said
        assert "anna" not in said


def test_one_who_was_erased_gets_nothing_any_more(
    conn: Connection, database_url: str, capsys: pytest.CaptureFixture[str], person: int
) -> None:
    """Without preferences there would be a default, which sends."""
    db.execute(conn, "UPDATE alert_events SET fanout_completed_at = created_at")
    call(database_url, capsys, person)
    # Even if addresses come back, by a host that writes them from elsewhere.
    db.execute(conn, "UPDATE users SET email = 'anna@example.com', email_verified = TRUE")
    add_alert(conn)
    channels = all_channels()
    counts = counts_of(run(database_url, channels=channels), "b")
    assert counts["deliveries_created"] == 0
    assert counts["deliveries_skipped_prefs"] == len(CHANNELS)
    assert [channel.sent for channel in channels.values()] == [[], [], []]


# While a run is at it


@pytest.mark.parametrize("source", ["deliveries", "digests"])
def test_message_that_is_being_sent_keeps_everything(
    conn: Connection,
    database_url: str,
    capsys: pytest.CaptureFixture[str],
    person: int,
    source: str,
) -> None:
    queue = query(conn, "SELECT id FROM alerts_send_queue WHERE source = %s", source)
    ids = [row["id"] for row in queue]
    lease(conn, ids, source=source, claimed_until=datetime.now(UTC) + timedelta(minutes=2))
    before = everything(conn)
    for words in ((person,), (person, "--with-user"), (person, "--dry-run")):
        said = refusal(database_url, capsys, *words)
        assert "A run is sending to this user right now: nothing was changed." in said
    assert everything(conn) == before


def test_what_a_lost_run_held_is_let_go(
    conn: Connection, database_url: str, capsys: pytest.CaptureFixture[str], person: int
) -> None:
    mine = query(conn, "SELECT source, id FROM alerts_send_queue ORDER BY source")
    other = add_delivery(conn, add_user(conn), add_alert(conn))
    delivery, digest = (row["id"] for row in mine)
    lapsed = {"claimed_until": datetime.now(UTC) - timedelta(minutes=2)}
    shared = lease(conn, [delivery, other], **lapsed)
    lease(conn, [digest], source="digests", **lapsed)
    assert call(database_url, capsys, person)["removed"] == WHAT
    assert query(conn, "SELECT id, ids FROM alerts_leases") == [{"id": shared, "ids": [other]}]
    check_counts(conn)


def test_run_that_sends_is_not_overtaken(
    conn: Connection, database_url: str, capsys: pytest.CaptureFixture[str], person: int
) -> None:
    """Real runs: the message is with the provider, and gets its outcome."""
    db.execute(conn, "DELETE FROM user_channel_prefs")
    under_way, goes_on = threading.Event(), threading.Event()

    def answer(message: Message) -> str | None:
        under_way.set()
        assert goes_on.wait(20)
        return None

    email = RememberingChannel(answer)
    runs: list[Any] = []
    thread = threading.Thread(
        target=lambda: runs.append(run(database_url, "c", channels=all_channels(email=email)))
    )
    thread.start()
    try:
        assert under_way.wait(20)
        assert "is sending to this user" in refusal(database_url, capsys, person)
    finally:
        goes_on.set()
        thread.join(30)
    assert counts_of(runs[0], "c")["deliveries"]["sent"] == 1
    assert call(database_url, capsys, person)["removed"]["deliveries"] == WHAT["deliveries"]
    check_counts(conn)


def test_claim_that_commits_meanwhile_is_seen(
    conn: Connection, database_url: str, capsys: pytest.CaptureFixture[str], person: int
) -> None:
    """It has taken the row out of the queue, and nobody can see the lease yet."""
    (row,) = query(conn, "SELECT id FROM alerts_send_queue WHERE source = 'deliveries'")
    with closing(psycopg2.connect(database_url)) as claim:
        lease(claim, [row["id"]], claimed_until=datetime.now(UTC) + timedelta(minutes=2))
        said: list[str] = []
        thread = threading.Thread(target=lambda: said.append(refusal(database_url, capsys, person)))
        thread.start()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        wait_until(lambda: value(conn, waiting))
        claim.commit()
        thread.join(30)
    assert "is sending to this user" in said[0]


@pytest.mark.parametrize("letter", ["b", "d"])
def test_phases_that_make_rows_and_erasing_keep_out_of_each_others_way(
    conn: Connection,
    database_url: str,
    capsys: pytest.CaptureFixture[str],
    person: int,
    letter: str,
) -> None:
    number = lock_number(f"alerts_v2_phase_{letter}")
    db.execute(conn, "SELECT pg_advisory_lock(%s)", (number,))
    assert "A run is at work on who gets which alert" in refusal(database_url, capsys, person)
    db.execute(conn, "SELECT pg_advisory_unlock(%s)", (number,))
    with closing(psycopg2.connect(database_url)) as erasing:
        assert erase_with(erasing, person)
        report = run(database_url, letter)
        assert report.record.items[0].error_summary == "lock_not_acquired"
        erasing.commit()


def erase_with(conn: Connection, user: int, **ways: bool) -> dict[str, Any] | None:
    asked: dict[str, Any] = {"with_user": False, "dry_run": False, **ways}
    return erase(conn, user_id=user, now=NOW, token_key_id="cli", **asked)


@pytest.mark.parametrize("with_user", [False, True])
def test_of_two_at_a_time_the_second_finds_nothing(
    conn: Connection,
    database_url: str,
    person: int,
    with_user: bool,
) -> None:
    second: list[Any] = []

    def again() -> None:
        with closing(psycopg2.connect(database_url)) as other:
            second.append(erase_with(other, person, with_user=with_user))
            other.commit()

    with closing(psycopg2.connect(database_url)) as first:
        assert erase_with(first, person, with_user=with_user)
        thread = threading.Thread(target=again)
        thread.start()
        wait_until(
            lambda: value(
                conn, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            )
        )
        first.commit()
        thread.join(30)
    assert second == [None] if with_user else second[0]["removed"] == NOTHING


def test_what_fails_to_be_audited_is_not_done(
    conn: Connection, database_url: str, capsys: pytest.CaptureFixture[str], person: int
) -> None:
    db.execute(conn, "ALTER TABLE alerts_admin_actions ADD CHECK (action <> 'erase_user')")
    before = everything(conn)
    refusal(database_url, capsys, person)
    assert everything(conn) == before


# Tables of the host's own making


def test_address_that_must_be_there_is_replaced_by_one_that_cannot_exist(
    conn: Connection, database_url: str, capsys: pytest.CaptureFixture[str], person: int
) -> None:
    other = add_person(conn)
    db.execute(conn, "ALTER TABLE users ALTER COLUMN email SET NOT NULL")
    for user in (person, other):
        assert call(database_url, capsys, user)["removed"]["destinations"] == 3
        row = query(conn, "SELECT * FROM users WHERE id = %s", user)[0]
        assert (row["email"], row["email_verified"]) == (f"erased-{user}@erased.invalid", False)
    assert call(database_url, capsys, person)["removed"] == NOTHING


REFUSED: dict[str, tuple[str, str, str]] = {
    "number that must be there": (
        "ALTER TABLE users ALTER COLUMN phone_number SET NOT NULL",
        "",
        "users.phone_number does not allow NULL, so it cannot be emptied: nothing was changed. "
        "Use --with-user",
    ),
    "a check of the host's": (
        "ALTER TABLE users ALTER COLUMN email SET NOT NULL;"
        "ALTER TABLE users ADD CONSTRAINT no_tricks CHECK (email NOT LIKE '%.invalid')",
        "",
        "The database does not allow it (table users, constraint no_tricks): nothing was changed.",
    ),
    "rows that refer to the user": (
        "CREATE TABLE invoices (id INT, payer BIGINT REFERENCES users (id));"
        'CREATE TABLE "Odd ""name" (who BIGINT REFERENCES users (id) ON DELETE RESTRICT);'
        "INSERT INTO invoices SELECT n, u.id FROM users AS u, generate_series(1, 2) AS n;"
        'INSERT INTO "Odd ""name" SELECT id FROM users',
        "--with-user",
        'Rows of other tables refer to the user: Odd "name.who (1), invoices.payer (2).',
    ),
    "rows that refer to what goes along": (
        "CREATE TABLE accounts (id INT PRIMARY KEY, owner BIGINT REFERENCES users"
        " ON DELETE CASCADE);"
        "CREATE TABLE bookings (account INT REFERENCES accounts);"
        "INSERT INTO accounts SELECT 1, id FROM users; INSERT INTO bookings VALUES (1)",
        "--with-user",
        "The database does not allow it (table bookings, constraint bookings_account_fkey)",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_stands_against_it_is_named(
    conn: Connection,
    database_url: str,
    capsys: pytest.CaptureFixture[str],
    person: int,
    kind: str,
) -> None:
    made, option, told = REFUSED[kind]
    with conn.cursor() as cursor:
        cursor.execute(made)
    before = everything(conn)
    words = (person, option) if option else (person,)
    for dry in ((), ("--dry-run",)):
        said = refusal(database_url, capsys, *words, *dry)
        assert told in said
        assert not [word for word in PERSONAL if word in said]
    assert everything(conn) == before


def test_rows_that_go_along_are_told(
    conn: Connection, database_url: str, capsys: pytest.CaptureFixture[str], person: int
) -> None:
    db.execute(
        conn,
        "CREATE TABLE logins (owner BIGINT REFERENCES users (id) ON DELETE CASCADE);"
        "CREATE TABLE notes (author BIGINT REFERENCES users (id) ON DELETE SET NULL);"
        "INSERT INTO logins SELECT u.id FROM users AS u, generate_series(1, 3);"
        "INSERT INTO notes SELECT id FROM users",
    )
    for words in ((person, "--with-user", "--dry-run"), (person, "--with-user")):
        assert call(database_url, capsys, *words)["also_removed"] == {"logins": 3}
    assert query(conn, "SELECT * FROM logins") == []
    assert query(conn, "SELECT * FROM notes") == [{"author": None}]


@pytest.fixture
def old_url(empty_database_url: str) -> Iterator[str]:
    with closing(psycopg2.connect(empty_database_url)) as conn, conn, conn.cursor() as cursor:
        cursor.execute(OLD_DEPLOYMENT)
    migrate(empty_database_url)
    yield empty_database_url


@pytest.mark.parametrize("option", [(), ("--with-user",)])
def test_user_of_an_earlier_deployment(
    old_url: str, capsys: pytest.CaptureFixture[str], option: tuple[str, ...]
) -> None:
    tried = call(old_url, capsys, 2, *option, "--dry-run")
    answer = call(old_url, capsys, 2, *option)
    assert answer["removed"] == tried["removed"]
    assert answer["removed"]["deliveries"] > 0
    with closing(psycopg2.connect(old_url)) as conn:
        conn.autocommit = True
        check_counts(conn)
        assert "trader@example.com" not in str(everything(conn))


def test_people_read_a_table(
    database_url: str, capsys: pytest.CaptureFixture[str], person: int
) -> None:
    text = "\n".join(tables.erased(Style(60), call(database_url, capsys, person, "--dry-run")))
    assert f"of user {person} would be removed (dry run: nothing was changed):" in text


def test_refusal_is_an_error_of_its_own(conn: Connection, person: int) -> None:
    db.execute(conn, "ALTER TABLE users ALTER COLUMN phone_number SET NOT NULL")
    db.execute(conn, "BEGIN")
    with pytest.raises(EraseRefused):
        erase_with(conn, person)
    db.execute(conn, "ROLLBACK")
