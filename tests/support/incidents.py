"""The incidents that an owner asks about, each made to happen with real rows, runs and servers.

One list: the tests of health, of the command line and of the pages go through it, and the runbook
in ``replit.md`` shows its sentences. In a sentence ``{name}`` is a time of the incident; the
runbook shows that of ``EXAMPLE`` there.
"""

from __future__ import annotations

from collections.abc import Callable
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


@dataclass(frozen=True)
class Incident:
    """``make`` lets it happen; ``message`` and ``action`` are what its reason must say, ``code``
    which reason that is, ``status`` the verdict."""

    number: int
    name: str
    make: Callable[[World], None]
    code: str
    status: str
    message: str
    action: str
    variant: str = ""

    @property
    def id(self) -> str:
        return f"{self.number}{self.variant}-{self.name.replace(' ', '-')}"


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


_RUN = "Nothing at once: the next run closes it and takes over what it held."
_LOCK = "If nothing works there, end it in the database: SELECT pg_terminate_backend({pid})"
_AGAIN = "Once that is over, send them again with the retry page, or retry-failed deliveries"
INCIDENTS = (
    Incident(
        1, "a phase failed", phase_failed, "last_run_failed", "failing",
        "Phase A (generate events) failed in the run of {run}: RaiseException P0001: raised by "
        "function refuse. Phases B, D and C did their work.",
        "Mend that and start a run: nothing is done twice.",
    ),
    Incident(
        2, "the runner was killed", killed, "run_stale", "degraded",
        "The run of {run} has been silent since {heard}, so it was probably killed; it held 3 "
        "messages that may or may not have gone out.",
        _RUN,
    ),
    Incident(
        2, "the next run took over", killed_and_taken_over, "run_lost", "degraded",
        "The run of {run} died at {heard}, probably killed; the run of {next} took over the 3 "
        "messages it held, which may or may not have gone out.",
        "See the end of its log; a machine that is too small or a cancelled job looks so.",
        "b",
    ),
    Incident(
        3, "the schedule starts nothing", schedule_dead, "no_recent_success", "failing",
        "The schedule has started no run since {since}, though one is due every 10 minutes.",
        "On GitHub, under Actions, enable the workflow, and run it by hand meanwhile.",
    ),
    Incident(
        3, "nobody starts a run", nobody_starts, "no_recent_success", "failing",
        "Nothing has started a run since {since}, though one is due every 10 minutes.",
        "Start what calls python -m alerts.runner, and run it by hand meanwhile.",
        "b",
    ),
    Incident(
        4, "runs come late", late, "runs_late", "degraded",
        "Runs start late: the last one 22 minutes after its time, and so since {since}; usually "
        "it is 60 seconds.",
        "Nothing for a while: GitHub is busy. If it stays so, give the cron and "
        "ALERTS_EXPECTED_INTERVAL_MINUTES a longer interval.",
    ),
    Incident(
        5, "a lock is held", locked_out, "phase_locked_out", "degraded",
        "Phase C (send) has not run since {since}, in 3 runs: psql, connected since {connected}, "
        "holds its lock.",
        _LOCK,
    ),
    Incident(
        6, "paused", paused, "paused", "ok",
        "The engine has been paused since {since} by the command line: the wrong headline went "
        "out",
        "Resume it when the reason is gone; what waits goes out with the next run.",
    ),
    Incident(
        6, "paused for long", paused_for_long, "paused", "failing",
        "The engine has been paused since {since} by the command line: the wrong headline went "
        "out",
        "Resume it when the reason is gone; what waits goes out with the next run.",
        "b",
    ),
    Incident(
        7, "switched off by its variable", switched_off, "switched_off", "ok",
        "The variable ALERTS_V2_ENABLED has turned the engine off since {since}.",
        "Set it to true where the engine runs when alerts are to go out again.",
    ),
    Incident(
        8, "a key was refused", key_refused, "channel_held", "failing",
        "Brevo has refused our password or key since {since}; 3 messages on email wait.",
        "Renew BREVO_API_KEY where the engine runs and start a run. It is tried again at {next}.",
    ),
    Incident(
        9, "a provider is out of reach", provider_gone, "channel_closed", "degraded",
        "Brevo has been out of reach since {since}; 3 messages on email wait, and nothing is lost.",
        "Nothing yet. It is tried again at {next}. If it lasts, see the status page of Brevo.",
    ),
    Incident(
        9, "a provider answers with errors", provider_errs, "channel_failing", "degraded",
        "4 of 4 messages on email failed in the last 24 hours, because Brevo was out of order; the "
        "last one got through at {since}.",
        "They are tried again from {next} on.",
        "b",
    ),
    Incident(
        9, "one first try failed", one_try_failed, "channel_failing", "ok",
        "The first try of 1 message on email failed, because Brevo was out of order.",
        "It is tried again from {next} on.",
        "c",
    ),
    Incident(
        10, "a provider asks to slow down", slowed_down, "channel_closed", "degraded",
        "Telegram has asked us to slow down since {since}, until {next}; 5 messages on Telegram "
        "wait, and nothing is lost.",
        "Nothing yet. It is tried again at {next}.",
    ),
    Incident(
        11, "a channel lost its settings", settings_lost, "misconfigured", "failing",
        "Email has lost its settings since {since}: BREVO_API_KEY is no longer set; 2 messages on "
        "email wait.",
        "Set it again where the engine runs; or name the channel in ALERTS_CHANNELS_OFF if that is "
        "meant.",
    ),
    Incident(
        11, "a setting is missing", settings_wrong, "misconfigured", "failing",
        "Email cannot be used since {since}: EMAIL_FROM is missing or not as it should be; 2 "
        "messages on email wait.",
        "Set it where the engine runs; the preflight says what it takes. The next run sends.",
        "b",
    ),
    Incident(
        12, "the cap is too low", cap_too_low, "cap_reached", "degraded",
        "The last 3 runs, since {since}, ended at the limit of 2 messages, and 3 messages still "
        "wait; 9 messages came in within the last hour.",
        "Raise ALERTS_MAX_SEND_PER_RUN where the engine runs.",
    ),
    Incident(
        13, "claims lapsed", claims_lapsed, "sending_stuck", "degraded",
        "3 messages lost their sender and may or may not have gone out.",
        "Nothing at once: the next run takes over.",
    ),
    Incident(
        14, "sends in doubt were parked", parked, "parked", "degraded",
        "1 message on email of the last 7 days may or may not have been delivered, as no answer "
        "came; it is not sent again by itself.",
        "Look it up with Brevo; send again what is missing with the retry page, or retry-failed "
        "deliveries --include unknown.",
    ),
    Incident(
        15, "attempts are exhausted", exhausted, "attempts_exhausted", "ok",
        "2 messages on email were given up in the last 24 hours, after the last attempt, because "
        "Brevo was out of order.",
        f"{_AGAIN} --channel email --failure-code provider_unavailable --include exhausted.",
    ),
    Incident(
        16, "a recipient blocked us", blocked, "recipients_refused", "ok",
        "1 recipient on Telegram has blocked us in the last 24 hours.",
        "Ask the user; sending again will not help.",
    ),
    Incident(
        20, "an allowlist is on", allowlist, "allowlist", "ok",
        "An allowlist has limited alerts to 1 user since {since}; nobody else gets any.",
        "Remove ALERTS_SEND_ALLOWLIST_USER_IDS where the engine runs when the test is over.",
    ),
    Incident(
        20, "an allowlist was forgotten", allowlist_forgotten, "allowlist", "degraded",
        "An allowlist has limited alerts to 1 user since {since}; nobody else gets any.",
        "Remove ALERTS_SEND_ALLOWLIST_USER_IDS where the engine runs when the test is over.",
        "b",
    ),
    Incident(
        22, "a migration is missing", migration_missing, "migrations_pending", "degraded",
        "The database lacks the migration {migration} of version {version}; nothing fails by it "
        "yet.",
        "Run python scripts/migrate.py on this database.",
    ),
    Incident(
        22, "runs fail for want of a migration", migration_missing_and_failing,
        "migrations_pending", "failing",
        "The database lacks the migration {migration} of version {version}; runs fail by it.",
        "Run python scripts/migrate.py on this database.",
        "b",
    ),
    Incident(
        23, "runs are not recorded", unrecorded, "runs_not_recorded", "failing",
        "Messages go out, the last at {gone}, but no run has been recorded since {since}: the "
        "database does not take their records; the log of the last run says why.",
        "Mend that; the records wait in a file beside the runner, and the next run stores them.",
    ),
    Incident(
        23, "the table of runs is locked", unrecorded_locked, "runs_not_recorded", "failing",
        "Messages go out, the last at {gone}, but no run has been recorded since {since}: pgAdmin, "
        "connected since {connected}, keeps the table of runs locked.",
        _LOCK,
        "b",
    ),
    Incident(
        25, "the input stopped", input_stopped, "input_stale", "degraded",
        "No new risk score has come since {since}, which is 31 hours ago: no alert can arise from "
        "prices and regions.",
        "Look at the program that calculates the scores; the engine itself is not the cause.",
    ),
    Incident(
        26, "a channel is off on purpose", channel_off, "channel_off", "ok",
        "SMS has been switched off on purpose since {since}.",
        "Nothing; to use it again, take it out of ALERTS_CHANNELS_OFF where the engine runs.",
    ),
    Incident(
        27, "nothing was risky", nothing_risky, "nothing_risky", "ok",
        "Nothing was risky enough for an alert in the last 24 hours: the highest score was 54.3 "
        "(Middle East), and an alert takes 70.",
        "Nothing.",
    ),
    Incident(
        29, "two deployments on one database", two_deployments, "two_deployments", "degraded",
        "Two deployments have taken turns on this database since {since}: one with at most 200 "
        "messages a run and version 9f8e7d6, the other with at most 1,000 messages a run and "
        "version 1a2b3c4.",
        "Stop the one that should not run; the runs tell by whom each was started.",
    ),
    Incident(
        30, "the runner's clock is wrong", clock_wrong, "clock_skew", "degraded",
        "The clock of the machine that runs the engine is 10 minutes ahead of the database's.",
        "Set that clock: quotas, windows and ages go by it.",
    ),
    Incident(
        31, "a proxy answers", answered_by_a_proxy, "channel_held", "failing",
        "Something else has answered in the place of Brevo since {since} (Brevo 200: a web page "
        "instead of its API's answer); 3 messages on email wait.",
        "Check BREVO_API_BASE and every proxy on the way. It is tried again at {next}.",
    ),
    Incident(
        32, "many recipients refused at once", refused_at_once, "refused_at_once", "failing",
        "Telegram refused ten recipients in a row in the run of {run}, so it is rather our sender "
        "or account than the recipients; 14 messages on Telegram failed by it.",
        "See what Telegram says of our sender. Once that is mended, send them again with the "
        "retry page, or retry-failed deliveries --include refused.",
    ),
    Incident(
        33, "spooled records wait", spooled, "records_spooled", "degraded",
        "1 record of runs (the oldest of {since}) waits in a file beside the runner, as the "
        "database has not taken it.",
        "On that machine see why above each line of the file that ALERTS_RUN_SPOOL names (or its "
        ".rejected), mend it, and run python -m alerts replay-spool FILE.",
    ),
    Incident(
        34, "a dry run by hand", only_dry_runs, "dry_run", "ok",
        "The run of {run}, started by hand, was a dry run: it sent nothing by intent; 3 messages "
        "would have gone out.",
        "Start a run without the dry-run option to send.",
    ),
    Incident(
        35, "the address is no good", bad_address, "recipients_refused", "ok",
        "1 recipient on email has an address that is not valid or does not exist.",
        "Ask the user for another address; sending again to this one will not help.",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Refusal:
    """An incident that an error answer tells, as nothing of health can be asked."""

    number: int
    name: str
    code: str
    message: str


REFUSALS = (
    Refusal(
        22, "a table is missing", "migrations_pending",
        "The database lacks the migration {migration} of version {version}; run python "
        "scripts/migrate.py.",
    ),
    Refusal(
        24, "the token was rotated", "unauthorized",
        "The token that was sent is none of those that the web app was started with: the right one "
        "is in its variable INTERNAL_RUNNER_TOKEN, or for reading alone in INTERNAL_READ_TOKEN. "
        "After a change there the web app has to be started anew.",
    ),
    Refusal(
        28, "the database is down or hangs", "database_unavailable",
        "The database does not answer, since {since}. Nothing is lost: messages wait. See whether "
        "it runs, then whether DATABASE_URL still leads to it.",
    ),
)  # fmt: skip

# The times of the runbook.
EXAMPLE = {
    "since": "14:03", "run": "14:03", "heard": "14:04", "next": "14:18", "gone": "14:12",
    "connected": "13:40", "pid": "4711", "migration": "0012_unsubscribe", "version": VERSION,
}  # fmt: skip
