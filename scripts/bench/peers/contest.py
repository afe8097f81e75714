"""One measurement: enqueues jobs in a database, runs them and accounts for every single one.

If a queue loses a job or runs one twice, its figure is rejected.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Protocol

import psycopg2

from scripts.bench.place import connect, database

ENQUEUE, BATCHED, RECORDED = "enqueue", "batched", "recorded"
FIGURES = (ENQUEUE, BATCHED, RECORDED)


class Unaccounted(Exception):
    """A job did not run exactly once, the database disagrees, or a crash would lose jobs."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A contestant's report: jobs enqueued or run, and how many distinct ones ran."""

    seconds: float
    ran: int
    distinct: int = 0


class Contestant(Protocol):
    """A queue; ``figures`` are those it can produce, ``lacks`` describes what it does not do.

    ``version`` is known once it has run, and is empty for this engine.
    """

    name: str
    lacks: str
    version: str

    @property
    def figures(self) -> tuple[str, ...]: ...

    def enqueue(self, url: str, jobs: int) -> Outcome:
        """Enqueue about this many jobs in an empty database; ``ran`` is the exact number."""

    def fill(self, url: str, jobs: int) -> None:
        """Make exactly this many jobs due, by any means."""

    def work_off(self, url: str, figure: str, jobs: int) -> Outcome:
        """Run every job; return once the database has recorded all of them."""

    def left_and_finished(self, cursor: psycopg2.extensions.cursor) -> tuple[int, int | None]:
        """Unfinished jobs, and finished ones (None if they are deleted)."""


def rate(contestant: Contestant, figure: str, jobs: int) -> float:
    """Jobs per second, measured in a separate database."""
    with database() as url:
        cursor = connect(url)
        settle(cursor)
        if figure == ENQUEUE:
            outcome = contestant.enqueue(url, jobs)
            left, finished = contestant.left_and_finished(cursor)
            check_total(contestant, left + (finished or 0), outcome.ran)
            return outcome.ran / outcome.seconds
        contestant.fill(url, jobs)
        check_counts(contestant, cursor, left=jobs, finished=0)
        check_logged(contestant, cursor)
        settle(cursor)
        outcome = contestant.work_off(url, figure, jobs)
        check_runs(contestant, outcome, jobs)
        check_counts(contestant, cursor, left=0, finished=jobs)
        return jobs / outcome.seconds


def settle(cursor: psycopg2.extensions.cursor) -> None:
    """Do the server's background work before the clock starts, for every contestant."""
    cursor.execute("VACUUM ANALYZE")
    with contextlib.suppress(psycopg2.errors.InsufficientPrivilege):
        cursor.execute("CHECKPOINT")


def check_runs(contestant: Contestant, outcome: Outcome, jobs: int) -> None:
    """Check that every job ran exactly once."""
    if outcome.distinct != jobs or outcome.ran != jobs:
        raise Unaccounted(
            f"{contestant.name}: of {jobs:,} jobs {outcome.distinct:,} ran, in {outcome.ran:,} runs"
        )


def check_total(contestant: Contestant, found: int, told: int) -> None:
    """Check that the database contains as many jobs as were enqueued."""
    if found != told:
        raise Unaccounted(f"{contestant.name}: enqueued {told:,} jobs, the database has {found:,}")


def check_counts(
    contestant: Contestant, cursor: psycopg2.extensions.cursor, *, left: int, finished: int
) -> None:
    """Check that the database agrees on what is left and what is finished."""
    found_left, found_finished = contestant.left_and_finished(cursor)
    if found_left != left or found_finished not in (None, finished):
        raise Unaccounted(
            f"{contestant.name}: {left:,} jobs should be left and {finished:,} finished,"
            f" the database says {found_left:,} and {found_finished}"
        )


def check_logged(contestant: Contestant, cursor: psycopg2.extensions.cursor) -> None:
    """Check that no table is unlogged, since all others pay for the write-ahead log."""
    cursor.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND relpersistence = 'u'")
    if names := [name for (name,) in cursor.fetchall()]:
        raise Unaccounted(f"{contestant.name}: a crash empties {', '.join(sorted(names))}")
