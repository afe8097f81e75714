"""Run the engine over days of the sample. See --help."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

# The script can be run by path from any folder, so import from the checkout.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import psycopg2

from alerts import db, migrations
from alerts.engine import Hooks, RunReport, RunRequest, run_engine
from alerts.logs import setup_logging
from alerts.migrations import MigrationError
from alerts.redaction import redactor_for
from alerts.settings.config import ConfigError, Settings
from scripts.dev.database import DATABASE, DevDbError, create_database, ensure_server
from scripts.sample.load import SampleRefused, load_sample

CHECKOUT = Path(__file__).resolve().parents[2]
DESCRIPTION = """\
Runs the whole engine at 06:00 and 18:00 UTC on each day from the first to the last, over the data
in scripts/sample: real prices, real events, invented users. Messages are written as files to the
outbox; nothing leaves the machine, even if the environment contains credentials. The table has one
line per day with what was new; replaying the same days again adds nothing.

Migrations are applied and the sample is loaded first. A database that contains users outside the
sample is refused.
"""
EPILOG = """\
columns
  regional, asset, events  alerts created, by type (events: high-impact events)
  instant, digest          deliveries created from them (instant includes the in-app inbox)
  digests                  digests created; each is sent when its day is over
  sent, failed             messages to the outbox, instant and digests

exit codes
  0  every run succeeded
  1  a run failed, there is no database, or the sample must not be loaded into it
  2  wrong usage

environment
  DATABASE_URL         the database (default: the embedded one of scripts/run)
  ALERTS_OUTBOX_DIR    where messages are written (default: .dev/outbox)
  ALERTS_APP_BASE_URL  base address of links in messages (default: localhost)
"""
RUNS_AT = (time(6, tzinfo=UTC), time(18, tzinfo=UTC))
COLUMNS = ("regional", "asset", "events", "instant", "digest", "digests", "sent", "failed")
DEFAULTS = {
    "ALERTS_OUTBOX_DIR": str(CHECKOUT / ".dev" / "outbox"),
    "ALERTS_RUN_SPOOL": str(CHECKOUT / ".dev" / "alerts_runs_spool.jsonl"),
    "ALERTS_APP_BASE_URL": "http://127.0.0.1:5000",
}
# More than a day of the sample creates, so one run sends everything that is due.
FIXED = {"EMAIL_PROVIDER": "outbox", "ALERTS_MAX_SEND_PER_RUN": "100000"}

PrintLine = Callable[[str], None]
Day = Counter[str]


class RunFailed(Exception):
    """A run of the replay failed; the message says which and why."""


# Errors whose message says what is wrong and how to fix it.
EXPLAINED = (
    *(ConfigError, DevDbError, MigrationError, SampleRefused, RunFailed),
    db.PoolerDetected,
)


def replay_settings(environ: Mapping[str, str], database_url: str) -> Settings:
    """Return the settings of a replay, the same on every machine.

    Only the three variables in the help text are read from the environment. Credentials, caps, a
    clock or an allowlist that the caller has set for production must not affect a replay, let
    alone make it send. Raises :class:`ConfigError`.
    """
    chosen = {name: environ.get(name, "").strip() or default for name, default in DEFAULTS.items()}
    return Settings.from_env({**chosen, **FIXED, "DATABASE_URL": database_url})


def replay(
    settings: Settings, first: date, last: date, print_line: PrintLine, hooks: Hooks | None = None
) -> Counter[str]:
    """Run the engine over the days, reporting one line per day; returns the sum of each column.

    Raises :class:`RunFailed` at the first run that fails.
    """
    print_line(_line("date", {column: column for column in COLUMNS}))
    total: Day = Counter()
    for day in _days(first, last):
        found: Day = Counter()
        for at in RUNS_AT:
            now = datetime.combine(day, at)
            found += _counts(_run(settings, now, hooks))
        print_line(_line(day.isoformat(), found))
        total += found
    print_line(_line("total", total))
    return total


def _days(first: date, last: date) -> Iterator[date]:
    return (first + timedelta(days=n) for n in range((last - first).days + 1))


def _run(settings: Settings, now: datetime, hooks: Hooks | None) -> RunReport:
    report = run_engine(settings, RunRequest(now=now), hooks)
    reasons = (
        [report.record.error_summary or report.record.status]
        if report.record.status != "success"
        else []
    )
    for item in report.record.items:  # skipped because of another run's lock, a cap or a signal
        reasons += [f"phase {item.phase} skipped"] if item.status == "skipped" else []
        reasons += [str(item.counts["stopped_early"])] if item.counts.get("stopped_early") else []
    if reasons:
        raise RunFailed(
            f"the run of {now.isoformat()} ({report.record.run_id}): {'; '.join(reasons)}"
        )
    return report


def _counts(report: RunReport) -> Day:
    """Return a run's columns from its phases' counts."""
    a, b, d, c = (
        next(item.counts for item in report.record.items if item.phase == letter)
        for letter in "abdc"
    )
    return Counter(
        {
            "regional": a["regional_risk_spikes"],
            "asset": a["asset_risk_spikes"],
            "events": a["high_impact_events"],
            "instant": b["instant_created"],
            "digest": b["digest_created"],
            "digests": d["digests_created"],
            "sent": c["deliveries"]["sent"] + c["digests"]["sent"],
            "failed": c["deliveries"]["failed"] + c["digests"]["failed"],
        }
    )


def _line(label: str, values: Mapping[str, int | str]) -> str:
    cells = (f"{values[column]:>8}" for column in COLUMNS)
    return " ".join((f"{label:<10}", *cells))


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = _parse(arguments)
    hooks = Hooks()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: hooks.stop.signalled.set())
    try:
        settings = prepare(os.environ)
        replay(settings, options.first, options.last, _print_line, hooks)
    except EXPLAINED as error:
        _report(f"error: {error}")
        return 1
    except psycopg2.OperationalError:
        # The driver's message is not shown because it names the host and the user.
        _report("error: the database does not answer")
        return 1
    return 0


def prepare(environ: Mapping[str, str]) -> Settings:
    """Migrate and load the database for the replay and return the replay's settings."""
    database_url = environ.get("DATABASE_URL", "").strip() or _embedded_database()
    settings = replay_settings(environ, database_url)
    setup_logging(redactor_for(settings), json_lines=False, level=logging.WARNING)
    migrations.migrate(database_url, report=_report)
    conn = db.open_session(database_url, application_name="alerts-sample")
    try:
        load_sample(conn, _report)
    finally:
        conn.close()
    return settings


def _embedded_database() -> str:
    server = ensure_server("dev")
    create_database(server.url(), DATABASE)
    return server.url(DATABASE)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="replay",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, dest in (("--from", "first"), ("--to", "last")):
        parser.add_argument(name, dest=dest, type=_day, required=True, metavar="YYYY-MM-DD")
    options = parser.parse_args(arguments)
    if options.last < options.first:
        parser.error(f"--to {options.last} is before --from {options.first}")
    return options


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date like 2022-02-24") from None


def _print_line(line: str) -> None:
    print(line, flush=True)


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
