"""Several hosts send at once (ALERTS_SENDERS): each message once, whoever dies."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection
from psycopg2.extras import Json

from alerts import db
from alerts.channels.base import Message
from alerts.health.report import get_health
from alerts.locks import LOCK_NOT_ACQUIRED, lock_number
from alerts.phases import PHASES
from alerts.phases.send import sender
from tests.support.providers import BOT_TOKEN, Fault, HttpProvider, Request
from tests.support.queue_world import lapse, queue_instants, row_of, statuses
from tests.support.run_world import Runner, phase_statuses
from tests.support.world import (
    RememberingChannel,
    all_channels,
    counts_of,
    lease,
    query,
    run,
    settings_for,
    value,
    wait_until,
)

RUNS = "SELECT counts -> 'c' AS c FROM alerts_engine_runs WHERE status = 'success' ORDER BY id"
PHASE_C = PHASES[-1]


@contextmanager
def taken(database_url: str, *keys: str) -> Iterator[None]:
    with closing(psycopg2.connect(database_url, application_name="another-host")) as other:
        for key in keys:
            db.execute(other, "SELECT pg_advisory_lock(%s)", (lock_number(key),))
        yield


def senders(many: int, **environ: str) -> dict[str, str]:
    return {"ALERTS_SENDERS": str(many), "ALERTS_DELIVERY_MAX_AGE_HOURS": "0", **environ}


# -- slots ---------------------------------------------------------------------------------


def test_the_first_slot_is_the_lock_of_versions_with_only_one() -> None:
    assert PHASE_C.lock_keys(1) == (PHASE_C.lock_key,)
    assert PHASE_C.lock_keys(3)[0] == PHASE_C.lock_key
    assert len(set(PHASE_C.lock_keys(64))) == 64
    for phase in PHASES[:-1]:
        assert phase.lock_keys(64) == (phase.lock_key,)  # A, B and D run on one host


@pytest.mark.parametrize(
    ("slots", "slot"), [((), 1), ((1,), 2), ((2,), 1), ((1, 3), 2), ((1, 2), 3), ((1, 2, 3), 0)]
)
def test_a_run_sends_in_the_first_free_slot_or_skips_the_phase(
    conn: Connection, database_url: str, slots: tuple[int, ...], slot: int
) -> None:
    keys = PHASE_C.lock_keys(3)
    with taken(database_url, *(keys[each - 1] for each in slots)):
        report = run(database_url, environ=senders(3))
    counts = report.record.counts["c"]
    assert report.record.status == "success"
    if slot:
        assert counts["sender"] == slot
    else:
        assert phase_statuses(report) == {**dict.fromkeys("abd", "success"), "c": "skipped"}
        assert counts == {"skipped": "lock_not_acquired"}


def test_without_the_setting_there_is_one_slot(conn: Connection, database_url: str) -> None:
    with taken(database_url, PHASE_C.lock_key):
        report = run(database_url, "c")
    assert (report.record.status, report.record.error_summary) == ("skipped", "lock_not_acquired")


def test_each_run_has_a_cap_of_its_own(conn: Connection, database_url: str) -> None:
    queue_instants(conn, 30)
    barrier = threading.Barrier(2, timeout=20)
    first = threading.local()

    def answer(message: Message) -> None:
        if not getattr(first, "met", False):  # so that both runs are sending
            first.met = True
            barrier.wait()

    environ = senders(2, ALERTS_MAX_SEND_PER_RUN="10", ALERTS_SEND_WORKERS="1")

    def host(_: int) -> dict[str, Any]:
        email = RememberingChannel(answer)
        return counts_of(run(database_url, "c", channels=all_channels(email=email),
                             environ=environ), "c")  # fmt: skip

    with ThreadPoolExecutor(2) as pool:
        counts = list(pool.map(host, range(2)))
    assert sorted(each["sender"] for each in counts) == [1, 2]
    assert [each["deliveries"]["sent"] for each in counts] == [10, 10]
    assert {each["stopped_early"] for each in counts} == {"cap"}
    assert statuses(conn) == {"sent": 20, "queued": 10}


# -- hosts as processes --------------------------------------------------------------------


class Hosts:
    """Runners of phase C as processes, through a provider that takes 200 ms for each message."""

    def __init__(self, database_url: str, folder: Path, provider: HttpProvider) -> None:
        self._all_send = threading.Event()
        provider.rule = self._take_200_ms
        self.runner = Runner(database_url, folder)
        self.environ = {
            "TELEGRAM_BOT_TOKEN": BOT_TOKEN,
            "TELEGRAM_API_BASE": provider.url,
            "ALERTS_RETRY_BASE_SECONDS": "1",
        }

    def _take_200_ms(self, request: Request) -> Fault:
        """Each message, and the first ones until all hosts have some to send."""
        assert self._all_send.wait(60)
        return Fault("slow", seconds=0.2)

    def start(
        self, conn: Connection, stack: ExitStack, many: int, **environ: str
    ) -> list[subprocess.Popen[bytes]]:
        hosts = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "alerts.runner", "--phase", "c", "--log-json"],
                    cwd=self.runner.folder,
                    env={**self.runner.environ, **self.environ, **senders(many), **environ},
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
            for _ in range(many)
        ]
        wait_until(lambda: value(conn, "SELECT count(DISTINCT run_id) FROM alerts_leases") == many)
        self._all_send.set()
        return hosts


def test_two_hosts_share_the_work_and_their_counts_add_up(
    conn: Connection, database_url: str, tmp_path: Path
) -> None:
    queue_instants(conn, 200, "telegram")
    with HttpProvider() as provider, ExitStack() as stack:
        hosts = Hosts(database_url, tmp_path, provider).start(conn, stack, 2)
        assert [host.wait(60) for host in hosts] == [0, 0]
        chats = Counter(message.destination for message in provider.accepted)
    assert len(chats) == 200 and set(chats.values()) == {1}
    counts = [row["c"] for row in query(conn, RUNS)]
    assert sorted(each["sender"] for each in counts) == [1, 2]
    assert all(each["deliveries"]["sent"] > 0 for each in counts)
    for name in ("claimed", "sent"):
        assert sum(each["deliveries"][name] for each in counts) == 200


def test_what_a_killed_host_held_the_living_finish(
    conn: Connection, database_url: str, tmp_path: Path
) -> None:
    """Of four hosts one is killed. Twice comes at most what it had handed over unrecorded."""
    workers = 8
    environ = {"ALERTS_SEND_WORKERS": str(workers), "ALERTS_RECORD_BATCH": "1"}
    queue_instants(conn, 400, "telegram")
    with HttpProvider() as provider, ExitStack() as stack:
        hosts = Hosts(database_url, tmp_path, provider).start(conn, stack, 4, **environ)
        wait_until(lambda: statuses(conn).get("sent", 0) >= 40)
        hosts[0].send_signal(signal.SIGKILL)
        assert [host.wait(60) for host in hosts] == [-signal.SIGKILL, 0, 0, 0]
        handed_over = Counter(message.destination for message in provider.accepted)
    found = statuses(conn)
    in_doubt = found.pop("sending")
    assert found == {"sent": 400 - in_doubt}
    assert set(handed_over.values()) == {1}

    lapse(conn)  # as two minutes do
    channels = all_channels()
    now = datetime.now(UTC)

    def living(_: int) -> dict[str, Any]:
        """Runs that find the leases at the same time."""
        report = run(database_url, "c", channels=channels, environ=senders(4, **environ), now=now)
        return counts_of(report, "c")["deliveries"]

    with ThreadPoolExecutor(3) as pool:
        rescued = [counts["rescued"] for counts in pool.map(living, range(3))]
    assert sum(rescued) == in_doubt  # each by one of them
    run(database_url, "c", channels=channels, environ=senders(4), now=now + timedelta(minutes=5))
    assert statuses(conn) == {"sent": 400}
    again = Counter(message.destination for message in channels["telegram"].sent)
    assert set(again.values()) == {1}
    assert len(handed_over.keys() & again.keys()) <= workers
    assert len(handed_over.keys() | again.keys()) == 400


def test_a_run_takes_over_what_lapses_while_it_sends(
    conn: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that sends for hours does not leave a dead one's messages to the next run."""
    monkeypatch.setattr(sender, "RENEW_SECONDS", 0.02)
    ids = queue_instants(conn, 6)
    lease(conn, ids[3:], claimed_by="dead", claimed_until=datetime.now(UTC) + timedelta(hours=1))
    dead = "SELECT count(*) FROM alerts_leases WHERE run_id = 'dead'"

    def answer(message: Message) -> None:
        if row_of(message) == ids[0]:
            lapse(conn)
            wait_until(lambda: value(conn, dead) == 0)

    channels = all_channels(email=RememberingChannel(answer))
    counts = counts_of(run(database_url, "c", channels=channels, environ=senders(2)), "c")
    assert (counts["deliveries"]["rescued"], counts["deliveries"]["claimed"]) == (3, 3)


# -- hosts that start together -------------------------------------------------------------


def reasons(conn: Connection) -> list[dict[str, Any]]:
    health = get_health(conn, settings_for("postgresql://unused"), datetime.now(UTC))
    found: list[dict[str, Any]] = health["reasons"]
    return found


def reason_codes(conn: Connection) -> set[str]:
    return {reason["code"] for reason in reasons(conn)}


def locked_out(conn: Connection) -> list[str]:
    return [each["message"] for each in reasons(conn) if each["code"] == "phase_locked_out"]


SKIP, DONE = {"b": {"skipped": LOCK_NOT_ACQUIRED}}, {"b": {"events_processed": 0}}


@pytest.mark.parametrize(
    ("hosts", "runs", "told"),
    [
        (1, [DONE, SKIP], False),
        (1, [DONE, SKIP, SKIP], True),
        (2, [DONE, SKIP, SKIP, DONE, DONE, SKIP], False),  # in turn the first and the second
        (2, [DONE, SKIP, SKIP], False),  # the one that does it has not ended yet
        (2, [DONE, SKIP, SKIP, SKIP, SKIP], True),
        (4, [DONE, *[SKIP] * 6], False),
        (4, [*[SKIP] * 8, DONE], False),
        (4, [DONE, *[SKIP] * 8], True),
        (64, [DONE, *[SKIP] * 126], False),
        (64, [DONE, *[SKIP] * 128], True),
    ],
)
def test_hosts_that_start_together_are_no_trouble(
    conn: Connection, database_url: str, hosts: int, runs: list[dict[str, Any]], told: bool
) -> None:
    """All but one find A, B and D under way. Trouble is what keeps all of them out twice."""
    run(database_url, "a", environ=senders(hosts))
    db.execute(
        conn,
        "INSERT INTO alerts_engine_runs"
        " (run_id, triggered_by, phase, started_at, finished_at, status, counts)"
        " SELECT 'host-' || n, 'local', 'all', clock_timestamp(), clock_timestamp(), 'success', c"
        " FROM unnest(%s::jsonb[]) WITH ORDINALITY AS r (c, n)",
        (list(map(Json, runs)),),
    )
    assert bool(locked_out(conn)) is told


def test_a_run_under_way_that_has_done_the_phase_counts(
    conn: Connection, database_url: str
) -> None:
    for _ in range(2):
        with taken(database_url, "alerts_v2_phase_b"):
            run(database_url)
    assert len(locked_out(conn)) == 1
    db.execute(
        conn,
        "INSERT INTO alerts_engine_runs (run_id, triggered_by, phase, started_at, status, counts)"
        " VALUES ('long', 'local', 'all', clock_timestamp(), 'running', %s)",
        (Json(DONE),),
    )
    assert locked_out(conn) == []


def test_rounds_of_several_hosts_leave_health_without_a_word(
    conn: Connection, database_url: str
) -> None:
    """Nothing is told that a single host's run does not cause."""
    run(database_url, environ=senders(4))
    of_one = reason_codes(conn)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            reports = list(pool.map(lambda _: run(database_url, environ=senders(4)), range(4)))
            assert {report.record.status for report in reports} == {"success"}
            assert reason_codes(conn) == of_one


def test_who_holds_the_slots_is_told(conn: Connection, database_url: str) -> None:
    one, two = PHASE_C.lock_keys(2)
    with taken(database_url, one), taken(database_url, two):
        for _ in range(4):
            run(database_url, environ=senders(2))
        (told,) = locked_out(conn)
    assert "another-host" in told
    assert "one of its 2 locks" in told
