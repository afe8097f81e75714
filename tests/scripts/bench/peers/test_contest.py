"""A figure counts only if every job ran exactly once and the database says the same."""

from __future__ import annotations

from dataclasses import dataclass, replace

import psycopg2
import pytest

from scripts.bench.peers.contest import (
    BATCHED,
    ENQUEUE,
    FIGURES,
    RECORDED,
    Outcome,
    Unaccounted,
    rate,
)
from scripts.bench.peers.ours import Ours
from scripts.bench.place import connect

JOBS = 7


@dataclass(frozen=True)
class Queue:
    """A queue in one real table, honest unless told otherwise."""

    name: str = "a queue"
    lacks: str = ""
    version: str = ""
    figures: tuple[str, ...] = FIGURES
    keyword: str = ""
    never_put_in: int = 0
    left_undone: int = 0
    ran_twice: int = 0
    never_ran: int = 0
    deletes: bool = False

    def enqueue(self, url: str, jobs: int) -> Outcome:
        cursor = connect(url)
        cursor.execute(f"CREATE {self.keyword} TABLE jobs (n int, done boolean DEFAULT FALSE)")
        put_in = jobs - self.never_put_in
        cursor.execute("INSERT INTO jobs SELECT generate_series(1, %s)", (put_in,))
        return Outcome(1.0, jobs)

    def fill(self, url: str, jobs: int) -> None:
        self.enqueue(url, jobs)

    def work_off(self, url: str, figure: str, jobs: int) -> Outcome:
        end = "DELETE FROM jobs" if self.deletes else "UPDATE jobs SET done = TRUE"
        connect(url).execute(f"{end} WHERE n > %s", (self.left_undone,))
        distinct = jobs - self.never_ran
        return Outcome(2.0, distinct + self.ran_twice, distinct)

    def left_and_finished(self, cursor: psycopg2.extensions.cursor) -> tuple[int, int | None]:
        cursor.execute("SELECT count(*) FILTER (WHERE NOT done), count(*) FROM jobs")
        left, found = cursor.fetchone() or (0, 0)
        return left, None if self.deletes else found - left


@pytest.fixture(autouse=True)
def server(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)


def bench_databases(database_url: str) -> set[str]:
    cursor = connect(database_url)
    cursor.execute("SELECT datname FROM pg_database WHERE datname LIKE 'alerts\\_bench\\_%'")
    found = {name for (name,) in cursor.fetchall()}
    cursor.connection.close()
    return found


@pytest.mark.parametrize("deletes", [False, True])
def test_an_honest_queue_has_its_rates(deletes: bool) -> None:
    queue = Queue(deletes=deletes)
    assert rate(queue, ENQUEUE, JOBS) == JOBS
    assert rate(queue, BATCHED, JOBS) == JOBS / 2
    assert rate(queue, RECORDED, JOBS) == JOBS / 2


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"never_ran": 1}, "of 7 jobs 6 ran, in 6 runs"),
        ({"ran_twice": 1}, "of 7 jobs 7 ran, in 8 runs"),
        ({"never_ran": 1, "ran_twice": 1}, "of 7 jobs 6 ran, in 7 runs"),
        ({"left_undone": 2}, "0 jobs should be left and 7 finished, the database says 2 and 5"),
        ({"left_undone": 2, "deletes": True}, "the database says 2 and None"),
        ({"never_put_in": 1}, "7 jobs should be left and 0 finished, the database says 6 and 0"),
        ({"keyword": "UNLOGGED"}, "a crash empties jobs"),
    ],
)
def test_a_queue_that_cannot_account_for_a_job_has_no_rate(
    fault: dict[str, object], words: str
) -> None:
    with pytest.raises(Unaccounted, match=f"a queue: .*{words}"):
        rate(replace(Queue(), **fault), BATCHED, JOBS)  # type: ignore[arg-type]


def test_a_queue_that_took_in_less_than_it_says_has_no_rate() -> None:
    with pytest.raises(Unaccounted, match="enqueued 7 jobs, the database has 6"):
        rate(Queue(never_put_in=1), ENQUEUE, JOBS)


def test_the_database_is_dropped_whether_or_not_the_figure_counts(database_url: str) -> None:
    before = bench_databases(database_url)
    rate(Queue(), BATCHED, JOBS)
    with pytest.raises(Unaccounted):
        rate(Queue(ran_twice=1), BATCHED, JOBS)
    assert bench_databases(database_url) <= before


@pytest.mark.parametrize("figure", FIGURES)
def test_this_engine_accounts_for_all_its_messages(figure: str) -> None:
    assert rate(Ours(), figure, JOBS) > 0
