"""Loading the sample: whole, once, and never beside real users."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from scripts.sample import files, load, tables
from scripts.sample.load import SampleRefused
from scripts.sample.users import PLANS, SampleUser, sample_users

SCRIPT = Path(load.__file__)
TABLES = (
    *("users", "user_plans", "user_alert_prefs", "user_channel_prefs"),
    *("events", "risk_events", "asset_risk", "risk_indices"),
)


@pytest.fixture
def few_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the scores of 2022, so that loading costs next to nothing."""
    assets, regions = files.asset_scores(), files.region_scores()
    monkeypatch.setattr(
        files,
        "asset_scores",
        lambda: {k: [s for s in v if s.day.year == 2022] for k, v in assets.items()},
    )
    monkeypatch.setattr(
        files,
        "region_scores",
        lambda: {k: [s for s in v if s.day.year == 2022] for k, v in regions.items()},
    )


def fingerprints(conn: Connection) -> dict[str, str]:
    """A hash of every row of every table, so that any change shows."""
    found = {}
    with conn.cursor() as cursor:
        for table in TABLES:
            cursor.execute(
                f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} AS t"
            )
            found[table] = cursor.fetchone()[0]
    return found


def value(conn: Connection, query: str) -> object:
    with conn.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()[0]


def run_script(database_url: str | None) -> subprocess.CompletedProcess[str]:
    environ = {name: os.environ[name] for name in os.environ if name != "DATABASE_URL"}
    if database_url:
        environ["DATABASE_URL"] = database_url
    return subprocess.run(
        [sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False, env=environ
    )


def test_the_whole_history_is_loaded_and_a_second_time_adds_nothing(
    database_url: str, conn: Connection
) -> None:
    first = run_script(database_url)
    assert (first.returncode, first.stdout) == (0, ""), first.stderr
    assert "sample: asset_risk: 36378 added" in first.stderr
    assert "sample: risk_indices: 24824 added" in first.stderr
    before = fingerprints(conn)
    second = run_script(database_url)
    assert second.returncode == 0, second.stderr
    assert second.stderr.count(": 0 added") == 5
    assert fingerprints(conn) == before


def test_what_a_loaded_database_has_is_told_without_working_out_the_scores(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    load.load_sample(conn)

    def too_late() -> None:
        raise AssertionError("the scores were worked out again")

    monkeypatch.setattr(files, "asset_scores", too_late)
    monkeypatch.setattr(files, "region_scores", too_late)
    assert set(load.load_sample(conn).values()) == {0}


@pytest.mark.usefixtures("few_scores")
def test_rows_that_were_lost_are_put_back_and_others_left_alone(conn: Connection) -> None:
    load.load_sample(conn)
    with conn.cursor() as cursor:
        cursor.execute("DELETE FROM asset_risk WHERE calculated_at < '2022-02-01'")
        lost = cursor.rowcount
        cursor.execute("DELETE FROM events WHERE region = 'Europe'")
        lost_events = cursor.rowcount
        cursor.execute("UPDATE users SET telegram_chat_id = '42' WHERE email LIKE 'free01@%'")
    assert load.load_sample(conn) == {
        "users": 0,
        "events": lost_events,
        "risk_events": lost_events,
        "asset_risk": lost,
        "risk_indices": 0,
    }
    assert value(conn, "SELECT count(*) FROM users WHERE telegram_chat_id = '42'") == 1


@pytest.mark.usefixtures("few_scores")
def test_rows_carry_the_documented_times_and_scores(conn: Connection) -> None:
    load.load_sample(conn)
    query = (
        "SELECT string_agg(concat_ws(' ', risk_score, direction, window_days), ', ') "
        "FROM asset_risk WHERE asset = 'oil' AND region = 'Global' "
        "AND calculated_at = '2022-03-08 21:30+00'"
    )
    assert value(conn, query) == "91.53 up 7"
    query = (
        "SELECT string_agg(concat_ws(' ', e.inserted_at AT TIME ZONE 'UTC', e.event_time "
        "AT TIME ZONE 'UTC', r.weighted_score, r.base_severity, r.region), ', ') "
        "FROM events AS e JOIN risk_events AS r ON r.event_id = e.id "
        "WHERE e.source_url = 'timeline:2022-02-24-invasion-of-ukraine'"
    )
    assert value(conn, query) == "2022-02-24 05:00:00 2022-02-24 00:00:00 4 5 Black Sea"
    assert value(conn, "SELECT count(DISTINCT trend) FROM risk_indices") == 3
    assert value(conn, "SELECT count(DISTINCT direction) FROM asset_risk") == 3


@pytest.mark.usefixtures("few_scores")
def test_users_are_numbered_in_their_order_with_all_their_rows(conn: Connection) -> None:
    load.load_sample(conn)
    users = sample_users()
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT email, email_verified, telegram_chat_id, phone_number, plan "
            "FROM users LEFT JOIN user_plans ON user_id = users.id ORDER BY users.id"
        )
        assert cursor.fetchall() == [
            (u.email, u.email_verified, u.telegram_chat_id, u.phone_number, u.plan) for u in users
        ]
    assert value(conn, "SELECT count(*) FROM user_alert_prefs") == sum(
        len(user.preferences) for user in users
    )
    assert value(conn, "SELECT count(*) FROM user_channel_prefs") == sum(
        len(user.channel_preferences) for user in users
    )


@pytest.mark.parametrize(
    "columns",
    [
        {"email": "someone@energyriskiq.com"},
        {"email": "someone@example.com.evil.org"},
        {"telegram_chat_id": "123456789"},
        {"phone_number": "+31612345678"},
    ],
)
def test_a_database_with_other_users_is_refused_and_not_touched(
    database_url: str, conn: Connection, columns: dict[str, str]
) -> None:
    ((column, address),) = columns.items()
    with conn.cursor() as cursor:
        cursor.execute(f"INSERT INTO users ({column}) VALUES (%s)", (address,))
    before = fingerprints(conn)
    done = run_script(database_url)
    assert done.returncode == 1
    assert "users contains 1 user whose" in done.stderr
    assert address not in done.stderr
    assert fingerprints(conn) == before
    with pytest.raises(SampleRefused):
        load.load_sample(conn)


@pytest.mark.usefixtures("few_scores")
def test_a_failure_half_way_leaves_nothing_behind(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Connection) -> int:
        raise RuntimeError("half way")

    before = fingerprints(conn)
    monkeypatch.setattr(tables, "LOADERS", (*tables.LOADERS[:4], ("last", fail)))
    with pytest.raises(RuntimeError):
        load.load_sample(conn)
    assert fingerprints(conn) == before


def test_what_is_missing_is_named(empty_database_url: str) -> None:
    without_address = run_script(None)
    assert without_address.returncode == 1
    assert "DATABASE_URL is not set" in without_address.stderr
    without_tables = run_script(empty_database_url)
    assert without_tables.returncode == 1
    assert "run scripts/migrate.py first" in without_tables.stderr
    parts = psycopg2.extensions.parse_dsn(empty_database_url)
    no_server = run_script(f"postgresql://someone:geheim@{parts['host']}:1/nowhere")
    assert no_server.returncode == 1
    assert "does not answer" in no_server.stderr
    assert "geheim" not in no_server.stderr


def test_every_plan_meets_every_mix_of_addresses() -> None:
    def mix(user: SampleUser) -> tuple[bool, bool, bool]:
        return (bool(user.email), bool(user.telegram_chat_id), bool(user.phone_number))

    for plan in PLANS:
        users = [user for user in sample_users() if user.plan == plan]
        assert len({mix(user) for user in users}) == 8
        assert {user.email_verified for user in users if user.email} == {True, False}
    assert Counter(user.plan for user in sample_users()) == {
        **dict.fromkeys(PLANS, 12),
        None: 1,
        "legacy-gold": 1,
    }


def test_nobody_real_can_be_reached() -> None:
    users = sample_users()
    assert all(user.email.endswith("@example.com") for user in users if user.email)
    phones = [user.phone_number for user in users if user.phone_number]
    assert all(phone.startswith("+120255501") and len(phone) == 12 for phone in phones)
    chats = [int(user.telegram_chat_id) for user in users if user.telegram_chat_id]
    assert all(chat >= 2**52 for chat in chats)  # longer than an id can be
    for addresses in (phones, chats, [user.email for user in users if user.email]):
        assert len(addresses) == len(set(addresses))
