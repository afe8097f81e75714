"""The one table of commands: name, parameters, implementation and output of each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2

from alerts import db, questions
from alerts.cli import asking, options, tables, tables_lookup, tables_runs
from alerts.cli.console import show
from alerts.cli.program import Program
from alerts.cli.text import Style
from alerts.deployment import check
from alerts.engine_observability import replay_file
from alerts.leaving import erase
from alerts.logs import bound
from alerts.owner import trials
from alerts.preflight import preflight
from alerts.questions import Answer, Caller, NotFound, Question, Subject
from alerts.readers import BOOLEAN, ID, Parameter, Reader, integer
from alerts.repair import prune, rebuild
from alerts.settings.config import ConfigError
from alerts.settings.env import parse_web_address

log = logging.getLogger("alerts.cli")

_JSON = Parameter("json", BOOLEAN, "print JSON, as in pipes and if CI is true")
_ABOUT = "Each takes --help. Exit codes: 0 success, 1 failure, 2 usage."


@dataclass(frozen=True)
class Command:
    """A command; ``answer(program, **values)`` computes the answer and ``view`` formats it.

    The parameters named in ``places`` are positional arguments, the others are options. If
    ``failed(answer, **values)`` is true, the exit code is 1.
    """

    name: str
    about: str
    answer: Callable[..., Answer]
    view: Callable[[Style, Answer], Sequence[str]]
    parameters: tuple[Parameter, ...] = ()
    places: tuple[str, ...] = ()
    failed: Callable[..., bool] = lambda answer, **values: False


def _asking(
    name: str,
    about: str,
    question: Question,
    view: Callable[[Style, Answer], Sequence[str]],
    places: tuple[str, ...] = (),
) -> Command:
    """A command that gives the same answer as an endpoint, without the web server."""
    parameters = question.parameters
    if question.subject is not None:
        parameters = (Parameter("id", question.subject.id, required=True), *parameters)
        places = ("id",)
    answer = partial(_ask, question)
    return Command(name, about, answer, view, parameters, places, question.failed)


def _ask(question: Question, program: Program, **values: Any) -> Answer:
    return asking.ask(question, program.settings(), **values)


def _preflight(program: Program) -> Answer:
    report = preflight(program.environ)
    program.annotate(f"{error.message} {error.hint}" for error in report.errors)
    return report.as_json()


def _prune(program: Program, keep_days: int, dry_run: bool) -> Answer:
    # Opens its own session, because it needs a lock that a pooled connection cannot hold.
    settings = program.settings()
    writer = asking.caller(settings).as_writer()
    return prune.prune(settings, keep_days=keep_days, dry_run=dry_run, **writer)


def _replay_spool(program: Program, file: Path) -> Answer:
    with closing(asking.open_session(program.settings())) as conn:
        return replay_file(conn, bound(log), file)


def _rebuild(conn: db.Connection, caller: Caller, dry_run: bool) -> Answer:
    return rebuild.rebuild(conn, dry_run=dry_run, **caller.as_writer())


def _test_message(program: Program, channel: str) -> Answer:
    # At once and outside a transaction, which no call to a provider is to hold open.
    settings = program.settings()
    with closing(asking.open_session(settings)) as conn:
        return trials.send_now(conn, settings, channel, **asking.caller(settings).as_writer())


def _erase(conn: db.Connection, caller: Caller, id: int, with_user: bool, dry_run: bool) -> Answer:
    writer = caller.as_writer()
    answer = erase.erase(conn, user_id=id, with_user=with_user, dry_run=dry_run, **writer)
    if answer is None:
        raise NotFound("user")
    return answer


_DRY_RUN = Parameter("dry_run", BOOLEAN, "count only, change nothing", default=False)
_REBUILD = Question(_rebuild, (_DRY_RUN,), writes=True)
_WITH_USER = Parameter("with_user", BOOLEAN, "and the row of the user as well", default=False)
_ERASE = Question(_erase, (_WITH_USER, _DRY_RUN), Subject("user", ID), writes=True)

COMMANDS = (
    Command(
        "preflight",
        "Check settings, database, migrations and channels.",
        _preflight,
        tables.preflight,
        failed=lambda answer: not answer["ok"],
    ),
    Command(
        "check-deployment",
        "Ask a running web app from outside.",
        lambda program, url: check.check(url, program.settings(database=False)),
        tables.deployment,
        (Parameter("url", Reader(parse_web_address, "an address like https://example.com", "URL"),
                   required=True),),
        ("url",),
        failed=lambda answer, **values: not answer["ok"],
    ),
    _asking("health", "Whether alerts go out, and what to do if not.", questions.HEALTH,
            tables.health),
    _asking("runs", "Runs, newest first.", questions.RUNS, tables_runs.runs),
    _asking("run", "One run with its phases.", questions.RUN, tables_runs.run),
    _asking("deliveries", "Deliveries, newest first.", questions.DELIVERIES,
            tables_lookup.deliveries),
    _asking("delivery", "One delivery with its event and digest.", questions.DELIVERY,
            tables_lookup.one),
    _asking("digests", "Digests, newest first.", questions.DIGESTS, tables_lookup.digests),
    _asking("digest", "One digest with its deliveries.", questions.DIGEST, tables_lookup.one),
    _asking("explain", "Why a user did or did not get an event.", questions.EXPLAIN,
            tables_lookup.explanation),
    _asking("actions", "The audit of changes made by hand, newest first.",
            questions.ACTIONS, tables.actions),
    _asking("retry-failed", "Queue failures again.",
            questions.RETRY_FAILED, tables.retry, ("kind",)),
    _asking("pause", "Stop the engine, or only CHANNEL.",
            questions.PAUSE, tables.paused, ("channel",)),
    _asking("resume", "End a pause of the engine, or of CHANNEL.",
            questions.RESUME, tables.paused, ("channel",)),
    Command(
        "prune",
        "Remove old rows that are final.",
        _prune,
        tables.pruned,
        (
            Parameter(
                "keep_days",
                integer(prune.LEAST_DAYS, prune.MOST_DAYS),
                "remove what is older than N days",
                required=True,
            ),
            _DRY_RUN,
        ),
    ),
    _asking("erase-user", "Remove what is kept of a user.", _ERASE, tables.erased),
    _asking("rebuild", "Count deliveries and digests anew, as after a restore.", _REBUILD,
            tables.rebuilt),
    Command(
        "test-message",
        "Send the owner a test message, at once.",
        _test_message,
        tables.test_message,
        (questions.OWNER_CHANNEL,),
        ("channel",),
        failed=lambda answer, **values: answer["state"] != trials.SENT,
    ),
    Command(
        "replay-spool",
        "Store run records that a spool FILE kept.",
        _replay_spool,
        tables.replay,
        (Parameter("file", Reader(Path, "a file", "FILE"), required=True),),
        ("file",),
    ),
)  # fmt: skip


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run the command and return its exit code: 0 success, 1 failure, 2 usage."""
    return options.main(GROUP, "python -m alerts", arguments, environ)


def _act(command: Command, environ: Mapping[str, str], *, json: bool, **values: Any) -> int:
    program = Program(environ, json=json)
    try:
        answer = command.answer(program, **values)
    except ConfigError as error:
        for problem in error.problems:
            log.error("%s", problem.message)
    except psycopg2.Error as error:
        log.error("the database failed: %s", error)  # the handler describes and scrubs it
        if db.lacks_migrations(error):
            log.error("%s", db.MIGRATE)
    except (NotFound, db.PoolerDetected, prune.PruneRefused, erase.EraseRefused) as error:
        log.error("%s", str(error))
    except OSError as error:
        log.error("%s cannot be read: %s", error.filename, error.strerror)
    else:
        show(command.view, answer, environ, json=program.json)
        return 1 if command.failed(answer, **values) else 0
    return 1


GROUP = options.Commands(
    [
        options.command(
            each.name, each.about, (*each.parameters, _JSON), partial(_act, each), each.places
        )
        for each in COMMANDS
    ],
    _ABOUT,
)
