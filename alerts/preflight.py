"""Start-up checks: has a run all it needs? Each finding has a stable id and a hint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import psycopg2

from alerts import db, migrations, words
from alerts.access import access_of
from alerts.channels.names import SEND_CHANNELS
from alerts.findings import Findings
from alerts.health.badge import badge_address
from alerts.redaction import describe_exception, redactor_for
from alerts.runs import engine_state
from alerts.settings import owner
from alerts.settings.config import (
    DATABASES_DIFFER,
    ConfigError,
    Settings,
    require_database_url,
)
from alerts.settings.tokens import GOOD_TOKEN, MAKE_TOKEN, weak_tokens

OLDEST_SERVER = 140000  # PostgreSQL 14

FREE_PLAN = "SELECT count(*) AS plans FROM plan_settings WHERE plan_code = 'free'"


@dataclass
class Report(Findings):
    """The preflight's answer. It is there to be read: what really stops a run, the run records."""

    db_ok: bool = False
    migrations_ok: bool = False
    channels_configured: dict[str, bool] = field(default_factory=dict)
    providers: dict[str, str] = field(default_factory=dict)
    badge: str | None = None  # its address; not where CI is set, since logs can be public


def preflight(environ: Mapping[str, str]) -> Report:
    """Check configuration, database, migrations and channels; changes nothing."""
    report = Report(channels_configured=dict.fromkeys(SEND_CHANNELS, False))
    try:
        settings = Settings.from_env(environ)
    except ConfigError as error:
        for problem in error.problems:
            report.error("config_invalid", problem.message, f"Set {problem.variable} as it says.")
        return report
    _check_settings(settings, report)
    _check_channels(settings, report)
    _check_database(settings, report)
    return report


def _check_settings(settings: Settings, report: Report) -> None:
    if not settings.enabled:
        hint = "Set ALERTS_V2_ENABLED to true, or leave it empty, to run."
        report.warn("engine_disabled", "ALERTS_V2_ENABLED turns the engine off.", hint)
    if settings.enabled_unclear:
        hint = "Use true or false."
        text = "ALERTS_V2_ENABLED is neither yes nor no and counts as off."
        report.warn("enabled_unclear", text, hint)
    if settings.other_database_url is not None:
        hint = "Unset one of them; GitHub, the web app and this host are to use the same database."
        report.warn("databases_differ", f"{DATABASES_DIFFER}.", hint)
    if settings.clock is not None:
        text = f"Business time stands still at {settings.clock.isoformat()}."
        report.warn("clock_frozen", text, "Unset ALERTS_CLOCK in production.")
    if settings.allowlist is not None:
        users = words.count(len(settings.allowlist), "user")
        text = f"Nobody but {users} of the allowlist gets messages."
        hint = "Unset ALERTS_SEND_ALLOWLIST_USER_IDS to send to everyone."
        report.warn("allowlist_active", text, hint)
    if settings.app_base_url is None:
        hint = "Set ALERTS_APP_BASE_URL to the app's address."
        text = "Messages carry no link to the app, and emails none to unsubscribe."
        report.warn("app_base_url_missing", text, hint)
    _check_owner(settings, report)
    short = weak_tokens(settings)
    if short:
        text = f"{' and '.join(short)}: a token has fewer than {GOOD_TOKEN} characters."
        report.warn("token_short", text, f"Make a good one: {MAKE_TOKEN}")
    if not settings.internal_tokens:
        hint = "Set INTERNAL_RUNNER_TOKEN for the web app; the runner does not need it."
        report.warn("token_missing", "The admin endpoints answer 503 without a token.", hint)


def _check_owner(settings: Settings, report: Report) -> None:
    channels = list(settings.owner.addresses)
    if channels and not set(channels) & set(settings.channels.providers):
        names = " and ".join(owner.VARIABLES[channel] for channel in channels)
        text = f"The owner cannot be told: no run can send by {' or '.join(channels)} ({names})."
        report.warn("owner_unreachable", text, "Set up that channel, or use the other one's.")
    if not settings.owner.addresses and settings.owner.ping_url is None:
        names = " or ".join(owner.VARIABLES.values())
        hint = f"Set {names}, and {owner.PING_URL} to hear of it when no run comes any more."
        report.warn("owner_unknown", "Nobody is told when the status changes.", hint)


def _check_channels(settings: Settings, report: Report) -> None:
    channels = settings.channels
    report.providers = dict(channels.providers)
    report.channels_configured = {name: name in channels.providers for name in SEND_CHANNELS}
    for problem in channels.problems:
        hint = f"Set {problem.variable}, or unset the channel's other variables."
        report.error("channel_misconfigured", problem.message, hint)
    for unused in channels.unused:
        hint = f"Set {unused.variable} as it says, or unset it."
        report.warn("variable_unused", f"{unused.message}. No channel needs it.", hint)
    by_mail = channels.providers.get("email", "outbox") != "outbox"
    if by_mail and settings.app_base_url and not settings.app_base_url.startswith("https://"):
        text = "Emails carry no one-click unsubscription, which large mail providers ask for."
        hint = "Set ALERTS_APP_BASE_URL to an https address that reaches the web app."
        report.warn("one_click_missing", text, hint)
    if channels.off:
        text = f"Switched off: {', '.join(sorted(channels.off))}."
        report.warn("channel_off", text, "Unset ALERTS_CHANNELS_OFF to use all channels again.")
    if not channels.providers and not channels.problems:
        hint = "Set the credentials of at least one provider; see the README."
        text = "No channel is configured: every message would end as channel_not_configured."
        report.warn("no_channel", text, hint)
    if "outbox" in channels.providers.values():
        text = "Messages are written to files of ALERTS_OUTBOX_DIR, nobody gets them."
        report.warn("outbox_in_use", text, "Choose another EMAIL_PROVIDER in production.")


def _check_database(settings: Settings, report: Report) -> None:
    try:
        conn = db.open_session(
            require_database_url(settings),
            application_name="alerts-preflight",
            statement_timeout_ms=10_000,
            wait_seconds=db.WAKE_SECONDS,
        )
    except ConfigError as error:
        report.error("database_url_missing", str(error), "Set DATABASE_URL.")
        return
    except db.PoolerDetected as error:
        report.error("pooler_detected", str(error), "Use the database's direct address.")
        return
    except db.WrongServer as error:
        report.error("standby_server", f"{error}.", "Set DATABASE_URL to the primary's address.")
        return
    except psycopg2.Error as error:
        text = f"The database does not answer: {describe_exception(error, redactor_for(settings))}"
        report.error("database_unreachable", text, "Check DATABASE_URL and that the server is up.")
        return
    try:
        report.db_ok = conn.info.server_version >= OLDEST_SERVER
        if not report.db_ok:
            text = f"The server is version {conn.info.server_version // 10000}."
            report.error("server_too_old", text, "PostgreSQL 14 is the oldest that works.")
        _check_server(conn, report)
        if _check_access(conn, report):
            _check_migrations(conn, report)
            if report.migrations_ok:
                _check_senders(conn, settings, report)
                report.badge = None if settings.ci else badge_address(conn, settings)
    except psycopg2.Error as error:
        text = f"A check failed: {describe_exception(error, redactor_for(settings))}"
        report.error("database_check_failed", text, "See that the role may read the tables.")
    finally:
        conn.close()


def _check_server(conn: db.Connection, report: Report) -> None:
    encoding = conn.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        name = conn.info.dbname
        text = f"The database's encoding is {encoding}: not every text can be stored and read."
        hint = (
            f"Make a new one and move the data: createdb -T template0 -E UTF8 {name}_utf8; "
            f"pg_dump {name} | psql {name}_utf8 (texts that are not UTF-8 stop it and must be "
            "mended first); then name the new one in DATABASE_URL."
        )
        report.error("database_not_utf8", text, hint)
    if conn.info.parameter_status("default_transaction_read_only") == "on":
        text = "The database takes no writes: default_transaction_read_only is on."
        hint = "Some hosts set it when the disk is full; else ALTER ROLE or DATABASE ... RESET it."
        report.error("database_read_only", text, hint)


def _check_access(conn: db.Connection, report: Report) -> bool:
    """What the role may see and do; False when it may not even read what was migrated."""
    access = access_of(conn)
    if access.missing:
        listed = "; ".join(f"{', '.join(rights)} on {t}" for t, rights in access.missing.items())
        grants = "; ".join(
            f"GRANT {', '.join(rights)} ON {t} TO {access.role}"
            for t, rights in access.missing.items()
        )
        report.error("grants_missing", f"The role {access.role} lacks {listed}.", f"{grants};")
    policy = "; ".join(
        f"CREATE POLICY alerts_engine ON {table} TO {access.role} USING (true)"
        for table in (*access.hidden, *access.filtered)
    )
    hint = f"ALTER ROLE {access.role} BYPASSRLS; or {policy};"
    if access.hidden:
        report.error("row_security_hides", f"R{str(access)[1:]}.", hint)
    if access.filtered:
        text = (
            f"Row level security may hide rows of {', '.join(access.filtered)} from the role "
            f"{access.role}."
        )
        report.warn("row_security_filters", text, hint)
    return "schema_migrations" not in access.missing


def _check_migrations(conn: db.Connection, report: Report) -> None:
    try:
        found = migrations.status(conn)
    except migrations.MigrationError as error:
        report.error("migrations_unreadable", str(error), "Deploy the sql/ folder whole.")
        return
    report.migrations_ok = found.usable
    if found.pending:
        missing = words.count(len(found.pending), "migration")
        are = words.verb(len(found.pending), "is", "are")
        text = f"{missing} {are} not applied: {', '.join(found.pending)}."
        report.error("migrations_pending", text, "Run python scripts/migrate.py.")
    if found.newer and not found.incompatible:
        text = f"The database is newer than this version: it has {', '.join(found.newer)}."
        report.warn("database_newer", text, "Deploy the version that brought them here too.")
    differing = [*found.changed, *(name for name in found.missing if name not in found.newer)]
    differing += found.incompatible
    if differing:
        text = f"Applied migrations differ from the files: {', '.join(differing)}."
        report.error("migrations_differ", text, "Deploy the files that were applied.")
    if found.usable and not db.fetch_all(conn, FREE_PLAN)[0]["plans"]:
        text = "plan_settings has no plan 'free', which users without a plan fall back to."
        report.error("plan_free_missing", text, "Insert it again; sql/0003_plans.sql shows it.")


def _check_senders(conn: db.Connection, settings: Settings, report: Report) -> None:
    """Hosts share rate limits only if they agree on how many they are."""
    last = engine_state.current(conn, settings).senders
    if last != settings.senders:
        text = f"ALERTS_SENDERS is {settings.senders} here, and {last} where the engine last ran."
        hint = "Set the same on every host; after a change, run the others to make this go away."
        report.warn("senders_differ", text, hint)
