"""scripts/run: what it refuses and remembers, and at the end the whole of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from psycopg2.extensions import connection as Connection

from scripts.dev import run
from tests.support import CHECKOUT

SCRIPTS = CHECKOUT / "scripts"
# The whole program with another state folder.
PROGRAM = """
import sys
from pathlib import Path
from scripts.dev import run
run.STATE = Path(sys.argv.pop(1))
run.OUTBOX = run.STATE / "outbox"
run.REPLAY_FROM = "2022-03-03"  # which is soon done
sys.exit(run.main())
"""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of the test's own; the checkout's holds the developer's."""
    monkeypatch.setattr(run, "STATE", tmp_path)
    monkeypatch.setattr(run, "OUTBOX", tmp_path / "outbox")
    return tmp_path


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_taken_port_is_said_before_anything_is_begun(
    taken_port: int,
    state: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PORT", str(taken_port))
    assert run.main([]) == 1
    assert f"port {taken_port} of 127.0.0.1 is not available" in capsys.readouterr().err
    assert list(state.iterdir()) == []


@pytest.mark.parametrize("port", ["http", "0", "65536", "-1", "٥٠٠٠"])
def test_a_port_that_is_none_is_refused_by_name(
    port: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORT", port)
    assert run.main(["--once"]) == 1
    assert f"PORT is {port!r}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    ["BREVO_API_KEY", "TELEGRAM_BOT_TOKEN", "TWILIO_AUTH_TOKEN", "RESEND_API_BASE", "SMTP_URL"],
)
def test_credentials_of_the_caller_do_not_reach_the_engine(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, "the caller's own")
    monkeypatch.setenv("EMAIL_PROVIDER", "brevo")
    environment = run._environment("postgresql://127.0.0.1/sample", 5000)
    assert name not in environment
    assert environment["EMAIL_PROVIDER"] == "outbox"
    said = capsys.readouterr().err
    assert name in said
    assert "the caller's own" not in said


SET = {
    "ALERTS_OUTBOX_DIR": "/tmp/mine", "ALERTS_RUN_SPOOL": "/tmp/spool.jsonl",
    "ALERTS_TIMEZONE": "Europe/Athens", "ALERTS_DIGEST_PERIOD": "hourly",
    "ALERTS_APP_BASE_URL": "https://app.example.com", "EMAIL_FROM": "me@example.com",
    "ALERTS_CLOCK": "2022-03-07T12:00:00Z", "ALERTS_SEND_WORKERS": "2", "WEB_CONCURRENCY": "1",
}  # fmt: skip


@pytest.mark.parametrize("name", SET)
def test_a_setting_of_the_caller_is_honoured(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    default = run._environment("postgresql://127.0.0.1/sample", 5000).get(name)
    monkeypatch.setenv(name, SET[name])
    assert run._environment("postgresql://127.0.0.1/sample", 5000)[name] == SET[name] != default
    monkeypatch.setenv(name, " ")  # an empty one is an unset one
    assert run._environment("postgresql://127.0.0.1/sample", 5000).get(name) == default


def test_a_folder_is_taken_from_where_the_caller_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALERTS_OUTBOX_DIR", "mine")
    environment = run._environment("postgresql://127.0.0.1/sample", 5000)
    assert environment["ALERTS_OUTBOX_DIR"] == str(tmp_path / "mine")


@pytest.mark.parametrize("name", ["CI", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_SHA"])
def test_the_job_in_which_it_runs_is_not_the_samples(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "true")
    assert name not in run._environment("postgresql://127.0.0.1/sample", 5000)


def test_the_admin_token_is_made_once_and_private(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTERNAL_RUNNER_TOKEN", "the caller's own")
    token = run._environment("postgresql://127.0.0.1/sample", 5000)["INTERNAL_RUNNER_TOKEN"]
    assert token == run._admin_token() != "the caller's own"
    assert len(token) >= 32
    assert stat.S_IMODE((state / "admin_token").stat().st_mode) == 0o600


def test_the_replay_is_remembered_in_the_database(conn: Connection) -> None:
    with conn.cursor() as cursor:
        assert run._comment(cursor) is None
        run._remember_replay(cursor)
        assert run._comment(cursor) == run.REPLAYED


def test_a_comment_of_someone_else_is_kept(conn: Connection) -> None:
    with conn.cursor() as cursor:
        cursor.execute(f"COMMENT ON DATABASE {conn.info.dbname} IS 'Asked for by Ann'")
        run._remember_replay(cursor)
        assert run._comment(cursor) == "Asked for by Ann"


def test_a_database_with_real_users_is_refused(
    conn: Connection,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with conn.cursor() as cursor:
        cursor.execute("INSERT INTO users (email) VALUES ('ann@company.test')")
    monkeypatch.setenv("DATABASE_URL", database_url)
    assert run.main(["--once"]) == 1
    shown = capfd.readouterr()
    assert "Using the database that DATABASE_URL names" in shown.err
    assert "not a sample address" in shown.err
    assert "ann@" not in shown.err
    assert shown.out == ""
    with conn.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM users")
        assert cursor.fetchone() == (1,)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE schema_migrations SET checksum = repeat('0', 64) WHERE version = '3'",
        "INSERT INTO schema_migrations (version, name, checksum)"
        " VALUES ('99', '0099_gone', repeat('0', 64))",
    ],
    ids=["rewritten", "renumbered"],
)
def test_a_development_database_of_other_sql_files_is_to_be_removed(
    conn: Connection, database_url: str, change: str
) -> None:
    run._refuse_older_database(database_url)
    with conn.cursor() as cursor:
        cursor.execute(change)
    with pytest.raises(run.RunError, match=r"scripts/run --stop && rm -r \S*/dev\d+$"):
        run._refuse_older_database(database_url)


def test_a_failed_step_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(run.RunError, match=r"'migrate.py --no-such' ended with exit code 2"):
        run._script(run._environment("unused", 5000), "migrate.py", "--no-such")
    assert capfd.readouterr().out == ""


def test_a_stopped_database_is_not_stopped_twice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "stop_server", lambda _name: False)
    assert run.main(["--stop"]) == 0
    assert "was not running" in capsys.readouterr().err


class Started:
    """scripts/run in a process of its own, from which a test reads as it goes."""

    def __init__(
        self, state: Path, database_url: str, *arguments: str, port: int = 0, **environ: str
    ) -> None:
        environment = {"DATABASE_URL": database_url, "PYTHONPATH": str(CHECKOUT), **environ}
        self._errors = state / "errors"
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(state), *arguments],
                env={**os.environ, **environment, "PORT": str(port or free_port())},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    def wait_for(self, words: str) -> None:
        deadline = time.monotonic() + 120
        while words not in self.errors:
            assert self.process.poll() is None, self.errors
            assert time.monotonic() < deadline, self.errors
            time.sleep(0.02)

    def finish(self) -> tuple[int, list[dict[str, Any]]]:
        """The exit code and the JSON lines of standard output."""
        output, _ = self.process.communicate(timeout=120)
        return self.process.returncode, [json.loads(line) for line in output.splitlines()]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def start(state: Path, empty_database_url: str) -> Iterator[Callable[..., Started]]:
    """Starts scripts/run on a fresh database; what a failed test leaves running is ended."""
    started: list[Started] = []

    def start_one(*arguments: str, port: int = 0, **environ: str) -> Started:
        started.append(Started(state, empty_database_url, *arguments, port=port, **environ))
        return started[-1]

    yield start_one
    for one in started:
        one.process.terminate()
        one.process.communicate(timeout=120)


def test_from_nothing_to_the_web_app_and_then_only_the_last_run_again(
    start: Callable[..., Started], state: Path
) -> None:
    port = free_port()
    first = start(port=port)
    first.wait_for("Sign in with the token: ")
    token = (state / "admin_token").read_text()
    first.wait_for(f"Sign in with the token: {token}")
    url = f"http://127.0.0.1:{port}/internal/alerts/engine/health"
    with urlopen(Request(url, headers={"x-internal-token": token}), timeout=10) as answer:
        health = json.load(answer)
    assert (health["status"], health["schedule"]["missed_slots_24h"]) == ("degraded", 4)
    first.process.send_signal(signal.SIGINT)
    code, lines = first.finish()
    assert code == 0
    assert [line["event"] for line in lines] == ["phase_finished"] * 4 + ["run_finished"]
    assert lines[0]["counts"]["events_created"] > 0
    assert lines[3]["counts"]["deliveries"]["sent"] > 0
    messages = len(list((state / "outbox").iterdir()))
    assert messages > 0

    again = start("--once")
    code, lines = again.finish()
    assert code == 0
    assert "Running the engine over" not in again.errors
    assert lines[0]["counts"]["events_created"] == 0
    assert lines[-1]["status"] == "success"
    assert len(list((state / "outbox").iterdir())) == messages


def test_an_interrupted_replay_is_finished_by_the_next_start(
    start: Callable[..., Started], state: Path
) -> None:
    mine = state / "where I want it"
    first = start("--once", ALERTS_OUTBOX_DIR=str(mine))
    first.wait_for("2022-03-04")
    first.process.terminate()
    code, lines = first.finish()
    assert (code, lines) == (130, [])
    assert "the next start continues from there" in first.errors

    again = start("--once", ALERTS_OUTBOX_DIR=str(mine))
    code, lines = again.finish()
    assert code == 0
    assert "Running the engine over" in again.errors
    assert lines[-1]["status"] == "success"
    assert f"Messages are in {mine}" in again.errors
    assert list(mine.iterdir())
    assert not (state / "outbox").exists()
