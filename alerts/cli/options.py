"""What the command line takes: ``python -m alerts.runner``'s options, checked and parsed."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from alerts import phases
from alerts.channels.names import CHANNELS, SEND_CHANNELS
from alerts.failures import FailureCode
from alerts.health.report import OWN_KINDS, STATUSES
from alerts.paging import checked_cursor
from alerts.repair import audit, pauses, prune, requeue
from alerts.settings.env import parse_time

T = TypeVar("T")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; ends the program with exit code 2 for those that do not fit."""
    parser = argparse.ArgumentParser(
        prog="python -m alerts.runner",
        description="Run the alerts engine, or answer what the admin endpoints answer.",
        epilog="exit codes: 0 success or skipped, 1 failed or bad configuration, 2 usage",
    )
    _add_modes(parser)
    _add_details(parser)
    options = parser.parse_args(arguments)
    if options.prune and options.keep_days is None:
        parser.error("--prune needs --keep-days N")
    if options.explain and not (options.event_id and options.user_id):
        parser.error("--explain needs --event-id and --user-id")
    lists = (options.runs, options.actions, options.deliveries, options.digests)
    if any(lists) and (options.limit or 1) > 200:
        parser.error("--limit of a list is at most 200")
    if options.before is not None:
        options.before = _place(parser, options)
    if options.pause and not options.reason:
        parser.error("--pause needs --reason TEXT")
    if options.retry_failed and (options.since_hours or 1) > requeue.MAX_SINCE_HOURS:
        parser.error(f"--since-hours of --retry-failed is at most {requeue.MAX_SINCE_HOURS}")
    if options.retry_failed and options.channel not in (None, *SEND_CHANNELS):
        parser.error(f"--channel of --retry-failed is {' or '.join(SEND_CHANNELS)}")
    return options


def _place(parser: argparse.ArgumentParser, options: argparse.Namespace) -> str | int:
    """Where the next page begins: after an id in the audit, after a time and an id elsewhere."""
    try:
        if options.actions:
            return _number(1, 999_999_999)(options.before)
        return checked_cursor(options.before)
    except (ValueError, argparse.ArgumentTypeError):
        parser.error("--before takes the next_before of an earlier answer of the same list")


def _add_modes(parser: argparse.ArgumentParser) -> None:
    """What to do: exactly one of them."""
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--phase", choices=phases.PHASE_CHOICES, help=_phases_help())
    mode.add_argument("--preflight", action="store_true", help="check what a run needs")
    mode.add_argument("--health", action="store_true", help="delivery health")
    mode.add_argument("--runs", action="store_true", help="the last runs")
    mode.add_argument("--run", metavar="RUN_ID", help="one run with its phases")
    mode.add_argument("--retry-failed", choices=sorted(requeue.KINDS), help="queue failures again")
    mode.add_argument("--deliveries", action="store_true", help="deliveries, newest first")
    mode.add_argument("--delivery", type=_number(1, 999_999_999), metavar="ID", help="one of them")
    mode.add_argument("--digests", action="store_true", help="digests, newest first")
    mode.add_argument("--digest", type=_number(1, 999_999_999), metavar="ID", help="one of them")
    mode.add_argument(
        "--explain", action="store_true", help="why --user-id did or did not get --event-id"
    )
    mode.add_argument("--prune", action="store_true", help="remove what is older than --keep-days")
    mode.add_argument("--actions", action="store_true", help="the audit of admin writes")
    for name, text in (("--pause", "stop the engine or one channel"), ("--resume", "go on")):
        mode.add_argument(
            name,
            nargs="?",
            const=pauses.ENGINE,
            choices=(pauses.ENGINE, *SEND_CHANNELS),
            help=text,
        )
    mode.add_argument(
        "--replay-spool", type=Path, metavar="FILE", help="store the run records of a saved spool"
    )


def _add_details(parser: argparse.ArgumentParser) -> None:
    """How to do it."""
    parser.add_argument("--dry-run", action="store_true", help="do everything, then undo it")
    parser.add_argument(
        "--since-hours", type=_number(1, 87_600), help="how far back to look (default 24)"
    )
    parser.add_argument("--batch-size", type=_number(1, 10_000), help="most rows of one claim")
    parser.add_argument("--max-seconds", type=_number(1, 86_400), help="end the run by then")
    parser.add_argument("--limit", type=_number(1, 1_000_000), help="most rows to list or requeue")
    parser.add_argument(
        "--include",
        type=_parsed(requeue.parse_include),
        default=(),
        help=f"list of {', '.join(requeue.INCLUDES)}",
    )
    parser.add_argument("--failure-code", choices=[*FailureCode], help="only rows of this code")
    parser.add_argument("--channel", choices=CHANNELS, help="only rows of this channel")
    parser.add_argument(
        "--reason", type=_parsed(pauses.checked_reason), help="of --pause, --resume"
    )
    parser.add_argument("--status", choices=STATUSES, help="only rows in this state")
    parser.add_argument("--kind", choices=OWN_KINDS, help="only deliveries of this kind")
    parser.add_argument("--period", choices=("daily", "hourly"), help="only such digests")
    parser.add_argument("--user-id", type=_number(1, 999_999_999), help="of one user")
    parser.add_argument("--event-id", type=_number(1, 999_999_999), help="of one event")
    parser.add_argument("--since", type=_time, help="only rows made since this ISO time")
    parser.add_argument("--before", help="the next page: the next_before of an earlier answer")
    parser.add_argument("--action", choices=audit.ACTIONS, help="of --actions, only these")
    parser.add_argument(
        "--keep-days", type=_number(prune.LEAST_DAYS, prune.MOST_DAYS), help="of --prune"
    )
    parser.add_argument("--now", type=_time, help="freeze business time at this ISO time")
    parser.add_argument(
        "--log-json", action="store_true", help="JSON lines (the default where CI is true)"
    )


def _phases_help() -> str:
    names = ", ".join(f"{phase.letter}: {phase.name}" for phase in phases.PHASES)
    return f"{names}; {phases.ALL}: one after the other"


def _number(low: int, high: int) -> Callable[[str], int]:
    def parse_number(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"takes a whole number from {low} to {high}")
        return int(text)

    return parse_number


def _parsed(parse_text: Callable[[str], T]) -> Callable[[str], T]:
    """The same parser, its ValueError shown to the user."""

    def parse_or_explain(text: str) -> T:
        try:
            return parse_text(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse_or_explain


def _time(text: str) -> datetime:
    try:
        return parse_time(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError("takes an ISO time like 2022-03-08T18:00:00Z") from error
