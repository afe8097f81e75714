"""``python -m alerts.runner``: runs phases. It parses and dispatches, nothing more."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from alerts import phases
from alerts.cli import github, options, repeating
from alerts.cli.console import Console, JsonConsole, PeopleConsole
from alerts.cli.program import Program
from alerts.cli.signals import watching
from alerts.engine import Hooks, RunReport, RunRequest, record_config_failure, run_engine
from alerts.logs import before_records
from alerts.owner.telling import Health, Telling
from alerts.phases.context import Stop
from alerts.readers import BOOLEAN, TIME, Parameter, choice, integer
from alerts.settings.config import DATABASE_VARIABLES, ConfigError, Settings, job_settings

log = logging.getLogger("alerts.runner")

_PHASES = ", ".join(f"{phase.letter}: {phase.name}" for phase in phases.PHASES)
PARAMETERS = (
    Parameter("phase", choice(phases.PHASE_CHOICES), f"{_PHASES}, or all", required=True),
    Parameter("dry_run", BOOLEAN, "do everything, then undo it"),
    Parameter(
        "since_hours",
        integer(1, 87_600),
        "fan out events of the last N hours",
        default=RunRequest.since_hours,
    ),
    Parameter("batch_size", integer(1, 10_000), "most messages of one claim"),
    Parameter("max_seconds", integer(1, 86_400), "end the run by then"),
    Parameter("every", integer(1, 86_400), "keep running, a run each N seconds"),
    Parameter("now", TIME, "freeze business time, as for a replay"),
    Parameter("log_json", BOOLEAN, "JSON lines, as where CI is true"),
)


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run phases; the exit code: 0 success or skipped, 1 failed or bad configuration, 2 usage.

    With ``--every`` it is 0 however single runs ended, once a signal has come.
    """
    return options.main(_COMMAND, "python -m alerts.runner", arguments, environ)


def _start(environ: Mapping[str, str], *, log_json: bool, every: int | None, **asked: Any) -> int:
    program = Program(repeating.expecting(environ, every), json=log_json)
    console = JsonConsole() if program.json else PeopleConsole(environ)
    request = RunRequest(**asked)
    try:
        settings = program.settings()
    except ConfigError as error:
        return _config_failure(error, request, program, console)
    if settings.enabled_unclear:
        log.warning("ALERTS_V2_ENABLED is neither yes nor no: the engine stays off")
    before_records(console.clear_progress)
    stop = Stop()
    run = partial(_run, settings, request, console, stop)
    with watching(stop):
        return run() if every is None else repeating.run_every(every, settings, run, stop)


def _run(settings: Settings, request: RunRequest, console: Console, stop: Stop) -> int:
    telling = Telling(settings, stop, dry_run=request.dry_run, now=request.now)
    hooks = Hooks(telling.started, console.phase, console.progress, stop=stop)
    return _finish(settings, run_engine(settings, request, hooks), console, telling)


_COMMAND = options.command(
    "runner",
    "Run phases of the alerts engine. Exit codes: 0 success or skipped, 1 failure, 2 usage.",
    PARAMETERS,
    _start,
)


def _config_failure(
    error: ConfigError, request: RunRequest, program: Program, console: Console
) -> int:
    """Say what is wrong, and record the run as failed where the database can be reached."""
    for problem in error.problems:
        log.error("%s", problem.message)
    wrong = {problem.variable for problem in error.problems}
    needed = {*DATABASE_VARIABLES, "ALERTS_EXPECTED_INTERVAL_MINUTES"} - wrong
    settings = job_settings(program.environ, *needed)
    text = f"configuration error: {', '.join(sorted(wrong))}"
    hooks = Hooks()
    # All that does parse: the owner is told by it.
    rest = {name: value for name, value in program.environ.items() if name not in wrong}
    telling = Telling(Settings.from_env(rest), hooks.stop, dry_run=request.dry_run, now=request.now)
    if settings.database_url is None:
        program.annotate(problem.message for problem in error.problems)
        telling.not_started(text)
        return 1
    program.hide(settings)
    hooks.on_start = telling.started
    return _finish(
        settings, record_config_failure(settings, request, text, hooks), console, telling
    )


def _finish(settings: Settings, report: RunReport, console: Console, telling: Telling) -> int:
    console.run(report.record, recorded=report.recorded)
    health = telling.ended(report.record, report.asked, health_wanted=settings.github.actions)
    if settings.github.actions:
        _tell_github(settings, report, health)
    return 1 if report.record.status == "failed" else 0


def _tell_github(settings: Settings, report: RunReport, health: Health | None) -> None:
    """Annotations to standard error and the summary to its file; neither can fail the run."""
    commands = github.workflow_commands(report.record, recorded=report.recorded, health=health)
    for command in commands:
        print(command, file=sys.stderr, flush=True)
    path = settings.github.step_summary
    if path is None:
        return
    try:
        text = github.summary(report.record, recorded=report.recorded, health=health)
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except Exception as error:  # the run is over and recorded: no bug here may change its end
        log.warning("GITHUB_STEP_SUMMARY cannot be written", extra={"error": type(error).__name__})


if __name__ == "__main__":
    sys.exit(main())
