"""The table of commands: each with its own options, the endpoint's, and help that fits a screen."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from alerts import db, runner
from alerts.cli import commands
from alerts.cli.commands import COMMANDS, GROUP
from alerts.cli.text import width_of
from alerts.readers import LARGEST_ID
from tests.support.prefork import run_module
from tests.support.web import ADMIN, PREFIX, Admin, app_for
from tests.support.world import NOW, add_alert, add_delivery, add_user, query

# What a terminal shows at once.
LINES, COLUMNS = 24, 80
ENDPOINTS = {
    "health": ("GET", "/health"),
    "runs": ("GET", "/runs"),
    "run": ("GET", "/runs/7"),
    "deliveries": ("GET", "/deliveries"),
    "delivery": ("GET", "/deliveries/7"),
    "digests": ("GET", "/digests"),
    "digest": ("GET", "/digests/7"),
    "explain": ("GET", "/explain"),
    "actions": ("GET", "/actions"),
    "retry-failed": ("POST", "/retry_failed"),
    "pause": ("POST", "/pause"),
    "resume": ("POST", "/resume"),
    "test-message": ("POST", "/test_message"),
}
WITHOUT_ENDPOINT = {
    "preflight",
    "check-deployment",
    "prune",
    "erase-user",
    "rebuild",
    "replay-spool",
}
NAMES = [command.name for command in COMMANDS]


def parameters_of(name: str) -> list[str]:
    """What the command takes, by the names of the query string."""
    own = [str(p.name) for p in GROUP.commands[name].params]
    return [each for each in own if each not in ("json", "help")]


# -- the endpoint and its command ------------------------------------------------------------


def test_every_command_is_an_endpoint_or_known_to_be_none() -> None:
    assert set(ENDPOINTS) | WITHOUT_ENDPOINT == set(NAMES)
    assert len(set(NAMES)) == len(NAMES)


def test_every_admin_endpoint_has_a_command(database_url: str) -> None:
    rules = {
        rule.rule.removeprefix(PREFIX).replace("<id>", "7")
        for rule in app_for(database_url).url_map.iter_rules()
        if rule.rule.startswith(PREFIX)
    }
    assert rules == {path for _, path in ENDPOINTS.values()}


@pytest.mark.parametrize("name", ENDPOINTS)
def test_a_command_takes_what_its_endpoint_takes(database_url: str, name: str) -> None:
    method, path = ENDPOINTS[name]
    client = app_for(database_url).test_client()
    answer = client.open(f"{PREFIX}{path}?no_such=1", method=method, headers=ADMIN)
    known = re.search(r"known: (.*)\.$", answer.get_json()["error"]["message"])
    assert known
    endpoint = set() if known[1] == "none" else set(known[1].split(", "))
    if path.endswith("/7"):
        endpoint.add("id")
    assert set(parameters_of(name)) == endpoint


def test_an_option_of_the_endpoint_filters_on_the_command_line(
    conn: Connection, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    user, event = add_user(conn), add_alert(conn)
    failed = add_delivery(conn, user, event, status="failed", failure_code="network")
    add_delivery(conn, add_user(conn), event, status="sent")
    admin = Admin(app_for(database_url).test_client())
    environ = {"DATABASE_URL": database_url, "ALERTS_CLOCK": NOW.isoformat()}
    for options, params in (
        (["--status", "failed"], {"status": "failed"}),
        (["--user-id", str(user), "--event-id", str(event)], {"user_id": user, "event_id": event}),
        (["--failure-code", "network", "--kind", "instant", "--channel", "email"],
         {"failure_code": "network", "kind": "instant", "channel": "email"}),
        (["--since", "2022-03-01", "--status", "failed", "--limit", "1"],
         {"since": "2022-03-01", "status": "failed", "limit": 1}),
    ):  # fmt: skip
        capsys.readouterr()
        assert commands.main(["deliveries", *options], environ) == 0
        told = json.loads(capsys.readouterr().out)
        assert told == admin.ok("/deliveries", **params)
        assert [row["id"] for row in told["deliveries"]] == [failed]


@pytest.mark.parametrize(("name", "path", "code"), [
    ("delivery", "/deliveries/7", "delivery"), ("digest", "/digests/7", "digest"),
    ("run", "/runs/7", "run"),
])  # fmt: skip
def test_what_is_not_there_is_said_in_the_same_words(
    database_url: str, caplog: pytest.LogCaptureFixture, name: str, path: str, code: str
) -> None:
    status, body = Admin(app_for(database_url).test_client()).get(path)
    assert (status, body["error"]["code"]) == (404, f"{code}_not_found")
    assert commands.main([name, "7"], {"DATABASE_URL": database_url}) == 1
    assert body["error"]["message"].lower().rstrip(".") in caplog.text


@pytest.mark.parametrize("text", [str(LARGEST_ID), "1"])
def test_an_id_goes_as_far_as_the_database_does(database_url: str, text: str) -> None:
    for arguments in (["delivery", text], ["explain", "--event-id", text, "--user-id", text]):
        assert commands.main(arguments, {"DATABASE_URL": database_url}) == 1
    assert commands.main(["actions", "--before", text], {"DATABASE_URL": database_url}) == 0


@pytest.mark.parametrize(("fail_on", "code"), [(None, 0), ("failing", 0), ("degraded", 1)])
def test_health_fails_where_it_is_as_bad_as_asked(
    database_url: str, capsys: pytest.CaptureFixture[str], fail_on: str | None, code: int
) -> None:
    """No run has ever finished: degraded."""
    options = [] if fail_on is None else ["--fail-on", fail_on]
    capsys.readouterr()
    assert commands.main(["health", *options], {"DATABASE_URL": database_url}) == code
    assert json.loads(capsys.readouterr().out)["status"] == "degraded"


def test_prune_opens_the_one_connection_that_it_works_on(
    conn: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    connect = psycopg2.connect

    def counting(*args: object, **kwargs: object) -> object:
        opened.append(kwargs.get("application_name"))
        return connect(*args, **kwargs)

    monkeypatch.setattr("psycopg2.connect", counting)
    assert commands.main(["prune", "--keep-days", "30"], {"DATABASE_URL": database_url}) == 0
    assert len(opened) == 1
    assert query(conn, "SELECT action FROM alerts_admin_actions") == [{"action": "prune"}]


# -- what does not fit -----------------------------------------------------------------------


def option_names() -> set[str]:
    return {o for c in GROUP.commands.values() for p in c.params for o in p.opts if o[:2] == "--"}


@pytest.mark.parametrize("name", NAMES)
def test_an_option_of_other_commands_is_a_usage_error(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {option for p in GROUP.commands[name].params for option in p.opts}
    foreign = (option_names() | {"--phase", "--log-json", "--now", "--batch-size"}) - own
    assert len(foreign) > 10
    for option in foreign:
        assert commands.main([name, f"{option}=9"], {}) == 2
        two_lines(capsys)


def test_the_runner_takes_no_option_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    for option in option_names() - {"--dry-run", "--since-hours", "--phase", "--help"}:
        assert runner.main(["--phase", "a", f"{option}=9"], {}) == 2
        two_lines(capsys)


@pytest.mark.parametrize("name", NAMES)
def test_an_option_given_twice_is_a_usage_error(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over HTTP a repeated parameter is refused as well."""
    own = [each for each in GROUP.commands[name].params if isinstance(each, click.Option)]
    given = ["deliveries"] if name == "retry-failed" else []
    for each in own:
        given += [each.opts[0], good_value(each)] if each.required else []
    for each in own:
        if not each.is_flag:
            again = [each.opts[0], good_value(each)] * (1 if each.required else 2)
            assert commands.main([name, *given, *again], {}) == 2
            assert f"{each.opts[0]} is given more than once" in two_lines(capsys)


def good_value(option: click.Option) -> str:
    takes: str = option.type.reader.takes  # type: ignore[attr-defined]
    word = re.split("[, ]", takes)[0]
    texts = {"ID": "7", "N": "30", "TEXT": "x", "TIME": "2022-03-08", "CURSOR": "1.1"}
    return {**texts, "LIST": "unknown"}.get(str(option.metavar), word)


HOSTILE = [
    "--x\x1b[31m",
    "--x\nForged: line",
    "--\u202egnp",
    "--x=" + "y" * 5000,
    "\x9b2J",
    "[red]",
]


@pytest.mark.parametrize("argument", HOSTILE)
def test_a_hostile_argument_breaks_no_line(
    argument: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in ([argument], ["runs", argument], ["run", "7", argument]):
        assert commands.main(arguments, {}) == 2
        two_lines(capsys)
    assert runner.main(["--phase", "a", argument], {}) == 2
    two_lines(capsys)


@pytest.mark.parametrize("arguments", [
    ["delivery", "hunter2"], ["runs", "--limit", "hunter2"], ["pause", "hunter2", "--reason", "x"],
    ["runs", "--status", "hunter2"], ["deliveries", "--since", "hunter2"],
])  # fmt: skip
def test_a_value_that_does_not_fit_is_not_repeated(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.main(arguments, {}) == 2
    said = two_lines(capsys)
    assert "hunter2" not in said
    assert " takes " in said


def two_lines(capsys: pytest.CaptureFixture[str]) -> str:
    """What a usage error said, once it is known to be one that looks as it should."""
    said = capsys.readouterr()
    assert said.out == ""
    wrong, usage = said.err.rstrip("\n").split("\n")
    assert wrong.startswith("python -m alerts")
    assert usage.startswith("usage: python -m alerts")
    assert all(line.isprintable() and len(line) < 400 for line in (wrong, usage))
    return said.err


# -- help ------------------------------------------------------------------------------------


HELPS = [("alerts.runner",), ("alerts",), *(("alerts", name) for name in NAMES)]


@pytest.mark.parametrize("arguments", HELPS, ids=" ".join)
def test_help_fits_a_screen(arguments: tuple[str, ...], tmp_path: Path) -> None:
    program, *words = arguments
    done = run_module(program, [*words, "--help"], tmp_path, {"COLUMNS": "200"})
    assert done.returncode == 0
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) <= LINES - 1  # the prompt takes one
    assert max(map(width_of, lines)) <= COLUMNS


def test_the_help_of_the_top_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["--help"], {}) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line[:2] == "  "]
    assert listed == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_option_says_what_it_is_for(name: str) -> None:
    for each in GROUP.commands[name].params:
        if isinstance(each, click.Option):
            assert each.help
            assert each.help.isprintable()


def test_rebuild_mends_the_counts_and_its_dry_run_only_says_how_many(
    conn: Connection, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    add_delivery(conn, add_user(conn, "pro"), add_alert(conn))
    db.execute(conn, "DELETE FROM alerts_health_changes")
    db.execute(conn, "DELETE FROM alerts_health_counts")

    def told(*arguments: str) -> dict[str, Any]:
        assert commands.main(["rebuild", *arguments], {"DATABASE_URL": database_url}) == 0
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    dry = told("--dry-run")
    assert dry["counts_mended"] > 0
    assert dry["action_id"] is None
    assert told()["counts_mended"] == dry["counts_mended"]
    assert told()["counts_mended"] == 0
