"""How the incidents are made to happen: with real rows, runs, processes and servers."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg2
from psycopg2.extensions import connection as Connection

from alerts import VERSION, db, phases
from alerts.engine import RunReport, RunRequest, run_engine
from alerts.locks import lock_number
from alerts.repair import pauses
from alerts.runs.record import RunRecord
from tests.support.incident_runs import killed_run, refuse_inserts, unrecorded_run
from tests.support.provider_runs import environ as provider_environ
from tests.support.providers import Fault, HttpProvider, own_error, refusal
from tests.support.queue_world import queue_instants
from tests.support.run_world import Runner
from tests.support.web import add_run
from tests.support.world import add_alert, add_delivery, add_index, add_user, query, settings_for

ZONE = ZoneInfo("Europe/Amsterdam")
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
SCHEDULED = {"triggered_by": "github_actions_schedule"}


def at(moment: datetime) -> str:
    """The time as people say it on the day of the test."""
    there, today = moment.astimezone(ZONE), datetime.now(ZONE)
    clock = f"{there:%H:%M}"
    return clock if there.date() == today.date() else f"{there:%A} {clock}"


@dataclass
class World:
    """A database and a folder in which incidents happen; ``times`` fill the sentences."""

    conn: Connection
    url: str
    folder: Path
    stack: ExitStack
    times: dict[str, str] = field(default_factory=lambda: {"version": VERSION})

    def note(self, **moments: datetime) -> None:
        """Times that the sentence names."""
        self.times |= {name: at(moment) for name, moment in moments.items()}

    def provider(self) -> HttpProvider:
        """The providers' double, until the incident is over."""
        return self.stack.enter_context(HttpProvider())

    def run(self, phase: str = "all", **environ: str) -> RunReport:
        """A run with the real adapters, now; too short to wait for a channel that opens soon."""
        settings = settings_for(self.url, **environ)
        return run_engine(settings, RunRequest(phase=phase, max_seconds=20))

    def queue(self, count: int, channel: str = "email") -> list[int]:
        """Messages that are due."""
        return queue_instants(self.conn, count, channel, created_at=ago(MINUTE))

    def state(self, channel: str) -> dict[str, Any]:
        return query(self.conn, "SELECT * FROM alerts_channel_state WHERE channel = %s", channel)[0]

    def last_run(self) -> dict[str, Any]:
        text = "SELECT * FROM alerts_engine_runs ORDER BY started_at DESC, id DESC LIMIT 1"
        return query(self.conn, text)[0]


def ago(span: timedelta) -> datetime:
    return datetime.now(UTC) - span


def telegram(provider: HttpProvider) -> dict[str, str]:
    return provider_environ(provider)["telegram"]


def brevo(provider: HttpProvider) -> dict[str, str]:
    return provider_environ(provider)["brevo"]


# -- runs ------------------------------------------------------------------------------------


def phase_failed(world: World) -> None:
    refuse_inserts(world.conn, "alert_events")
    add_index(world.conn, 88, at=ago(HOUR))
    done = Runner(world.url, world.folder)("--phase", "all")
    assert done.returncode == 1, done.stderr
    world.note(run=world.last_run()["started_at"])


def killed(world: World) -> None:
    world.note(**killed_run(world.conn, world.url, world.folder, world.stack))


def killed_and_taken_over(world: World) -> None:
    world.note(**killed_run(world.conn, world.url, world.folder, world.stack))
    db.execute(world.conn, "UPDATE alerts_leases SET until = clock_timestamp() - interval '1 s'")
    world.run(
        ALERTS_OUTBOX_DIR=str(world.folder), EMAIL_PROVIDER="outbox", EMAIL_FROM="a@b.example"
    )
    world.note(next=world.last_run()["started_at"])


def schedule_dead(world: World) -> None:
    last = ago(HOUR)
    for minutes in (80, 70, 60):
        add_run(world.conn, started_at=ago(minutes * MINUTE), **SCHEDULED)
    world.note(since=last)


def nobody_starts(world: World) -> None:
    add_run(world.conn, started_at=ago(HOUR))
    world.note(since=ago(HOUR))


def late(world: World) -> None:
    for number in range(12, 2, -1):
        add_run(
            world.conn, started_at=ago((20 + 10 * number) * MINUTE), late_seconds=60, **SCHEDULED
        )
    for minutes in (33, 1):
        add_run(world.conn, started_at=ago(minutes * MINUTE), late_seconds=120, **SCHEDULED)
    world.note(since=ago(33 * MINUTE))


def locked_out(world: World) -> None:
    environ = {"ALERTS_OUTBOX_DIR": str(world.folder), "EMAIL_PROVIDER": "outbox"}
    other = world.stack.enter_context(closing(psycopg2.connect(world.url, application_name="psql")))
    (key,) = (phase.lock_key for phase in phases.PHASES if phase.letter == "c")
    db.execute(other, "SELECT pg_advisory_lock(%s)", (lock_number(key),))
    world.times["pid"] = str(other.info.backend_pid)
    for _ in range(3):
        world.run(**environ)
    starts = query(world.conn, "SELECT min(started_at) AS first FROM alerts_engine_runs")
    world.note(since=starts[0]["first"], connected=datetime.now(UTC))


def paused(world: World) -> None:
    add_run(world.conn)
    writer: dict[str, Any] = {"now": ago(HOUR), "token_key_id": "cli", "scrub": str}
    pauses.pause(world.conn, None, "the wrong headline went out", **writer)
    since = ago(2 * HOUR)
    db.execute(world.conn, "UPDATE alerts_pauses SET paused_at = %s", (since,))
    world.note(since=since)


def paused_for_long(world: World) -> None:
    paused(world)
    db.execute(
        world.conn,
        "UPDATE alerts_engine_runs SET started_at = started_at - interval '2 h',"
        " finished_at = finished_at - interval '2 h'",
    )


def switched_off(world: World) -> None:
    world.run("a")
    world.run("a", ALERTS_V2_ENABLED="false")
    world.note(since=datetime.now(UTC))


def only_dry_runs(world: World) -> None:
    world.run()
    world.queue(3)
    outbox = {"ALERTS_OUTBOX_DIR": str(world.folder), "EMAIL_FROM": "a@b.example"}
    runner = Runner(world.url, world.folder)
    done = runner("--phase", "all", "--dry-run", **outbox)
    assert done.returncode == 0, done.stderr
    world.note(run=world.last_run()["started_at"])


def unrecorded(world: World) -> None:
    world.note(**unrecorded_run(world.conn, world.url, world.folder, world.stack))


def unrecorded_locked(world: World) -> None:
    unrecorded(world)
    other = world.stack.enter_context(
        closing(psycopg2.connect(world.url, application_name="pgAdmin"))
    )
    db.execute(other, "LOCK TABLE alerts_engine_runs IN SHARE MODE")
    world.times["pid"] = str(other.info.backend_pid)
    world.note(connected=datetime.now(UTC))


def two_deployments(world: World) -> None:
    for number in range(4):
        cap = ("1000", "200")[number % 2]
        sha = ("1a2b3c4d5e", "9f8e7d6c5b")[number % 2]
        world.run("a", ALERTS_MAX_SEND_PER_RUN=cap, GITHUB_ACTIONS="true", GITHUB_SHA=sha)
    world.note(since=datetime.now(UTC))


def clock_wrong(world: World) -> None:
    add_run(world.conn, clock_skew_seconds=600)


def spooled(world: World) -> None:
    spool = world.folder / "spool.jsonl"
    started = ago(2 * HOUR)
    record = RunRecord("kept", "local", "no such phase", started, dry_run=False, status="failed")
    spool.write_text(replace(record, finished_at=started).as_line() + "\n")
    world.run(ALERTS_RUN_SPOOL=str(spool))
    world.note(since=started)


# -- channels --------------------------------------------------------------------------------


def key_refused(world: World) -> None:
    world.queue(3)
    settings = brevo(world.provider()) | {"BREVO_API_KEY": "xkeysib-of-last-year"}
    assert world.run("c", **settings).record.status == "failed"
    _note_closing(world, "email")


def provider_gone(world: World) -> None:
    world.queue(3)
    settings = brevo(world.provider()) | {"BREVO_API_BASE": "http://127.0.0.1:9"}
    world.run("c", ALERTS_RETRY_BASE_SECONDS="600", **settings)
    _note_closing(world, "email")


def provider_errs(world: World) -> None:
    provider = world.provider()
    before = ago(30 * MINUTE)
    db.execute(
        world.conn,
        "INSERT INTO alerts_channel_state (channel, last_success_at) VALUES ('email', %s)",
        (before,),
    )
    world.note(since=before)
    provider.rule = lambda request: refusal(503, own_error("brevo", 503))
    world.queue(4)
    world.run("c", ALERTS_RETRY_BASE_SECONDS="600", **brevo(provider))
    due = query(world.conn, "SELECT min(due_at) AS due FROM alerts_send_queue")[0]["due"]
    world.note(next=due)


def one_try_failed(world: World) -> None:
    provider = world.provider()
    provider.rule = lambda request: refusal(503, own_error("brevo", 503))
    world.queue(1)
    world.run("c", ALERTS_RETRY_BASE_SECONDS="600", **brevo(provider))
    due = query(world.conn, "SELECT min(due_at) AS due FROM alerts_send_queue")[0]["due"]
    world.note(next=due)


def slowed_down(world: World) -> None:
    provider = world.provider()
    body = {**own_error("telegram", 429, "Too Many Requests"), "parameters": {"retry_after": 900}}
    provider.rule = lambda request: refusal(429, body)
    world.queue(5, "telegram")
    world.run("c", **telegram(provider))
    _note_closing(world, "telegram")


def settings_lost(world: World) -> None:
    provider = world.provider()
    world.queue(1)
    world.run("c", **brevo(provider))
    world.queue(2)
    world.run("c", **telegram(provider))
    world.note(since=world.state("email")["closed_since"])


def settings_wrong(world: World) -> None:
    world.queue(2)
    world.run("c", BREVO_API_KEY="xkeysib-0123456789")
    world.note(since=world.state("email")["closed_since"])


def answered_by_a_proxy(world: World) -> None:
    provider = world.provider()
    page = Fault(status=200, body=b"<html>Please sign in</html>", headers={"X": "Y"})
    provider.rule = lambda request: page
    world.queue(3)
    world.run("c", **brevo(provider))
    _note_closing(world, "email")


def refused_at_once(world: World) -> None:
    provider = world.provider()
    body = own_error("telegram", 400, "Bad Request: chat not found")
    provider.rule = lambda request: refusal(400, body)
    world.queue(14, "telegram")
    world.run("c", ALERTS_SEND_WORKERS="1", ALERTS_SEND_BATCH_SIZE="10", **telegram(provider))
    world.note(run=world.last_run()["started_at"])


def channel_off(world: World) -> None:
    world.run(ALERTS_CHANNELS_OFF="sms")
    world.note(since=datetime.now(UTC))


def _note_closing(world: World, channel: str) -> None:
    state = world.state(channel)
    world.note(since=state["closed_since"], next=state["closed_until"])


# -- messages --------------------------------------------------------------------------------


def cap_too_low(world: World) -> None:
    provider = world.provider()
    world.queue(9)
    for _ in range(3):
        world.run("c", ALERTS_MAX_SEND_PER_RUN="2", **brevo(provider))
    starts = query(world.conn, "SELECT min(started_at) AS first FROM alerts_engine_runs")
    world.note(since=starts[0]["first"])


def claims_lapsed(world: World) -> None:
    add_run(world.conn)
    event = add_alert(world.conn, created_at=ago(10 * MINUTE))
    for _ in range(3):
        row = {"status": "sending", "created_at": ago(MINUTE), "claimed_until": ago(MINUTE / 2)}
        add_delivery(world.conn, add_user(world.conn), event, **row)


def parked(world: World) -> None:
    provider = world.provider()
    provider.rule = lambda request: Fault("close")
    world.queue(1)
    world.run("c", ALERTS_ON_UNKNOWN_OUTCOME="park", **brevo(provider))
    provider.rule = lambda request: None
    world.queue(20)
    world.run("c", ALERTS_ON_UNKNOWN_OUTCOME="park", **brevo(provider))


def exhausted(world: World) -> None:
    provider = world.provider()
    provider.rule = lambda request: refusal(503, own_error("brevo", 503))
    world.queue(2)
    world.run("c", ALERTS_MAX_ATTEMPTS="1", **brevo(provider))
    provider.rule = lambda request: None
    world.queue(60)
    world.run("c", **brevo(provider))


def blocked(world: World) -> None:
    provider = world.provider()
    body = own_error("telegram", 403, "Forbidden: bot was blocked by the user")
    provider.rule = lambda request: refusal(403, body)
    world.queue(1, "telegram")
    world.run("c", **telegram(provider))


def bad_address(world: World) -> None:
    provider = world.provider()
    user = add_user(world.conn, email="bob@example..com")
    event = add_alert(world.conn, created_at=ago(MINUTE))
    add_delivery(world.conn, user, event, created_at=ago(MINUTE))
    world.run("c", **brevo(provider))
    assert not provider.requests


# -- the set-up and the input ----------------------------------------------------------------


def allowlist(world: World) -> None:
    world.run("a", ALERTS_SEND_ALLOWLIST_USER_IDS="17")
    world.note(since=datetime.now(UTC))


def allowlist_forgotten(world: World) -> None:
    allowlist(world)
    db.execute(world.conn, "UPDATE alerts_engine_state SET first_at = first_at - interval '30 h'")
    world.note(since=datetime.now(UTC) - 30 * HOUR)


def migration_missing(world: World) -> None:
    add_run(world.conn)
    name = forget_newest_migration(world.conn)
    world.times["migration"] = name


def migration_missing_and_failing(world: World) -> None:
    world.times["migration"] = forget_newest_migration(world.conn)
    world.run("a")


def forget_newest_migration(conn: Connection) -> str:
    """Another version applied one less; its name."""
    text = (
        "DELETE FROM schema_migrations WHERE version = (SELECT max(version) FROM schema_migrations)"
        " RETURNING name"
    )
    name: str = query(conn, text)[0]["name"]
    return name


def input_stopped(world: World) -> None:
    newest = ago(31 * HOUR)
    add_index(world.conn, 88, at=newest)
    add_run(world.conn)
    world.note(since=newest)


def nothing_risky(world: World) -> None:
    add_index(world.conn, 41, at=ago(HOUR))
    add_index(world.conn, 54.3, region="Middle East", at=ago(2 * HOUR))
    world.run()
