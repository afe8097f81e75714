"""Play one bad day on the sample: 2022-03-09, on which providers refuse, stall and hang up.

The engine itself runs every half hour, with its real adapters, against a local stand-in for the
providers; nothing leaves the machine. What it stores is what such a day leaves behind:

    06:00  Brevo refuses our key: two runs fail and email waits; Twilio asks to slow down, all day
    06:50  the owner pauses email, gets a new key and resumes at 07:50
    08:00  email goes out, but Brevo hangs up over one recipient and is too busy for three
    09:00  four runs that GitHub does not start; the next one is 13 minutes late
    14:10  the owner allows more attempts and retries two of the failures
    19:00  the last run; its clock and the web app's are five minutes apart

The wall clock cannot be turned on, so after each run everything that was recorded is dated back
by the time until the next one. Played once; after that only its last run is repeated.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path

# The script can be run by path from any folder, so import from the checkout.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from psycopg2 import sql

from alerts import db
from alerts.engine import RunReport, RunRequest, run_engine
from alerts.logs import setup_logging
from alerts.redaction import redactor_for
from alerts.repair import pauses
from alerts.repair.requeue import RetryRequest, retry_failed
from alerts.settings.config import Settings
from scripts.sample.provider import EMAIL, SMS, Answer, provider

DAY = "2022-03-09"
BEFORE, AFTER = "2022-03-08T18:30:00+00:00", f"{DAY}T19:05:00+00:00"
INTERVAL_MINUTES = 30
LESS_THAN_A_CLOSING = 20.0  # seconds; a run with more time sits out a channel that closes for 30
OLD_KEY, NEW_KEY = "xkeysib-of-the-sample-old", "xkeysib-of-the-sample-new"
BY = "cli"
KEPT = ("DATABASE_URL", "ALERTS_APP_BASE_URL", "ALERTS_RUN_SPOOL")
FIXED = {
    "EMAIL_PROVIDER": "brevo",
    "EMAIL_FROM": "alerts@example.com",
    "TELEGRAM_BOT_TOKEN": "123456789:of-the-sample",
    "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
    "TWILIO_AUTH_TOKEN": "of-the-sample",
    "TWILIO_PHONE_NUMBER": "+12025550199",
    "ALERTS_EXPECTED_INTERVAL_MINUTES": str(INTERVAL_MINUTES),
    "ALERTS_ON_UNKNOWN_OUTCOME": "park",
    "ALERTS_RETRY_BASE_SECONDS": "3600",
    "ALERTS_RETRY_MAX_SECONDS": "14400",
    "ALERTS_SEND_WORKERS": "1",  # the same messages meet the same fate at every play
    "GITHUB_ACTIONS": "true",
    "GITHUB_EVENT_NAME": "schedule",
}

REFUSED_KEY = Answer(401, {"code": "unauthorized", "message": "Key not found"})
BUSY = Answer(503, {"code": "unavailable", "message": "Try later"})
HANGS_UP = Answer(0)
SLOW_DOWN = Answer(429, {"code": 20429, "message": "Too many requests"}, {"Retry-After": "5400"})
BLOCKED = Answer(
    403, {"ok": False, "error_code": 403, "description": "Forbidden: bot was blocked by the user"}
)
NO_CHAT = Answer(
    400, {"ok": False, "error_code": 400, "description": "Bad Request: chat not found"}
)

# What is on the wall clock, to be dated back.
WALL_TIMES = {
    "alerts_engine_runs": (
        *("started_at", "finished_at", "heartbeat_at", "scheduled_for", "created_at"),
    ),
    "alerts_engine_run_items": ("started_at", "finished_at"),
    "alerts_engine_state": ("first_at", "last_at"),
    "alerts_channel_state": ("closed_since", "closed_until", "last_success_at", "last_failure_at"),
    "alerts_pauses": ("paused_at",),
}
DATE_BACK = sql.SQL("UPDATE {} SET {}")
# The emails that wait for the new key.
WAITING = """
SELECT DISTINCT u.email
FROM user_alert_deliveries AS d
JOIN users AS u ON u.id = d.user_id
WHERE d.channel = 'email' AND d.delivery_kind = 'instant' AND d.status = 'queued'
ORDER BY u.email
"""
# The runs of the replay were half a day apart.
SPREAD_REPLAY = """
WITH numbered AS (
    SELECT id, run_id, row_number() OVER (ORDER BY started_at DESC) - 1 AS back
    FROM alerts_engine_runs
),
items AS (
    UPDATE alerts_engine_run_items AS i
    SET started_at = i.started_at - n.back * interval '12 hours',
        finished_at = i.finished_at - n.back * interval '12 hours'
    FROM numbered AS n
    WHERE n.run_id = i.run_id
)
UPDATE alerts_engine_runs AS r
SET started_at = r.started_at - n.back * interval '12 hours',
    finished_at = r.finished_at - n.back * interval '12 hours',
    heartbeat_at = r.heartbeat_at - n.back * interval '12 hours',
    created_at = r.created_at - n.back * interval '12 hours'
FROM numbered AS n
WHERE n.id = r.id
"""
PLAYED = "SELECT FROM alerts_admin_actions WHERE action = 'retry_failed' AND created_at > %s"


def at(time_of_day: str) -> datetime:
    return datetime.fromisoformat(f"{DAY}T{time_of_day}:00+00:00")


class Providers:
    """What the providers do to whom; changed as the day goes on."""

    def __init__(self) -> None:
        self.email: dict[str, Answer] = {}
        self._chats: list[str] = []
        self._texts = 0

    def answer(self, channel: str, recipient: str, headers: Mapping[str, str]) -> Answer | None:
        if channel == EMAIL:
            refused = headers.get("api-key") != NEW_KEY
            return REFUSED_KEY if refused else self.email.get(recipient)
        if channel == SMS:
            self._texts += 1
            return SLOW_DOWN if self._texts > 2 else None
        if recipient not in self._chats:
            self._chats.append(recipient)
        return dict(enumerate([BLOCKED, NO_CHAT])).get(self._chats.index(recipient))


class Day:
    """The day as it is played: the time, and the engine's variables."""

    def __init__(self, conn: db.Connection, environ: Mapping[str, str]) -> None:
        self.conn = conn
        self.environ = {**environ, "BREVO_API_KEY": OLD_KEY, "ALERTS_MAX_ATTEMPTS": "3"}
        self.now = datetime.fromisoformat(BEFORE)

    def settings(self) -> Settings:
        return Settings.from_env(self.environ)

    def pass_time(self, until: datetime) -> None:
        """Date back what was recorded so far, as if the wall clock had moved on."""
        passed, self.now = until - self.now, until
        with db.transaction(self.conn):
            for table, columns in WALL_TIMES.items():
                names = map(sql.Identifier, columns)
                moved = (sql.SQL("{0} = {0} - %(passed)s").format(name) for name in names)
                statement = DATE_BACK.format(sql.Identifier(table), sql.SQL(", ").join(moved))
                db.execute(self.conn, statement, {"passed": passed})

    def run(self, *times: str) -> RunReport:
        """Run the engine at each of these times; the last one's report."""
        for each in times:
            self.pass_time(at(each))
            report = run_last(self.settings(), self.now)
        return report

    @contextlib.contextmanager
    def act(self, time_of_day: str) -> Iterator[None]:
        """Something that the owner does, in a transaction."""
        self.pass_time(at(time_of_day))
        with db.transaction(self.conn):
            yield


def run_last(settings: Settings, now: datetime) -> RunReport:
    return run_engine(settings, RunRequest(now=now, max_seconds=LESS_THAN_A_CLOSING))


def half_hours(first: str, last: str) -> Iterator[str]:
    now = at(first)
    while now <= at(last):
        yield f"{now:%H:%M}"
        now += timedelta(minutes=INTERVAL_MINUTES)


def play(day: Day, providers: Providers) -> None:
    """Play the whole day, up to five minutes after its last run."""
    db.execute(day.conn, SPREAD_REPLAY)
    day.run(*half_hours("06:00", "06:30"))
    with day.act("06:50"):
        reason = "Brevo refuses our key; a new one is on its way"
        pauses.pause(day.conn, EMAIL, reason, now=day.now, token_key_id=BY, scrub=str)
    day.run(*half_hours("07:00", "07:30"))
    with day.act("07:50"):
        reason = "The new key is in place"
        pauses.resume(day.conn, EMAIL, reason, now=day.now, token_key_id=BY, scrub=str)
    day.environ["BREVO_API_KEY"] = NEW_KEY
    fates = [HANGS_UP, BUSY, BUSY, BUSY]
    waiting = [row["email"] for row in db.fetch_all(day.conn, WAITING)]
    providers.email = dict(zip(waiting, fates, strict=False))
    day.run("08:00", "08:30", "11:13", *half_hours("11:30", "14:00"))
    day.environ["ALERTS_MAX_ATTEMPTS"] = "6"
    with day.act("14:10"):
        asked = RetryRequest("deliveries", channel=EMAIL, limit=2)
        retry_failed(day.conn, day.settings(), asked, now=day.now, token_key_id=BY)
    busy = [email for email, fate in providers.email.items() if fate is BUSY]
    for email in busy[:1]:
        del providers.email[email]  # this one has room again
    day.run(*half_hours("14:30", "19:00"))
    day.pass_time(datetime.fromisoformat(AFTER))


def main(environ: Mapping[str, str] = os.environ) -> int:
    """Play the day, or its last run again; the exit code."""
    providers = Providers()
    with provider(providers.answer) as url:
        bases = dict.fromkeys(("BREVO_API_BASE", "TELEGRAM_API_BASE", "TWILIO_API_BASE"), url)
        kept = {name: environ[name] for name in KEPT if environ.get(name)}
        variables = {**kept, **FIXED, **bases}
        with contextlib.closing(
            db.open_session(environ["DATABASE_URL"], application_name="alerts-sample")
        ) as conn:
            day = Day(conn, variables)
            # The failures are meant, and the pages tell them.
            setup_logging(redactor_for(day.settings()), json_lines=False, level=logging.CRITICAL)
            if not db.fetch_all(conn, PLAYED, (at("00:00"),)):
                play(day, providers)
            else:
                day.environ |= {"BREVO_API_KEY": NEW_KEY, "ALERTS_MAX_ATTEMPTS": "6"}
                run_last(day.settings(), at("19:00"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
