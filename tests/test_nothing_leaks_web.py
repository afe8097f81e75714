"""No secret and no person in an answer or a log of the web app, whatever is asked or goes wrong."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.leaving.links import PATH as UNSUBSCRIBE
from app.ops.session import COOKIE
from tests.support import CHECKOUT
from tests.support.canaries import (
    ADMIN_TOKEN,
    CHAT,
    DATABASE_PASSWORD,
    EMAIL,
    HEADLINE,
    PERSONAL,
    PHONE,
    SECRETS,
    assert_clean,
    encodings,
)
from tests.support.gunicorn import command, free_port, serving
from tests.support.leaks import assert_tables_clean, canary_environ, canary_world, with_password
from tests.support.providers import BOT_TOKEN
from tests.support.web import PREFIX, ROUTES, WITHOUT_DATABASE
from tests.support.wire import ask, sign_in
from tests.support.world import query
from tests.test_nothing_leaks_database import ATTACKS, BAD_VALUES, OF_CHANNELS, attack

# Of the pages each that reads a table of its own; then every route for programs.
PATHS = [("GET", path) for path in ("/ops", "/ops/messages/1", "/ops/retry", "/ops/setup")] + ROUTES


def environ() -> dict[str, str]:
    return canary_environ()


def test_odd_requests(conn: Connection, database_url: str, tmp_path: Path) -> None:
    canary_world(conn)
    asked = [
        "ODD",
        *[
            form
            for canary in (EMAIL, PHONE, CHAT, HEADLINE, BOT_TOKEN, DATABASE_PASSWORD)
            for form in (quote(canary, safe=""), base64.urlsafe_b64encode(canary.encode()).decode())
        ],
    ]
    with serving(with_password(database_url), tmp_path / "log", **environ()) as served:
        cookie = sign_in(served)
        for value in asked:
            for path in (
                f"/badge/{value}.svg",
                f"{UNSUBSCRIBE}{value}",
                f"{UNSUBSCRIBE}email-1-{value}/undo",
                f"/ops/login?wanted=/ops/{value}",
                f"/ops/messages/{value}",
                f"/ops/explain?event_id={value}&user_id={value}",
                f"/ops/retry?include={value}",
                f"/ops/{value}",
                f"{PREFIX}/runs/{value}",
                f"{PREFIX}/runs?before={value}",
                f"{PREFIX}/runs?limit={value}",
                f"{PREFIX}/runs?status={value}",
                f"{PREFIX}/runs?odd={value}",
                f"{PREFIX}/retry_failed?kind={value}",
                f"{PREFIX}/retry_failed?kind=digests&include={value}",
                f"/{value}",
                f"/alerts/events/latest?limit={value}",
                f"/healthz?{value}",
            ):
                answer = ask(served, path, Cookie=cookie)
                assert answer.startswith("HTTP/1.1 "), path
                assert_clean(f"the answer to {path}", answer)
            for answer in (
                ask(served, f"{PREFIX}/runs", token=value),
                ask(served, f"{PREFIX}/runs", token="", Authorization=f"Bearer {value}"),
                ask(served, f"{PREFIX}/runs", token="", Cookie=value, Referer=value),
                ask(served, "/ops", token="", Cookie=f"{COOKIE}={value}", Referer=value),
                ask(served, "/ops/login", "POST", token="", body=f"token=x{value}"),
            ):
                assert answer.startswith("HTTP/1.1 401 ") or value == ADMIN_TOKEN
                assert_clean("a refusal", answer)
        # What is no HTTP at all, the token in it.
        ask(served, "/healthz", X_Odd=f"{BOT_TOKEN}\0{EMAIL}")
        ask(served, f"/{EMAIL} {BOT_TOKEN}")
        ask(served, "/healthz", method=ADMIN_TOKEN)
        ask(served, "/healthz", **{f"{ADMIN_TOKEN} {EMAIL}": "1"})
        served.wait_for_log("GET /healthz")
    assert_clean("the log", served.log.read_text(), (*SECRETS, *PERSONAL))
    assert_tables_clean(conn)


@pytest.mark.parametrize("kind", ["raised", "raised_as_denied", "integer", "unique"])
def test_database_errors_that_quote_rows(
    conn: Connection, database_url: str, tmp_path: Path, kind: str
) -> None:
    canary_world(conn)
    attack(conn, ATTACKS[kind], [("alerts_admin_actions", "INSERT")])
    # Reads fail as well: a view in the table's place calls the same function.
    db.execute(
        conn,
        "CREATE FUNCTION attack_value() RETURNS bigint LANGUAGE plpgsql AS $$"
        f" DECLARE said text := (SELECT v.said FROM attack_values AS v LIMIT 1);"
        f" BEGIN {ATTACKS[kind]}; RETURN 1; END $$;"
        "ALTER TABLE alerts_engine_runs RENAME TO runs_before;"
        "CREATE VIEW alerts_engine_runs AS SELECT * FROM runs_before"
        " UNION ALL SELECT (r).* FROM (SELECT jsonb_populate_record(NULL::runs_before,"
        " jsonb_build_object('id', attack_value())) AS r) AS made",
    )
    with serving(with_password(database_url), tmp_path / "log", **environ()) as served:
        cookie = sign_in(served)
        answers = [ask(served, path, method, Cookie=cookie) for method, path in PATHS]
        assert sum(" 500 " in answer.splitlines()[0] for answer in answers) >= 3, answers
        for (_, path), answer in zip(PATHS, answers, strict=True):
            latest = ("Zanzibar",) if path == "/alerts/events/latest" else ()
            canaries = [c for c in (*SECRETS, *PERSONAL) if not (latest and c in PUBLIC)]
            assert_clean(path, answer, canaries)
    assert_clean("the log", served.log.read_text())
    assert query(conn, "SELECT 1 FROM attack_values")


PUBLIC = PERSONAL[3:]  # the texts of global alerts are for everyone


def test_a_database_that_cannot_be_reached(tmp_path: Path) -> None:
    address = f"postgresql://joe:{quote(DATABASE_PASSWORD, safe='')}@127.0.0.1:9/x"
    with serving(address, tmp_path / "log", **environ()) as served:
        cookie = sign_in(served)
        for method, path in PATHS:
            answer = ask(served, path, method, Cookie=cookie)
            without = (method, path) in WITHOUT_DATABASE
            assert answer.split()[1] == ("200" if without else "503"), answer
            assert_clean(path, answer)
    assert_clean("the log", served.log.read_text())


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://joe:{quote(DATABASE_PASSWORD, safe='')}@127.0.0.1:9/x?nothing={EMAIL}",
        f"postgresql://joe:{DATABASE_PASSWORD}@127.0.0.1:9/x",
        DATABASE_PASSWORD,
    ],
)
def test_an_address_that_is_none(url: str) -> None:
    done = subprocess.run(
        command(free_port()),
        cwd=CHECKOUT,
        env={"PATH": os.environ["PATH"], **canary_environ(), "DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 1, output
    assert "error: DATABASE_URL " in output
    assert_clean("gunicorn's output", output)


def test_a_configuration_that_does_not_parse() -> None:
    bad = {
        name: value
        for variables in reversed(BAD_VALUES)  # of several of a variable the first
        if not set(variables) <= OF_CHANNELS
        for name, value in variables.items()
    }
    done = subprocess.run(
        command(free_port()),
        cwd=CHECKOUT,
        env={
            "PATH": os.environ["PATH"],
            "DATABASE_URL": f"postgresql://joe:{quote(DATABASE_PASSWORD)}@127.0.0.1:9/x",
            **canary_environ(),
            **bad,
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 1, output
    assert all(name in output for name in bad), output
    assert_clean("gunicorn's output", output)


def test_a_bug_in_the_app(database_url: str, tmp_path: Path) -> None:
    program = f"""
import sys
import alerts.questions as module
def fail(*args, **kwargs):
    raise RuntimeError({encodings((*SECRETS[1:], EMAIL))!r}, args)
module.get_health = fail
from alerts.settings.config import Settings
import os
from app import create_app
client = create_app(Settings.from_env(os.environ)).test_client()
answer = client.get({f"{PREFIX}/health"!r}, headers={{"x-internal-token": {ADMIN_TOKEN!r}}})
print(answer.status_code, answer.get_data(as_text=True))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(CHECKOUT),
            "DATABASE_URL": with_password(database_url),
            **canary_environ(),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.startswith("500 "), done.stderr
    assert "RuntimeError" in done.stderr
    assert_clean("the answer", done.stdout)
    assert_clean("the log", done.stderr)
