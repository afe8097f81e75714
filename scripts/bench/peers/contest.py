"""One measurement: a database, jobs put into it, worked off, and every one of them accounted for.

A queue that loses a job or runs one twice has no speed worth telling: its figure is refused.
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
    """Not every job ran exactly once, or the database does not say so, or a crash would lose it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a contestant says of its work: jobs put in or run, and how many different ones ran."""

    seconds: float
    ran: int
    distinct: int = 0


class Contestant(Protocol):
    """A queue: ``figures`` are those that it has, ``lacks`` what it does not do.

    ``version`` is known once it has run, and empty where it goes without saying.
    """

    name: str
    lacks: str
    version: str

    @property
    def figures(self) -> tuple[str, ...]: ...

    def enqueue(self, url: str, jobs: int) -> Outcome:
        """Put about so many jobs into an empty database; ``ran`` says how many."""

    def fill(self, url: str, jobs: int) -> None:
        """Leave exactly so many jobs due, however that is done."""

    def work_off(self, url: str, figure: str, jobs: int) -> Outcome:
        """Run every job, and return when the database knows of all of them."""

    def left_and_finished(self, cursor: psycopg2.extensions.cursor) -> tuple[int, int | None]:
        """Jobs not finished, and finished ones (None where they are deleted)."""


def rate(contestant: Contestant, figure: str, jobs: int) -> float:
    """Jobs a second, measured in a database of its own."""
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
    """What the server does in its own time, done before the clock starts: for everybody."""
    cursor.execute("VACUUM ANALYZE")
    with contextlib.suppress(psycopg2.errors.InsufficientPrivilege):
        cursor.execute("CHECKPOINT")


def check_runs(contestant: Contestant, outcome: Outcome, jobs: int) -> None:
    """Every job ran exactly once."""
    if outcome.distinct != jobs or outcome.ran != jobs:
        raise Unaccounted(
            f"{contestant.name}: of {jobs:,} jobs {outcome.distinct:,} ran, in {outcome.ran:,} runs"
        )


def check_total(contestant: Contestant, found: int, told: int) -> None:
    """The database holds as many jobs as were put in."""
    if found != told:
        raise Unaccounted(f"{contestant.name}: enqueued {told:,} jobs, the database has {found:,}")


def check_counts(
    contestant: Contestant, cursor: psycopg2.extensions.cursor, *, left: int, finished: int
) -> None:
    """The database agrees on what is left and what is done."""
    found_left, found_finished = contestant.left_and_finished(cursor)
    if found_left != left or found_finished not in (None, finished):
        raise Unaccounted(
            f"{contestant.name}: {left:,} jobs should be left and {finished:,} finished,"
            f" the database says {found_left:,} and {found_finished}"
        )


def check_logged(contestant: Contestant, cursor: psycopg2.extensions.cursor) -> None:
    """No table is spared the write-ahead log, which everybody else pays for."""
    cursor.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND relpersistence = 'u'")
    if names := [name for (name,) in cursor.fetchall()]:
        raise Unaccounted(f"{contestant.name}: a crash empties {', '.join(sorted(names))}")
