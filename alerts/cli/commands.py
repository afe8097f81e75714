"""The admin endpoints without the server: what each command asks, one function behind both."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from alerts import db
from alerts.cli import asking as admin
from alerts.clock import Clock
from alerts.engine_observability import replay_file
from alerts.health.report import get_health
from alerts.logs import bound
from alerts.lookup import deliveries as browse
from alerts.lookup.explain import explain
from alerts.redaction import redactor_for
from alerts.repair import audit, pauses, prune, requeue
from alerts.runs import history
from alerts.settings.config import Settings

Answer = dict[str, Any] | None
Ask = Callable[[db.Connection, Settings, argparse.Namespace, datetime], Answer]


@dataclass(frozen=True)
class Command:
    """A question of the command line.

    ``view`` names its option (with underscores) and its table of
    :data:`alerts.cli.tables.VIEWS`; ``ask(conn, settings, options, now)`` gives the answer of
    the endpoint, None where there is none, which ``nothing`` then says. ``alone``: its statements
    are transactions of their own.
    """

    view: str
    ask: Ask
    read_only: bool = True
    alone: bool = False
    nothing: str = "there is no answer"


def _health(
    conn: db.Connection, settings: Settings, options: argparse.Namespace, now: datetime
) -> Answer:
    return get_health(conn, settings, now)


def _runs(
    conn: db.Connection, settings: Settings, options: argparse.Namespace, now: datetime
) -> Answer:
    return history.list_runs(conn, limit=options.limit or 50, before=options.before)


def _run(
    conn: db.Connection, settings: Settings, options: argparse.Namespace, now: datetime
) -> Answer:
    return history.get_run(conn, options.run)


def _retry_failed(
    conn: db.Connection, settings: Settings, options: argparse.Namespace, now: datetime
) -> Answer:
    request = requeue.RetryRequest(
        kind=options.retry_failed,
        since_hours=options.since_hours or requeue.DEFAULT_SINCE_HOURS,
        limit=options.limit,
        include=options.include,
        failure_code=options.failure_code,
        channel=options.channel,
        dry_run=options.dry_run,
    )
    return requeue.retry_failed(conn, settings, request, now=now, token_key_id=admin.CLI_KEY_ID)


def _replay_spool(
    conn: db.Connection, settings: Settings, options: argparse.Namespace, now: datetime
) -> Answer:
    return replay_file(conn, bound(logging.getLogger("alerts.runner")), options.replay_spool)


def _actions(
    conn: db.Connection, settings: Settings, options: argparse.Namespace, now: datetime
) -> Answer:
    return audit.list_actions(
        conn, limit=options.limit or 50, before=options.before, action=options.action
    )


def _pause(
    conn: db.Connection, settings: Settings, options: argparse.Namespace, now: datetime
) -> Answer:
    act, channel = (
        (pauses.pause, options.pause) if options.pause else (pauses.resume, options.resume)
    )
    return act(
        conn,
        None if channel == pauses.ENGINE else channel,
        options.reason,
        now=now,
        token_key_id=admin.CLI_KEY_ID,
        scrub=redactor_for(settings).scrub,
    )


def _list(listing: browse.Listing) -> Ask:
    def ask(
        conn: db.Connection, settings: Settings, options: argparse.Namespace, now: datetime
    ) -> Answer:
        names = (*listing.indexed, *listing.others, "since", "before")
        filters = {name: getattr(options, name) for name in names}
        return browse.list_rows(conn, listing, limit=options.limit or 50, **filters)

    return ask


def _explain(
    conn: db.Connection, settings: Settings, options: argparse.Namespace, now: datetime
) -> Answer:
    found = explain(conn, settings, event_id=options.event_id, user_id=options.user_id, now=now)
    return None if isinstance(found, str) else found


def _prune(
    conn: db.Connection, settings: Settings, options: argparse.Namespace, now: datetime
) -> Answer:
    # On a session of its own, with a lock that a pooler's connection could not hold.
    return prune.prune(
        settings,
        keep_days=options.keep_days,
        dry_run=options.dry_run,
        now=now,
        token_key_id=admin.CLI_KEY_ID,
    )


COMMANDS = (
    Command("health", _health),
    Command("runs", _runs),
    Command("run", _run, nothing="no run has this id"),
    Command("retry_failed", _retry_failed, read_only=False),  # its dry run locks rows as well
    Command("actions", _actions),
    Command("deliveries", _list(browse.DELIVERIES)),
    Command(
        "delivery",
        lambda conn, settings, options, now: browse.get_delivery(conn, options.delivery),
        nothing="no delivery has this id",
    ),
    Command("digests", _list(browse.DIGESTS)),
    Command(
        "digest",
        lambda conn, settings, options, now: browse.get_digest(conn, options.digest),
        nothing="no digest has this id",
    ),
    Command("explain", _explain, nothing="there is no such event or no such user"),
    Command("pause", _pause, read_only=False),
    Command("resume", _pause, read_only=False),
    Command("prune", _prune, read_only=False, alone=True),
    Command("replay_spool", _replay_spool, read_only=False, alone=True),
)


def chosen(options: argparse.Namespace) -> Command:
    """The command that the options name."""
    return next(c for c in COMMANDS if getattr(options, c.view) not in (None, False))


def answer(command: Command, settings: Settings, options: argparse.Namespace) -> Answer:
    """Ask the database. Raises ``psycopg2.Error``."""
    now = Clock(options.now or settings.clock).now()

    def ask(conn: db.Connection) -> Answer:
        return command.ask(conn, settings, options, now)

    if command.alone:
        return admin.ask_directly(settings, ask)
    return admin.ask(settings, ask, read_only=command.read_only)
