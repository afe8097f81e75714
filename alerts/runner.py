"""The command line: ``python -m alerts.runner``. It parses and dispatches, nothing more."""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg2

from alerts import admin, db, github, history, phases, requeue
from alerts.clock import Clock
from alerts.config import ConfigError, Settings, require_database_url
from alerts.console import Console, JsonConsole, PeopleConsole
from alerts.engine import Hooks, RunReport, RunRequest, record_config_failure, run_engine
from alerts.engine_observability import replay_file
from alerts.env import parse_time
from alerts.health import get_health
from alerts.logs import before_records, bound, setup_logging
from alerts.preflight import preflight
from alerts.redaction import Redactor, describe_exception, redactor_for
from alerts.signals import watching

log = logging.getLogger("alerts.runner")


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run the command; its exit code: 0 success or skipped, 1 failed, 2 usage."""
    environ = os.environ if environ is None else environ
    options = _parse(arguments)
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
    now = Clock(options.now or settings.clock).now()
    ask: admin.Question
    if options.health:
        view, ask = "health", lambda conn: get_health(conn, settings, now)
    elif options.runs:
        view, ask = "runs", lambda conn: history.list_runs(conn, limit=options.limit or 50)
    elif options.run is not None:
        view, ask = "run", lambda conn: history.get_run(conn, options.run)
    elif options.replay_spool is not None:
        view, ask = "replay_spool", lambda conn: replay_file(conn, bound(log), options.replay_spool)
    else:
        view, ask = "retry_failed", lambda conn: _retry(conn, settings, options, now)
    try:
        if options.replay_spool is not None:  # each record stands alone: no transaction
            answer = admin.ask_directly(settings, ask)
        else:
            # The dry run of a retry locks the rows it would take: not read only.
            answer = admin.ask(settings, ask, read_only=not options.retry_failed)
    except psycopg2.Error as error:
        log.error("the database failed: %s", describe_exception(error, redactor_for(settings)))
        return 1
    except OSError as error:
        log.error("%s cannot be read: %s", options.replay_spool, error.strerror)
        return 1
    if answer is None:
        log.error("no run has this id")
        return 1
    console.answer(view, answer)
    return 0


def _retry(
    conn: db.Connection, settings: Settings, options: argparse.Namespace, now: datetime
) -> dict[str, Any]:
    request = requeue.RetryRequest(
        kind=options.retry_failed,
        since_hours=options.since_hours or requeue.DEFAULT_SINCE_HOURS,
        limit=options.limit,
        include=options.include,
        dry_run=options.dry_run,
    )
    return requeue.retry_failed(conn, settings, request, now=now, token_key_id="cli")  # noqa: S106


# -- parsing ---------------------------------------------------------------------------------


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m alerts.runner",
        description="Run the alerts engine, or answer what the admin endpoints answer.",
        epilog="exit codes: 0 success or skipped, 1 failed or bad configuration, 2 usage",
    )
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--phase", choices=phases.PHASE_CHOICES, help=_phases_help())
    mode.add_argument("--preflight", action="store_true", help="check what a run needs")
    mode.add_argument("--health", action="store_true", help="delivery health")
    mode.add_argument("--runs", action="store_true", help="the last runs")
    mode.add_argument("--run", metavar="RUN_ID", help="one run with its phases")
    mode.add_argument("--retry-failed", choices=sorted(requeue.KINDS), help="queue failures again")
    mode.add_argument(
        "--replay-spool", type=Path, metavar="FILE", help="store the run records of a saved spool"
    )
    parser.add_argument("--dry-run", action="store_true", help="do everything, then undo it")
    parser.add_argument(
        "--since-hours", type=_number(1, 87_600), help="how far back to look (default 24)"
    )
    parser.add_argument("--batch-size", type=_number(1, 10_000), help="most rows of one claim")
    parser.add_argument("--max-seconds", type=_number(1, 86_400), help="end the run by then")
    parser.add_argument("--limit", type=_number(1, 1_000_000), help="most rows to list or requeue")
    parser.add_argument(
        "--include", type=_includes, default=(), help=f"list of {', '.join(requeue.INCLUDES)}"
    )
    parser.add_argument("--now", type=_time, help="freeze business time at this ISO time")
    parser.add_argument(
        "--log-json", action="store_true", help="JSON lines (the default where CI is true)"
    )
    options = parser.parse_args(arguments)
    if options.runs and (options.limit or 1) > 200:
        parser.error("--limit of --runs is at most 200")
    if options.retry_failed and (options.since_hours or 1) > requeue.MAX_SINCE_HOURS:
        parser.error(f"--since-hours of --retry-failed is at most {requeue.MAX_SINCE_HOURS}")
    return options


def _phases_help() -> str:
    names = ", ".join(f"{phase.letter}: {phase.name}" for phase in phases.PHASES)
    return f"{names}; {phases.ALL}: one after the other"


def _number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"takes a whole number from {low} to {high}")
        return int(text)

    return parse


def _includes(text: str) -> tuple[str, ...]:
    try:
        return requeue.parse_include(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _time(text: str) -> datetime:
    try:
        return parse_time(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError("takes an ISO time like 2022-03-08T18:00:00Z") from error


if __name__ == "__main__":
    sys.exit(main())
