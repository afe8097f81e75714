"""The incidents that an owner asks about, and what is said of each.

One list: the tests of health, of the command line and of the pages go through it, and the runbook
in ``replit.md`` shows its sentences. In a sentence ``{name}`` is a time of the incident; the
runbook shows that of ``EXAMPLE`` there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from alerts import VERSION
from tests.support import incident_scenes as scenes
from tests.support.incident_scenes import World


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


_RUN = "Nothing at once: the next run closes it and takes over what it held."
_LOCK = "If nothing works there, end it in the database: SELECT pg_terminate_backend({pid})"
_AGAIN = "Once that is over, send them again with the retry page, or retry-failed deliveries"
INCIDENTS = (
    Incident(
        1, "a phase failed", scenes.phase_failed, "last_run_failed", "failing",
        "Phase A (generate events) failed in the run of {run}: RaiseException P0001: raised by "
        "function refuse. Phases B, D and C did their work.",
        "Mend that and start a run: nothing is done twice.",
    ),
    Incident(
        2, "the runner was killed", scenes.killed, "run_stale", "degraded",
        "The run of {run} has been silent since {heard}, so it was probably killed; it held 3 "
        "messages that may or may not have gone out.",
        _RUN,
    ),
    Incident(
        2, "the next run took over", scenes.killed_and_taken_over, "run_lost", "degraded",
        "The run of {run} died at {heard}, probably killed; the run of {next} took over the 3 "
        "messages it held, which may or may not have gone out.",
        "See the end of its log; a machine that is too small or a cancelled job looks so.",
        "b",
    ),
    Incident(
        3, "the schedule starts nothing", scenes.schedule_dead, "no_recent_success", "failing",
        "The schedule has started no run since {since}, though one is due every 10 minutes.",
        "On GitHub, under Actions, enable the workflow, and run it by hand meanwhile.",
    ),
    Incident(
        3, "nobody starts a run", scenes.nobody_starts, "no_recent_success", "failing",
        "Nothing has started a run since {since}, though one is due every 10 minutes.",
        "Start what calls python -m alerts.runner, and run it by hand meanwhile.",
        "b",
    ),
    Incident(
        4, "runs come late", scenes.late, "runs_late", "degraded",
        "Runs start late: the last one 22 minutes after its time, and so since {since}; usually "
        "it is 60 seconds.",
        "Nothing for a while: GitHub is busy. If it stays so, give the cron and "
        "ALERTS_EXPECTED_INTERVAL_MINUTES a longer interval.",
    ),
    Incident(
        5, "a lock is held", scenes.locked_out, "phase_locked_out", "degraded",
        "Phase C (send) has not run since {since}, in 3 runs: psql, connected since {connected}, "
        "holds its lock.",
        _LOCK,
    ),
    Incident(
        6, "paused", scenes.paused, "paused", "ok",
        "The engine has been paused since {since} by the command line: the wrong headline went "
        "out",
        "Resume it when the reason is gone; what waits goes out with the next run.",
    ),
    Incident(
        6, "paused for long", scenes.paused_for_long, "paused", "failing",
        "The engine has been paused since {since} by the command line: the wrong headline went "
        "out",
        "Resume it when the reason is gone; what waits goes out with the next run.",
        "b",
    ),
    Incident(
        7, "switched off by its variable", scenes.switched_off, "switched_off", "ok",
        "The variable ALERTS_V2_ENABLED has turned the engine off since {since}.",
        "Set it to true where the engine runs when alerts are to go out again.",
    ),
    Incident(
        8, "a key was refused", scenes.key_refused, "channel_held", "failing",
        "Brevo has refused our password or key since {since}; 3 messages on email wait.",
        "Renew BREVO_API_KEY where the engine runs and start a run. It is tried again at {next}.",
    ),
    Incident(
        9, "a provider is out of reach", scenes.provider_gone, "channel_closed", "degraded",
        "Brevo has been out of reach since {since}; 3 messages on email wait, and nothing is lost.",
        "Nothing yet. It is tried again at {next}. If it lasts, see the status page of Brevo.",
    ),
    Incident(
        9, "a provider answers with errors", scenes.provider_errs, "channel_failing", "degraded",
        "4 of 4 messages on email failed in the last 24 hours, because Brevo was out of order; the "
        "last one got through at {since}.",
        "They are tried again from {next} on.",
        "b",
    ),
    Incident(
        9, "one first try failed", scenes.one_try_failed, "channel_failing", "ok",
        "The first try of 1 message on email failed, because Brevo was out of order.",
        "It is tried again from {next} on.",
        "c",
    ),
    Incident(
        10, "a provider asks to slow down", scenes.slowed_down, "channel_closed", "degraded",
        "Telegram has asked us to slow down since {since}, until {next}; 5 messages on Telegram "
        "wait, and nothing is lost.",
        "Nothing yet. It is tried again at {next}.",
    ),
    Incident(
        11, "a channel lost its settings", scenes.settings_lost, "misconfigured", "failing",
        "Email has lost its settings since {since}: BREVO_API_KEY is no longer set; 2 messages on "
        "email wait.",
        "Set it again where the engine runs; or name the channel in ALERTS_CHANNELS_OFF if that is "
        "meant.",
    ),
    Incident(
        11, "a setting is missing", scenes.settings_wrong, "misconfigured", "failing",
        "Email cannot be used since {since}: EMAIL_FROM is missing or not as it should be; 2 "
        "messages on email wait.",
        "Set it where the engine runs; the preflight says what it takes. The next run sends.",
        "b",
    ),
    Incident(
        12, "the cap is too low", scenes.cap_too_low, "cap_reached", "degraded",
        "The last 3 runs, since {since}, ended at the limit of 2 messages, and 3 messages still "
        "wait; 9 messages came in within the last hour.",
        "Raise ALERTS_MAX_SEND_PER_RUN where the engine runs.",
    ),
    Incident(
        13, "claims lapsed", scenes.claims_lapsed, "sending_stuck", "degraded",
        "3 messages lost their sender and may or may not have gone out.",
        "Nothing at once: the next run takes over.",
    ),
    Incident(
        14, "sends in doubt were parked", scenes.parked, "parked", "degraded",
        "1 message on email of the last 7 days may or may not have been delivered, as no answer "
        "came; it is not sent again by itself.",
        "Look it up with Brevo; send again what is missing with the retry page, or retry-failed "
        "deliveries --include unknown.",
    ),
    Incident(
        15, "attempts are exhausted", scenes.exhausted, "attempts_exhausted", "ok",
        "2 messages on email were given up in the last 24 hours, after the last attempt, because "
        "Brevo was out of order.",
        f"{_AGAIN} --channel email --failure-code provider_unavailable --include exhausted.",
    ),
    Incident(
        16, "a recipient blocked us", scenes.blocked, "recipients_refused", "ok",
        "1 recipient on Telegram has blocked us in the last 24 hours.",
        "Ask the user; sending again will not help.",
    ),
    Incident(
        20, "an allowlist is on", scenes.allowlist, "allowlist", "ok",
        "An allowlist has limited alerts to 1 user since {since}; nobody else gets any.",
        "Remove ALERTS_SEND_ALLOWLIST_USER_IDS where the engine runs when the test is over.",
    ),
    Incident(
        20, "an allowlist was forgotten", scenes.allowlist_forgotten, "allowlist", "degraded",
        "An allowlist has limited alerts to 1 user since {since}; nobody else gets any.",
        "Remove ALERTS_SEND_ALLOWLIST_USER_IDS where the engine runs when the test is over.",
        "b",
    ),
    Incident(
        22, "a migration is missing", scenes.migration_missing, "migrations_pending", "degraded",
        "The database lacks the migration {migration} of version {version}; nothing has failed "
        "because of it yet.",
        "Run python scripts/migrate.py on this database.",
    ),
    Incident(
        22, "runs fail for want of a migration", scenes.migration_missing_and_failing,
        "migrations_pending", "failing",
        "The database lacks the migration {migration} of version {version}; runs fail because of "
        "it.",
        "Run python scripts/migrate.py on this database.",
        "b",
    ),
    Incident(
        23, "runs are not recorded", scenes.unrecorded, "runs_not_recorded", "failing",
        "Messages go out, the last at {gone}, but no run has been recorded since {since}: the "
        "database does not take their records; the log of the last run says why.",
        "Mend that; the records wait in a file beside the runner, and the next run stores them.",
    ),
    Incident(
        23, "the table of runs is locked", scenes.unrecorded_locked, "runs_not_recorded", "failing",
        "Messages go out, the last at {gone}, but no run has been recorded since {since}: pgAdmin, "
        "connected since {connected}, keeps the table of runs locked.",
        _LOCK,
        "b",
    ),
    Incident(
        25, "the input stopped", scenes.input_stopped, "input_stale", "degraded",
        "No new risk score has come since {since}, which is 31 hours ago: no alert can arise from "
        "prices and regions.",
        "Look at the program that calculates the scores; the engine itself is not the cause.",
    ),
    Incident(
        26, "a channel is off on purpose", scenes.channel_off, "channel_off", "ok",
        "SMS has been switched off on purpose since {since}.",
        "Nothing; to use it again, take it out of ALERTS_CHANNELS_OFF where the engine runs.",
    ),
    Incident(
        27, "nothing was risky", scenes.nothing_risky, "nothing_risky", "ok",
        "Nothing was risky enough for an alert in the last 24 hours: the highest score was 54.3 "
        "(Middle East), and an alert takes 70.",
        "Nothing.",
    ),
    Incident(
        29, "two deployments on one database", scenes.two_deployments, "two_deployments",
        "degraded",
        "Two deployments have taken turns on this database since {since}: one with at most 200 "
        "messages a run and version 9f8e7d6, the other with at most 1,000 messages a run and "
        "version 1a2b3c4.",
        "Stop the one that should not run; the runs tell by whom each was started.",
    ),
    Incident(
        30, "the runner's clock is wrong", scenes.clock_wrong, "clock_skew", "degraded",
        "The clock of the machine that runs the engine is 10 minutes ahead of the database's.",
        "Set that clock: quotas, windows and ages go by it.",
    ),
    Incident(
        31, "a proxy answers", scenes.answered_by_a_proxy, "channel_held", "failing",
        "Something else has answered instead of Brevo since {since} (Brevo 200: a web page "
        "instead of its API's answer); 3 messages on email wait.",
        "Check BREVO_API_BASE and every proxy on the way. It is tried again at {next}.",
    ),
    Incident(
        32, "many recipients refused at once", scenes.refused_at_once, "refused_at_once", "failing",
        "Telegram refused ten recipients in a row in the run of {run}, so our sender or "
        "account is the likelier cause; 14 messages on Telegram failed because of it.",
        "See what Telegram says of our sender. Once that is mended, send them again with the "
        "retry page, or retry-failed deliveries --include refused.",
    ),
    Incident(
        33, "spooled records wait", scenes.spooled, "records_spooled", "degraded",
        "1 record of runs (the oldest of {since}) waits in a file beside the runner, as the "
        "database has not taken it.",
        "On that machine see why above each line of the file that ALERTS_RUN_SPOOL names (or its "
        ".rejected), mend it, and run python -m alerts replay-spool FILE.",
    ),
    Incident(
        34, "a dry run by hand", scenes.only_dry_runs, "dry_run", "ok",
        "The run of {run}, started by hand, was a dry run: it sent nothing by intent; 3 messages "
        "would have gone out.",
        "Start a run without the dry-run option to send.",
    ),
    Incident(
        35, "the address is no good", scenes.bad_address, "recipients_refused", "ok",
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
