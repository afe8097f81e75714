"""Bytes that are not UTF-8 reach a program as halves of characters; nothing falls over them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from psycopg2.extensions import connection as Connection

from alerts.channels import SECRET_NAMES
from alerts.preflight import preflight
from alerts.redaction import redactor_for
from alerts.settings.config import ConfigError, Settings
from tests.support.environ import variables_read
from tests.support.prefork import run_module
from tests.support.run_world import Runner, last_run
from tests.support.world import run

RAW = b"canary\xff\xfe\xe9canary"
TEXT = os.fsdecode(RAW)
# Compared as bytes, or GitHub's own words, which never stop a run, or a path.
TAKEN = {"INTERNAL_RUNNER_TOKEN", "INTERNAL_READ_TOKEN"}
NAMES = sorted(name for name in variables_read() if not name.startswith("GITHUB_"))
GITHUB = sorted(name for name in variables_read() if name.startswith("GITHUB_"))


def problems(environ: dict[str, str]) -> list[str]:
    try:
        channels = Settings.from_env(environ).channels
        return [problem.message for problem in (*channels.problems, *channels.unused)]
    except ConfigError as error:
        return [problem.message for problem in error.problems]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in TAKEN])
def test_the_variable_is_named_and_its_value_is_not(name: str) -> None:
    told = f"{name} holds bytes that are not UTF-8; it takes UTF-8"
    assert told in problems({name: TEXT})
    report = json.dumps(preflight({name: TEXT}).as_json())
    assert "canary" not in report
    assert told in report


@pytest.mark.parametrize("name", sorted(TAKEN))
def test_a_token_may_be_any_bytes(name: str) -> None:
    settings = Settings.from_env({name: TEXT})
    assert problems({name: TEXT}) == []
    assert "canary" not in redactor_for(settings).scrub(f"it was {TEXT} again")
    assert "canary" not in redactor_for(settings).scrub(f"it was {TEXT!r} again")


@pytest.mark.parametrize("name", GITHUB)
def test_what_github_says_never_stops_a_run(
    conn: Connection, database_url: str, name: str, tmp_path: Path
) -> None:
    said = {
        "GITHUB_ACTIONS": "true", "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_REPOSITORY": "o/r", "GITHUB_RUN_ID": "1", "GITHUB_SHA": "a",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
    }  # fmt: skip
    value = str(tmp_path / TEXT) if name == "GITHUB_STEP_SUMMARY" else TEXT
    assert run(database_url, "a", environ={**said, name: value}).recorded
    assert Runner(database_url, tmp_path)("--phase", "a", **{**said, name: value}).returncode == 0
    assert last_run(conn)["status"] == "success"


@pytest.mark.parametrize("name", ["DATABASE_URL", *sorted(SECRET_NAMES), *sorted(TAKEN)])
def test_no_program_ends_in_a_traceback_or_shows_a_secret(name: str, tmp_path: Path) -> None:
    for arguments in (["alerts.runner", "--phase", "a"], ["alerts", "preflight", "--json"],
                      ["alerts", "health"]):  # fmt: skip
        environ = {"PATH": os.environ["PATH"], name: TEXT}
        done = run_module(arguments[0], arguments[1:], tmp_path, environ)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert "canary" not in done.stdout + done.stderr


@pytest.mark.parametrize("argument", [b"\xff", b"\xe9t\xe9", b"a\xed\xa0\x80"])
def test_nor_does_an_argument(database_url: str, argument: bytes, tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "DATABASE_URL": database_url}
    for command in (
        ["run"], ["delivery"], ["runs", "--before"], ["deliveries", "--since"],
        ["pause", "--reason"], ["pause"], ["replay-spool"], ["runs", "--status"],
    ):  # fmt: skip
        done = run_module("alerts", [*command, os.fsdecode(argument)], tmp_path, environ)
        assert done.returncode in (0, 1, 2)
        assert "Traceback" not in done.stderr
