"""Replays of the sample: what history gives, day by day, and that it gives it once.

The expected tables are what ``scripts/replay --from DATE --to DATE`` prints on a fresh database.
A change of the engine that changes them has to be one that was meant.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from scripts.sample import load, replay

SCRIPT = Path(replay.__file__)
EXPECTED = Path(__file__).parents[1] / "expected"
ENGINE_TABLES = (
    *("alert_events", "user_alert_deliveries"),
    *("user_alert_digests", "user_alert_digest_items"),
)
INVASION = (date(2022, 2, 20), date(2022, 3, 12))
SPRING_2026 = (date(2026, 3, 1), date(2026, 4, 10))


def replay_lines(database_url: str, outbox: Path, days: tuple[date, date]) -> list[str]:
    settings = replay.replay_settings({"ALERTS_OUTBOX_DIR": str(outbox)}, database_url)
    lines: list[str] = []
    replay.replay(settings, *days, lines.append)
    return lines


def expected_lines(days: tuple[date, date]) -> list[str]:
    name = f"replay_{days[0]}_{days[1]}.txt"
    return (EXPECTED / name).read_text(encoding="ascii").splitlines()


def engine_rows(conn: Connection) -> dict[str, tuple[int, str]]:
    """How many rows each engine table has, and a hash of all that is in them."""
    found = {}
    with conn.cursor() as cursor:
        for table in ENGINE_TABLES:
            cursor.execute(
                f"SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} AS t"
            )
            found[table] = cursor.fetchone()
    return found


def value(conn: Connection, query: str) -> object:
    with conn.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()[0]


def run_script(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environ},
    )


def test_the_weeks_of_the_invasion_come_out_as_stored_and_only_once(
    database_url: str, conn: Connection, tmp_path: Path
) -> None:
    load.load_sample(conn)
    assert replay_lines(database_url, tmp_path, INVASION) == expected_lines(INVASION)
    rows, files = engine_rows(conn), sorted(tmp_path.rglob("*"))
    again = replay_lines(database_url, tmp_path, INVASION)
    assert [line.split()[1:] for line in again[1:]] == [["0"] * len(replay.COLUMNS)] * 22
    assert engine_rows(conn) == rows
    assert sorted(tmp_path.rglob("*")) == files
    assert value(conn, "SELECT count(*) FROM alerts_engine_runs WHERE status = 'success'") == 84


def test_the_spring_of_2026_comes_out_as_stored(
    database_url: str, conn: Connection, tmp_path: Path
) -> None:
    load.load_sample(conn)
    assert replay_lines(database_url, tmp_path, SPRING_2026) == expected_lines(SPRING_2026)


def test_every_plan_gets_what_it_is_entitled_to(
    database_url: str, conn: Connection, tmp_path: Path
) -> None:
    load.load_sample(conn)
    replay_lines(database_url, tmp_path, (date(2022, 2, 22), date(2022, 3, 2)))
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT plan, array_agg(DISTINCT alert_type), array_agg(DISTINCT channel) "
            "FROM user_alert_deliveries AS d "
            "JOIN alert_events AS e ON e.id = d.alert_event_id "
            "JOIN user_plans AS p ON p.user_id = d.user_id "
            "GROUP BY plan"
        )
        found = {plan: (set(types), set(channels)) for plan, types, channels in cursor}
    event, region, asset = "HIGH_IMPACT_EVENT", "REGIONAL_RISK_SPIKE", "ASSET_RISK_SPIKE"
    in_app, everything = {"account", "email"}, {"account", "email", "telegram", "sms"}
    assert found == {
        "free": ({event}, in_app),
        "legacy-gold": ({event}, in_app),
        "personal": ({event, region}, in_app),
        "trader": ({event, region, asset}, in_app | {"telegram"}),
        "pro": ({event, region, asset}, everything),
        "enterprise": ({event, region, asset}, everything),
    }


def test_a_caller_set_up_for_production_changes_nothing_and_sends_nothing(
    empty_database_url: str, tmp_path: Path
) -> None:
    done = run_script(
        *("--from", "2022-02-24", "--to", "2022-02-25"),
        DATABASE_URL=empty_database_url,
        ALERTS_OUTBOX_DIR=str(tmp_path),
        # Every one of these would show: another provider, nobody to send to, another time.
        EMAIL_PROVIDER="brevo",
        BREVO_API_KEY="key",
        BREVO_API_BASE="http://127.0.0.1:1",
        TELEGRAM_BOT_TOKEN="1:token",
        TELEGRAM_API_BASE="http://127.0.0.1:1",
        TWILIO_ACCOUNT_SID="AC1",
        ALERTS_SEND_ALLOWLIST_USER_IDS="999999",
        ALERTS_MAX_SEND_PER_RUN="1",
        ALERTS_CLOCK="2030-01-01T00:00:00Z",
        ALERTS_V2_ENABLED="false",
        ALERTS_TIMEZONE="Pacific/Kiritimati",
    )
    assert done.returncode == 0, done.stderr
    header, *days, total = done.stdout.splitlines()
    assert header.split() == ["date", *replay.COLUMNS]
    assert [line.split()[0] for line in days] == ["2022-02-24", "2022-02-25"]
    sums = dict(zip(replay.COLUMNS, map(int, total.split()[1:]), strict=True))
    assert sums["events"] == 1
    assert sums["failed"] == 0
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == sums["sent"] > 0


def test_a_run_that_fails_ends_the_replay(database_url: str, conn: Connection) -> None:
    load.load_sample(conn)
    with conn.cursor() as cursor:
        cursor.execute("ALTER TABLE alert_events RENAME TO lost")
    done = run_script("--from", "2022-02-24", "--to", "2022-02-25", DATABASE_URL=database_url)
    assert done.returncode == 1
    assert done.stdout.count("\n") == 1
    assert "error: the run of 2022-02-24T06:00:00+00:00" in done.stderr
    assert value(conn, "SELECT count(*) FROM alerts_engine_runs WHERE status = 'failed'") == 1


def test_a_signal_ends_the_replay_with_its_run(
    database_url: str, conn: Connection, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), "--from", "2015-01-01", "--to", "2025-12-31"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "DATABASE_URL": database_url, "ALERTS_OUTBOX_DIR": str(tmp_path)},
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(2)]  # the head and the first day
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert lines[1].startswith("2015-01-01")
    assert process.returncode == 1
    assert "error: the run of 2015-01-" in errors
    assert value(conn, "SELECT count(*) FROM alerts_engine_runs WHERE status = 'running'") == 0


def test_a_database_with_real_users_is_refused(database_url: str, conn: Connection) -> None:
    with conn.cursor() as cursor:
        cursor.execute("INSERT INTO users (email) VALUES ('someone@energyriskiq.com')")
    done = run_script("--from", "2022-02-24", "--to", "2022-02-24", DATABASE_URL=database_url)
    assert (done.returncode, done.stdout) == (1, "")
    assert "never mixed with real users" in done.stderr
    assert value(conn, "SELECT count(*) FROM alerts_engine_runs") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "2022-02-24"], "--to"),
        (["--from", "24-02-2022", "--to", "2022-02-24"], "'24-02-2022' is not a date"),
        (["--from", "2022-02-25", "--to", "2022-02-24"], "is before"),
    ],
)
def test_wrong_days_are_a_usage_error(arguments: list[str], message: str) -> None:
    done = run_script(*arguments, DATABASE_URL="postgresql://127.0.0.1:1/nowhere")
    assert done.returncode == 2
    assert message in done.stderr


def test_a_database_that_is_down_is_said_without_its_password() -> None:
    done = run_script(
        *("--from", "2022-02-24", "--to", "2022-02-24"),
        DATABASE_URL="postgresql://someone:geheim@127.0.0.1:1/nowhere",
    )
    assert done.returncode == 1
    assert "geheim" not in done.stderr
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect("postgresql://someone:geheim@127.0.0.1:1/nowhere")
