"""Apply the database migrations of sql/. See --help; the work is done by alerts.migrations."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from datetime import UTC
from pathlib import Path

# The script can be run by path from any folder, so import from the checkout.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from alerts import migrations
from alerts.migrations import MigrationError, MigrationStatus, Timeouts
from alerts.settings.config import (
    DATABASES_DIFFER,
    ConfigError,
    database_url_of,
    database_urls_differ,
)

DESCRIPTION = """\
Applies sql/NNNN_name.sql in order to the database that DATABASE_URL names. Each file runs in
one transaction together with its row in schema_migrations: it is applied completely or not at
all, and only once, even if several deploys run at the same time. It is safe to run again.
"""
EPILOG = """\
exit codes
  0  everything is applied (--status: what is applied matches the files)
  1  a file is out of sequence, misnamed, changed or missing; schema_migrations belongs to
     another tool or has a gap; an SQL error (with file and line); a table or another run
     blocked this one for too long; DATABASE_URL is not set; the database does not answer.
     Files applied before the error stay applied; the failing file is rolled back.
  2  wrong usage

environment
  DATABASE_URL  postgresql://user:password@host:5432/name (required, unless
                PRODUCTION_DATABASE_URL is set). A transaction pooler's
                address works too.
"""
DRY_RUN_HELP = """\
run all pending files in one transaction and roll it back: finds SQL errors and changes nothing
except values drawn from existing sequences. It holds the locks of all pending files until the
end, so a big table they change is blocked for that time; use it in a quiet hour. In rare cases,
files that work one by one fail in one transaction (a new enum value used by the next file)
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    # Ctrl-C ends the process at once, even during a long statement; the server rolls back.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    options = _parser().parse_args(arguments)
    try:
        if options.status:
            return _show_status(_database_url(), options.directory)
        return _migrate(options)
    except MigrationError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="migrate.py",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "--status",
        action="store_true",
        help="show every migration (applied at, pending, CHANGED, MISSING) and change nothing",
    )
    mode.add_argument("--dry-run", action="store_true", help=DRY_RUN_HELP)
    parser.add_argument(
        "--directory",
        type=Path,
        default=migrations.MIGRATIONS_DIR,
        metavar="DIR",
        help="folder with the files (default: sql/ in this repository)",
    )
    parser.add_argument(
        "--lock-timeout",
        type=_seconds,
        default=migrations.DEFAULT_TIMEOUTS.table_lock,
        metavar="SECONDS",
        help="how long a statement waits for a table in use (default: %(default)g)",
    )
    parser.add_argument(
        "--wait",
        type=_seconds,
        default=migrations.DEFAULT_TIMEOUTS.other_run,
        metavar="SECONDS",
        help="how long to wait for another migration run (default: %(default)g)",
    )
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 86400 seconds")
    return seconds


def _database_url() -> str:
    # Only this setting is read, so migrating works even if others are invalid.
    try:
        url = database_url_of(os.environ)
        if database_urls_differ(os.environ):
            print(f"warning: {DATABASES_DIFFER}", file=sys.stderr)
        return url
    except ConfigError as error:
        raise MigrationError(str(error)) from None


def _migrate(options: argparse.Namespace) -> int:
    applied = migrations.migrate(
        _database_url(),
        options.directory,
        report=_print_line,
        timeouts=Timeouts(table_lock=options.lock_timeout, other_run=options.wait),
        dry_run=options.dry_run,
    )
    if not applied:
        _print_line("nothing to do: every migration is applied")
    elif options.dry_run:
        _print_line(f"dry run: {len(applied)} would be applied; everything was rolled back")
    else:
        _print_line(f"done: {len(applied)} applied")
    return 0


def _show_status(database_url: str, directory: Path) -> int:
    found = migrations.status_of(database_url, directory)
    _print_table(found)
    found.refuse_unless_consistent()
    return 0


def _print_table(found: MigrationStatus) -> None:
    width = max(len(row.name) for row in found.rows)
    _print_line(f"{'version':<8} {'name':<{width}} state")
    for row in found.rows:
        when = f" {row.applied_at.astimezone(UTC):%Y-%m-%d %H:%M:%S%z}" if row.applied_at else ""
        _print_line(f"{row.version:04}     {row.name:<{width}} {row.state}{when}")


def _print_line(line: str) -> None:
    print(line, flush=True)  # so that a deploy's log shows it immediately


if __name__ == "__main__":
    raise SystemExit(main())
