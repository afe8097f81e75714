"""A world full of canaries, programs that are watched, and the search through all tables."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Set
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from alerts.health.badge import badge_key
from tests.support import CHECKOUT
from tests.support.canaries import (
    ADMIN_TOKEN,
    BODY,
    CHAT,
    DATABASE_PASSWORD,
    EMAIL,
    HEADLINE,
    MAIL_PASSWORD,
    OWNER_CHAT,
    OWNER_EMAIL,
    PERSONAL,
    PHONE,
    PING_PATH,
    PRODUCTION_PASSWORD,
    READ_TOKEN,
    SECRETS,
    assert_clean,
)
from tests.support.leaving import link_of
from tests.support.prefork import run_module
from tests.support.providers import BOT_TOKEN, BREVO_KEY, RESEND_KEY, TWILIO_NUMBER, TWILIO_SID
from tests.support.providers import TWILIO_TOKEN as TWILIO
from tests.support.run_world import Runner
from tests.support.world import NOW, add_alert, add_delivery, add_index, add_pref, add_user, query

OWN_COLUMNS: dict[str, Set[str]] = {
    "users": {"email", "phone_number", "telegram_chat_id"},
    "events": {"title"},
    "alert_events": {"headline", "body"},
}


def stored_secrets(conn: Connection) -> tuple[str | bytes, ...]:
    """The keys that the database has made for itself, and what is derived from them: the badge's
    address and the signatures of every user's links."""
    rows = query(conn, "SELECT purpose, key FROM alerts_keys")
    keys = {row["purpose"]: bytes(row["key"]) for row in rows}
    users = [row["id"] for row in query(conn, "SELECT id FROM users")]
    return (*keys.values(), str(badge_key(conn)), *(signature(conn, user) for user in users))


def signature(conn: Connection, user_id: int) -> str:
    """The signed part of the user's links to unsubscribe."""
    return link_of(conn, user_id).rpartition("-")[2]


def assert_tables_clean(
    conn: Connection, own_columns: Mapping[str, Set[str]] = OWN_COLUMNS
) -> None:
    """Assert that no column contains a canary, except personal data where it belongs and keys in
    their own table."""
    stored = stored_secrets(conn)
    columns = query(
        conn,
        "SELECT c.relname AS name, array_agg(a.attname::text) AS columns"
        " FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'"
        " AND a.attnum > 0 AND NOT a.attisdropped GROUP BY c.relname",
    )
    assert {"alerts_engine_runs", "user_alert_deliveries"} <= {row["name"] for row in columns}
    for row in columns:
        own = own_columns.get(row["name"], frozenset())
        for column in row["columns"]:
            if row["name"] == "attack_values":  # created by the test itself
                continue
            wanted = sql.SQL("SELECT coalesce(string_agg({}::text, ' '), '') AS text FROM {}")
            statement = wanted.format(sql.Identifier(column), sql.Identifier(row["name"]))
            text = query(conn, statement.as_string(conn))[0]["text"]
            canaries = [*SECRETS, *(() if column in own else PERSONAL)]
            canaries += () if row["name"] == "alerts_keys" else stored
            assert_clean(f"{row['name']}.{column}", text, canaries)


def with_password(database_url: str, password: str = DATABASE_PASSWORD) -> str:
    """Return the address with the canary as password; a server that trusts the user ignores it."""
    parts = urlsplit(database_url)
    if parts.password:  # a server that requires a password gets the right one
        return database_url
    host = parts.netloc.rpartition("@")[2]
    user = parts.username or "postgres"
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}"))


def password_of(address: str) -> str:
    """The password of an address, decoded."""
    return unquote(urlsplit(address).password or DATABASE_PASSWORD)


def canary_environ() -> dict[str, str]:
    """Return every secret, for a runner; the test adds the providers' addresses."""
    production = quote(PRODUCTION_PASSWORD, safe="")
    return {
        "PRODUCTION_DATABASE_URL": f"postgresql://joe:{production}@127.0.0.1:9/x",
        "INTERNAL_RUNNER_TOKEN": ADMIN_TOKEN,
        "INTERNAL_READ_TOKEN": READ_TOKEN,
        "ALERTS_OWNER_EMAIL": OWNER_EMAIL,
        "ALERTS_OWNER_TELEGRAM_CHAT_ID": OWNER_CHAT,
        "ALERTS_PING_URL": f"http://127.0.0.1:9/{PING_PATH}",
        "EMAIL_FROM": "alerts@example.com",
        "BREVO_API_KEY": BREVO_KEY,
        "RESEND_API_KEY": RESEND_KEY,
        "SMTP_URL": f"smtp://alerts:{quote(MAIL_PASSWORD, safe='')}@127.0.0.1:9",
        "TELEGRAM_BOT_TOKEN": BOT_TOKEN,
        "TWILIO_ACCOUNT_SID": TWILIO_SID,
        "TWILIO_AUTH_TOKEN": TWILIO,
        "TWILIO_PHONE_NUMBER": TWILIO_NUMBER,
        "EMAIL_PROVIDER": "outbox",
        **{
            f"{name}_API_BASE": "http://127.0.0.1:9"
            for name in ("BREVO", "RESEND", "TELEGRAM", "TWILIO")
        },
    }


def canary_world(conn: Connection, emails: int = 1) -> int:
    """Insert a user with an address on every channel, due rows and work for A, B and D. Returns the
    user's id."""
    user = add_user(conn, "pro", email=EMAIL, telegram=CHAT, phone=PHONE)
    add_pref(conn, user)
    for number in range(emails):
        alert = canary_alert(conn)
        add_delivery(conn, user, alert, "email")
        if number == 0:
            add_delivery(conn, user, alert, "telegram")
            add_delivery(conn, user, alert, "sms")
            add_delivery(conn, user, alert, "telegram", kind="digest", created_at=OLD)
    add_index(conn, 85)
    query(
        conn,
        "INSERT INTO events (title, source_name, source_url, category, region, severity_score,"
        " event_time, inserted_at) VALUES (%s, 'wire', 'u', 'energy', 'Europe', 5, %s, %s)"
        " RETURNING id",
        HEADLINE,
        NOW,
        NOW,
    )
    return user


OLD = NOW.replace(day=NOW.day - 1)


def canary_alert(conn: Connection) -> int:
    """Insert an alert from yesterday with the canary's headline and body."""
    alert = add_alert(conn, headline=HEADLINE, created_at=OLD.replace(hour=20))
    query(conn, "UPDATE alert_events SET body = %s WHERE id = %s RETURNING id", BODY, alert)
    return alert


@dataclass
class Watched:
    """A runner whose entire output is searched after every command."""

    runner: Runner
    folder: Path
    canaries: tuple[str | bytes, ...] = (*SECRETS, *PERSONAL)
    said: list[str] = field(default_factory=list)  # standard error of every command

    def __call__(
        self,
        *arguments: str,
        module: str = "alerts.runner",
        program: str | None = None,
        **environ: str,
    ) -> subprocess.CompletedProcess[str]:
        # A run with less time left does not sit out a closed channel.
        if "--phase" in arguments and "--max-seconds" not in arguments:
            arguments = (*arguments, "--max-seconds", "25")
        own = {**self.runner.environ, **canary_environ(), **github(self.folder), **environ}
        done = (
            subprocess.run(
                [sys.executable, "-c", program, *arguments],
                cwd=self.folder,
                env=own,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            if program
            else run_module(module, arguments, self.folder, own)
        )
        self.check(done)
        return done

    def check(self, done: subprocess.CompletedProcess[str]) -> None:
        self.said.append(done.stderr)
        assert "Traceback" not in done.stderr, done.stderr
        assert_clean("standard output", done.stdout, self.canaries)
        assert_clean("standard error", done.stderr, self.canaries)
        for path in self.folder.glob("*"):
            if path.is_file():  # the spool and the step summary
                assert_clean(path.name, path.read_text(), self.canaries)

    def all_phases(self, **environ: str) -> subprocess.CompletedProcess[str]:
        return self("--phase", "all", "--now", NOW.isoformat(), "--log-json", **environ)


def github(folder: Path) -> dict[str, str]:
    """Run as a job on GitHub, so that annotations and the summary are written too."""
    return {
        "CI": "true",
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": "schedule",
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
    }


def watched(database_url: str, folder: Path) -> Watched:
    """Return a watched runner on the database, in an otherwise empty folder."""
    place = folder / "watched"
    place.mkdir()
    runner = Runner(with_password(database_url), folder)
    runner.environ["ALERTS_OUTBOX_DIR"] = str(folder / "outbox")
    # If the test server requires a password, search for that as well.
    given = password_of(runner.environ["DATABASE_URL"])
    try:
        with closing(psycopg2.connect(database_url)) as conn:
            stored = stored_secrets(conn)
    except psycopg2.OperationalError:  # an address that is to be refused
        stored = ()
    return Watched(runner, place, (*SECRETS, *PERSONAL, given, *stored))


def migrate(database_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``scripts/migrate.py`` on an address."""
    return subprocess.run(
        [sys.executable, str(CHECKOUT / "scripts" / "migrate.py"), *arguments],
        env={"PATH": "/usr/bin:/bin", "DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
