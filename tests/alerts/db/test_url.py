"""DATABASE_URL as people paste it: every program says what is wrong, never the value."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg2.extensions import parse_dsn

from alerts.db import problem_of_url
from alerts.db.url import options_of
from alerts.settings.config import ConfigError, Settings
from tests.support import CHECKOUT
from tests.support.prefork import run_module

GOOD = [
    "postgresql://user:hush@host:5432/name",
    "postgres://user:hush@host/name?sslmode=require",
    "postgresql://user:p%40ss%25%2F%3A@host/name",
    "postgresql://user:p#s?s!w;rd@host/name",
    "postgresql://user@h1:5432,h2:5433/name?target_session_attrs=read-write&connect_timeout=30",
    "postgresql:///name?host=/var/run/postgresql&port=5433",
    "postgresql://user:hush@[::1]:5432/name",
    "postgresql://host/name?ssl=true&options=-c%20search_path%3Dapp",
    "postgresql://host/name?application_name=mine&keepalives_idle=5&tcp_user_timeout=0",
    "host=localhost dbname=name user=user password='hush hush'",
]
BAD = [
    ('"postgresql://user:hush@host/name"', "quotation marks"),
    ("'postgresql://user:hush@host/name'", "quotation marks"),
    ("“postgresql://user:hush@host/name”", "quotation marks"),
    ("postgresql://user:hush@host/name'", "quotation marks"),
    ("`postgresql://user:hush@host/name`", "quotation marks"),
    ("psql 'postgresql://user:hush@host/name?sslmode=require'", "psql command"),
    ("psql -h host -U user hush", "psql command"),
    ("DATABASE_URL=postgresql://user:hush@host/name", "the variable's name"),
    ("export DATABASE_URL='postgresql://user:hush@host/name'", "the variable's name"),
    ("jdbc:postgresql://host/name?user=user&password=hush", "Java"),
    ("postgresql+psycopg2://user:hush@host/name", "Python driver"),
    ("postgres+asyncpg://user:hush@host/name", "Python driver"),
    ("prisma+postgres://accelerate.example/?api_key=hush", "Prisma"),
    ("https://hush.supabase.co", "web address"),
    ("mysql://user:hush@host/name", "another kind of database"),
    ("sqlite:///hush.db", "another kind of database"),
    ("$DATABASE_URL", "an unexpanded variable"),
    ("${{ secrets.DATABASE_URL }}", "an unexpanded variable"),
    ("postgresql://user:[YOUR-PASSWORD]@host/name", "placeholder"),
    ("postgresql://user:<password>@host/name", "placeholder"),
    ("postgresql://user:hush@host/name?pgbouncer=true", "does not know: pgbouncer;"),
    ("postgresql://user:hush@host/name?schema=x&sslmode=require&pool=0", "schema, pool;"),
    ("postgresql://user:hush@host/name?hush%20hush=1", "(not shown)"),
    ("postgresql://user:hush@host/name?sslmode=no-verify", "invalid sslmode"),
    ("postgresql://user:hush@host/name?target_session_attrs=master", "invalid target_session"),
    ("postgresql://user:hush@host/name?connect_timeout=10s", "invalid connect_timeout"),
    ("postgresql://user:hu@sh@host/name", "%40 for @"),
    ("postgresql://user:hu/sh@host/name", "%2F for /"),
    ("postgresql://user:hush@host:port/name", "the port as a number"),
    ("postgresql://user:100%hush@host/name", "%25"),
    ("postgresql://user:hush%80@host/name", "%25"),
    ("postgresql://user:hush@host/name?options=-csearch_path=app", "%3D"),
    ("postgresql://user:hu sh@host/name", "white space"),
    ("postgresql://user:hush@ho\nst/name", "white space"),
    ("hush", "is not the address"),
    ("postgresql://user:hush@[::1", "cannot be read"),
]  # fmt: skip


@pytest.mark.parametrize("url", GOOD)
def test_an_address_that_libpq_takes_is_taken(url: str) -> None:
    assert problem_of_url(url) is None
    assert Settings.from_env({"DATABASE_URL": url}).database_url is not None


@pytest.mark.parametrize(("url", "told"), BAD)
def test_what_is_wrong_is_said_without_the_value(url: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.from_env({"DATABASE_URL": url})
    message = str(caught.value)
    assert message.startswith("DATABASE_URL ")
    assert told in message
    assert "hush" not in message


@example(password="%80hushhushhush")
@given(password=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=12))
def test_a_password_put_in_raw_connects_as_it_is_or_is_refused_without_being_shown(
    password: str,
) -> None:
    url = f"postgresql://user:{password}@host/name"
    problem = problem_of_url(url)
    if problem is None:
        parts = parse_dsn(url)
        # A % with two hexadecimal digits means another sign; nobody can tell which was meant.
        assert parts["host"] == "host" and ("%" in password or parts["password"] == password)
    else:
        assert password not in problem


@given(st.text())
def test_no_text_whatever_breaks_the_check(text: str) -> None:
    if text.strip():
        problem_of_url(text.strip())


@pytest.mark.parametrize(
    "command",
    [
        ["-m", "alerts.runner", "--phase", "all"],
        ["-m", "alerts", "preflight"],
        ["-m", "alerts", "health"],
        ["scripts/migrate.py"],
        ["scripts/sample/load.py"],
        ["-m", "gunicorn", "app:create_app()"],
    ],
    ids=lambda command: " ".join(command[-2:]),
)
def test_every_program_says_it_at_start(command: list[str], tmp_path: Path) -> None:
    environ = {
        "DATABASE_URL": "postgresql+psycopg2://user:hush@host/name",
        "ALERTS_RUN_SPOOL": str(tmp_path / "spool"),
        "PATH": "/usr/bin:/bin",
    }
    if command[0] == "-m" and command[1].startswith("alerts"):
        done = run_module(command[1], command[2:], tmp_path, environ)
    else:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=CHECKOUT,
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    told = done.stdout + done.stderr
    assert done.returncode != 0
    assert "DATABASE_URL names a Python driver" in told
    assert "hush" not in told
    assert "Traceback" not in told


def test_settings_of_the_address_are_found_however_they_are_written() -> None:
    url = "postgresql://h/d?options=-c%20Search_Path%3Dapp%20-cwork_mem%3D4MB%20--lock-timeout%3D5s"
    assert options_of(url) == {"search_path", "work_mem", "lock_timeout"}
    assert options_of("postgresql://h/d") == set()
