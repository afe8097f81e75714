"""The Python part of scripts/run: database, sample data, engine, web app. See --help."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import http.client
import os
import re
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import psycopg2
from psycopg2 import sql

from alerts import migrations
from alerts.readers import integer
from alerts.settings.config import ConfigError, database_url_of
from scripts.dev.database import (
    CHECKOUT,
    DATABASE,
    Cluster,
    create_database,
    ensure_server,
    stop_server,
)
from scripts.dev.place import DevDbError
from scripts.sample import bad_day

DESCRIPTION = """\
Runs the whole product on this machine: starts an embedded PostgreSQL (or uses the database that
DATABASE_URL names), applies the migrations, loads the sample data, runs the engine over its days
2022-02-21 to 2022-03-08, and after them over one bad day on which providers refuse, stall and hang
up, and starts the web app on 127.0.0.1:5000 (PORT changes the port) with its clock just after. The
last full run's JSON lines go to standard output, everything else to standard error. Nothing is
sent: messages become files in .dev/outbox or ALERTS_OUTBOX_DIR, those of the bad day go to a
stand-in on this machine. Your engine settings apply, but credentials are ignored. The next start
repeats only the last runs.
"""
STATE = CHECKOUT / ".dev"
OUTBOX = STATE / "outbox"
REPLAY_FROM, REPLAY_TO = "2022-02-21", "2022-03-07"
# The replay ends a day early, because the day on which Brent peaked belongs to the last run. The
# first time its output shows a full day's work; later starts show that nothing is done twice.
LAST_RUN = "2022-03-08T18:30:00+00:00"
# The day after is one on which much goes wrong, for the web app to tell about.
WEB_CLOCK = bad_day.AFTER
# Stored in the database itself, because a file would outlive it.
REPLAYED = f"Sample data, replayed {REPLAY_FROM} to {REPLAY_TO} by scripts/run"
# The caller's settings apply, except accounts and tokens, because no sample message may leave this
# machine and the token is printed, and except those of a CI job in which this may run.
ACCOUNTS = re.compile(
    r"EMAIL_PROVIDER|SMTP_URL|INTERNAL_\w+_TOKEN|(BREVO|RESEND|TELEGRAM|TWILIO)_\w+"
)
CI_JOB = re.compile(r"CI|GITHUB_\w+")
PATHS = ("ALERTS_OUTBOX_DIR", "ALERTS_RUN_SPOOL")
START_SECONDS = 30.0


class RunError(Exception):
    """scripts/run cannot continue; the message says why and what to do."""


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/run", description=DESCRIPTION)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--once", action="store_true", help="stop after the last run")
    choice.add_argument("--stop", action="store_true", help="stop the embedded database")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if options.stop:
            say("Database stopped." if stop_server("dev") else "The database was not running.")
            return 0
        run(once=options.once)
    except (RunError, DevDbError) as error:
        say(f"scripts/run: {error}")
        return 1
    except KeyboardInterrupt:
        say("Interrupted. What is done is kept; the next start continues from there.")
        return 130
    return 0


def run(once: bool) -> None:
    port = _port()
    if not once:
        _check_port(port)
    environment = _environment(_database_url(), port)
    with _one_at_a_time():
        _prepare(environment)
        say(f"The last full run, with the clock set to {LAST_RUN}:")
        _python(
            environment, "-m", "alerts.runner", "--phase", "all", "--log-json", "--now", LAST_RUN
        )
    say(f"Messages are in {environment['ALERTS_OUTBOX_DIR']}")
    if not once:
        with _one_at_a_time():
            say(f"Then a bad day, {bad_day.DAY}: providers refuse, stall and hang up ...")
            _script(environment, "sample/bad_day.py")
        _serve(environment, port)


def _port() -> int:
    text, port = os.environ.get("PORT", "").strip() or "5000", integer(1, 65_535)
    try:
        return port.read(text)
    except ValueError:
        raise RunError(f"PORT is {text!r}; it takes {port.takes}") from None


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        # Like the server, so that a lingering connection does not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise RunError(
                f"port {port} of 127.0.0.1 is not available ({error.strerror}). Is scripts/run "
                f"already running? To use another port: PORT={port + 1} scripts/run"
            ) from error


def _database_url() -> str:
    if os.environ.get("DATABASE_URL"):
        say("Using the database that DATABASE_URL names.")
        try:
            return database_url_of(os.environ)
        except ConfigError as error:
            raise RunError(str(error)) from None
    say("Starting the embedded PostgreSQL ...")
    server = ensure_server("dev")
    create_database(server.url(), DATABASE)
    _refuse_older_database(server.url(DATABASE))
    return server.url(DATABASE)


def _refuse_older_database(url: str) -> None:
    """Until a release the files in sql/ may be rewritten, and a database that older versions of
    them created can no longer be migrated."""
    if not migrations.status_of(url).consistent:
        raise RunError(
            "the development database was created by different files in sql/ than the current "
            "ones. It contains only sample data; remove it and start again:\n"
            f"  scripts/run --stop && rm -r {shlex.quote(str(Cluster('dev').folder()))}"
        )


def _environment(database_url: str, port: int) -> dict[str, str]:
    """The programs' environment: the caller's settings, our defaults, and no accounts."""
    given = {name: value for name, value in os.environ.items() if value.strip()}
    accounts = sorted(name for name in given if ACCOUNTS.fullmatch(name))
    if accounts:
        say(f"Ignoring the configured accounts: {', '.join(accounts)}.")
    kept = {n: v for n, v in given.items() if n not in accounts and not CI_JOB.fullmatch(n)}
    # The programs run in the checkout, whatever the caller's working directory.
    kept |= {name: str(Path(kept[name]).absolute()) for name in PATHS if name in kept}
    defaults = {
        "EMAIL_FROM": "alerts@example.com",
        "ALERTS_OUTBOX_DIR": str(OUTBOX),
        "ALERTS_APP_BASE_URL": f"http://127.0.0.1:{port}",
        "ALERTS_RUN_SPOOL": str(STATE / "alerts_runs_spool.jsonl"),
        "ALERTS_CLOCK": WEB_CLOCK,
        "ALERTS_EXPECTED_INTERVAL_MINUTES": str(bad_day.INTERVAL_MINUTES),
    }
    fixed = {
        "DATABASE_URL": database_url,
        "EMAIL_PROVIDER": "outbox",
        "INTERNAL_RUNNER_TOKEN": _admin_token(),
    }
    kept.pop("PRODUCTION_DATABASE_URL", None)  # no business of a development machine
    return defaults | kept | fixed


def _admin_token() -> str:
    """The same token at every start; only its owner can read it."""
    path = STATE / "admin_token"
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_urlsafe(32))
    return path.read_text()


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    descriptor = os.open(STATE / "run.lock", os.O_RDONLY | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Waiting for another scripts/run in this checkout ...")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _prepare(environment: dict[str, str]) -> None:
    _script(environment, "migrate.py")
    _script(environment, "sample/load.py")
    with contextlib.closing(psycopg2.connect(environment["DATABASE_URL"])) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            if _comment(cursor) == REPLAYED:
                return
            say(f"Running the engine over {REPLAY_FROM} to {REPLAY_TO} (once) ...")
            _script(environment, "sample/replay.py", "--from", REPLAY_FROM, "--to", REPLAY_TO)
            _remember_replay(cursor)


def _comment(cursor: psycopg2.extensions.cursor) -> str | None:
    cursor.execute(
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database"
        " WHERE datname = current_database()"
    )
    row = cursor.fetchone()
    return row[0] if row else None


def _remember_replay(cursor: psycopg2.extensions.cursor) -> None:
    """Mark the replay as done in the database's comment, unless it has another comment or belongs
    to someone else; then the next start repeats the replay, which only costs time."""
    if _comment(cursor) is None:
        name = cursor.connection.info.dbname
        statement = sql.SQL("COMMENT ON DATABASE {} IS {}")
        with contextlib.suppress(psycopg2.errors.InsufficientPrivilege):
            cursor.execute(statement.format(sql.Identifier(name), sql.Literal(REPLAYED)))


def _script(environment: dict[str, str], name: str, *arguments: str) -> None:
    _python(environment, str(CHECKOUT / "scripts" / name), *arguments, stdout=sys.stderr.fileno())


def _python(environment: dict[str, str], *arguments: str, stdout: int | None = None) -> None:
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, env=environment, cwd=CHECKOUT, stdout=stdout) as program:
        try:
            program.wait()
        except KeyboardInterrupt:
            # The engine needs a moment to release what it was working on.
            program.terminate()
            program.wait()
            raise
    if program.returncode != 0:
        name = " ".join(Path(part).name for part in arguments)
        raise RunError(f"'{name}' ended with exit code {program.returncode}: see above")


def _serve(environment: dict[str, str], port: int) -> None:
    """Run the web app until Ctrl-C or SIGTERM, which stop it cleanly."""
    command = ["gunicorn", "--bind", f"127.0.0.1:{port}"]
    server = subprocess.Popen(
        [sys.executable, "-m", *command, "app:create_app()"],
        env=environment,
        cwd=CHECKOUT,
        # The access log goes elsewhere; standard output has only the last run's lines.
        stdout=sys.stderr.fileno(),
    )
    try:
        _wait_until_served(server, port)
        _show_ways_in(environment, port)
        raise RunError(f"the web app stopped unexpectedly with exit code {server.wait()}")
    except KeyboardInterrupt:
        # The app is already stopping, so further signals are ignored.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        say("Stopping the web app ...")
    finally:
        server.terminate()
        server.wait()
    if not os.environ.get("DATABASE_URL"):
        say("The database keeps running; scripts/run --stop stops it.")


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _wait_until_served(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        # Not urllib, which would use the caller's proxy for our own port.
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            connection.getresponse()
            return
        except (OSError, http.client.HTTPException):
            time.sleep(0.05)
        finally:
            connection.close()
    raise RunError("the web app did not start; see its message above")


def _show_ways_in(environment: dict[str, str], port: int) -> None:
    token, clock = environment["INTERNAL_RUNNER_TOKEN"], environment["ALERTS_CLOCK"]
    base = f"http://127.0.0.1:{port}"
    admin = f"curl -H 'x-internal-token: {token}' '{base}/internal/alerts/engine"
    say(f"The web app is at {base}, its clock at {clock}.")
    say(f"  curl '{base}/alerts/events/latest?limit=5'")
    say(f"  {admin}/health'")
    say(f"  {admin}/runs?limit=5'")
    say("Press Ctrl-C to stop.")
    say(f"The operator's page: {base}/ops")
    say(f"Sign in with the token: {token}")


if __name__ == "__main__":
    sys.exit(main())
