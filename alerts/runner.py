"""The command line: ``python -m alerts.runner``. It parses and dispatches, nothing more."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import psycopg2

from alerts import db
from alerts.cli import asking as admin
from alerts.cli import commands, github
from alerts.cli.console import Console, JsonConsole, PeopleConsole
from alerts.cli.options import parse
from alerts.cli.signals import watching
from alerts.clock import Clock
from alerts.engine import Hooks, RunReport, RunRequest, record_config_failure, run_engine
from alerts.health.report import get_health
from alerts.logs import before_records, setup_logging
from alerts.preflight import preflight
from alerts.redaction import Redactor, describe_exception, redactor_for
from alerts.repair.prune import PruneRefused
from alerts.settings.config import ConfigError, Settings, require_database_url

log = logging.getLogger("alerts.runner")


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run the command; its exit code: 0 success or skipped, 1 failed, 2 usage."""
    environ = os.environ if environ is None else environ
    options = parse(arguments)
    json_lines = options.log_json or environ.get("CI", "").strip().lower() in ("true", "1")
    _setup_logging(Redactor(), json_lines=json_lines)
    console = JsonConsole() if json_lines else PeopleConsole(environ)
    if options.preflight:
        report = preflight(environ)
        console.answer("preflight", report.as_json())
        _annotate(environ, (f"{e.message} {e.hint}" for e in report.errors))
        return 1 if report.errors else 0
    try:
        settings = Settings.from_env(environ)
        require_database_url(settings)
    except ConfigError as error:
        return _config_failure(error, options, environ, console)
    _setup_logging(redactor_for(settings), json_lines=json_lines)
    if options.phase:
        return _run(settings, options, console)
    return _answer(settings, options, console)


def _setup_logging(redactor: Redactor, *, json_lines: bool) -> None:
    # What is logged at INFO, people are shown as tables.
    level = logging.INFO if json_lines else logging.WARNING
    setup_logging(redactor, json_lines=json_lines, level=level)


# -- running phases ------------------------------------------------------------------------


def _run(settings: Settings, options: argparse.Namespace, console: Console) -> int:
    if settings.enabled_unclear:
        log.warning("ALERTS_V2_ENABLED is neither yes nor no: the engine stays off")
    hooks = Hooks(on_phase=console.phase, progress=console.progress)
    before_records(console.clear_progress)
    with watching(hooks.stop):
        report = run_engine(settings, _request(options), hooks)
        return _finish(settings, report, console)


def _config_failure(
    error: ConfigError,
    options: argparse.Namespace,
    environ: Mapping[str, str],
    console: Console,
) -> int:
    """Say what is wrong, and record the run as failed where the database can be reached."""
    for problem in error.problems:
        log.error("%s", problem.message)
    if not options.phase:
        return 1
    known = {"DATABASE_URL", "ALERTS_EXPECTED_INTERVAL_MINUTES"} - {
        problem.variable for problem in error.problems
    }
    known.update(name for name in environ if name.startswith("GITHUB_"))
    settings = Settings.from_env({name: environ.get(name, "") for name in known})
    if settings.database_url is None:
        _annotate(environ, (problem.message for problem in error.problems))
        return 1
    _setup_logging(redactor_for(settings), json_lines=isinstance(console, JsonConsole))
    names = ", ".join(sorted({problem.variable for problem in error.problems}))
    report = record_config_failure(settings, _request(options), f"configuration error: {names}")
    return _finish(settings, report, console)


def _request(options: argparse.Namespace) -> RunRequest:
    return RunRequest(
        phase=options.phase,
        dry_run=options.dry_run,
        since_hours=options.since_hours or RunRequest.since_hours,
        batch_size=options.batch_size,
        max_seconds=options.max_seconds,
        now=options.now,
    )


def _finish(settings: Settings, report: RunReport, console: Console) -> int:
    console.run(report.record, recorded=report.recorded)
    if settings.github.actions:
        _tell_github(settings, report)
    return 1 if report.record.status == "failed" else 0


def _tell_github(settings: Settings, report: RunReport) -> None:
    """Annotations to standard error and the summary to its file; neither can fail the run."""
    for command in github.workflow_commands(report.record, recorded=report.recorded):
        print(command, file=sys.stderr, flush=True)
    path = settings.github.step_summary
    if path is None:
        return
    try:
        text = github.summary(
            report.record, recorded=report.recorded, oldest_minutes=_oldest_minutes(settings)
        )
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except Exception as error:  # the run is over and recorded: no bug here may change its end
        log.warning("GITHUB_STEP_SUMMARY cannot be written", extra={"error": type(error).__name__})


def _annotate(environ: Mapping[str, str], problems: Iterable[str]) -> None:
    """On GitHub, say what keeps a run from beginning where a red job is looked at first."""
    if Settings.from_env({"GITHUB_ACTIONS": environ.get("GITHUB_ACTIONS", "")}).github.actions:
        for command in github.problem_commands(problems):
            print(command, file=sys.stderr, flush=True)


def _oldest_minutes(settings: Settings) -> dict[str, Any]:
    try:
        now = Clock(settings.clock).now()
        health = admin.ask(settings, lambda conn: get_health(conn, settings, now))
    except psycopg2.Error:
        return {}
    found = {"delivery": "oldest_queued_delivery_minutes", "digest": "oldest_queued_digest_minutes"}
    return {name: (health or {}).get(key) for name, key in found.items()}


# -- the admin endpoints without the server --------------------------------------------------


def _answer(settings: Settings, options: argparse.Namespace, console: Console) -> int:
    command = commands.chosen(options)
    try:
        answer = commands.answer(command, settings, options)
    except psycopg2.Error as error:
        log.error("the database failed: %s", describe_exception(error, redactor_for(settings)))
        if db.lacks_migrations(error):
            log.error("%s", db.MIGRATE)
        return 1
    except (db.PoolerDetected, PruneRefused) as error:
        log.error("%s", error)
        return 1
    except OSError as error:
        log.error("%s cannot be read: %s", error.filename, error.strerror)
        return 1
    if answer is None:
        log.error("%s", command.nothing)
        return 1
    console.answer(command.view, answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
