"""``Settings.from_env(environ)``: the one reader of the environment.

An empty value is an unset one. A value that does not parse raises :class:`ConfigError` with
the variable's name, what it got and what it takes; secrets are never echoed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from alerts.channels import PROVIDERS, SECRET_NAMES
from alerts.channels.choosing import ChannelSettings, read_channels
from alerts.channels.names import KINDS, SEND_CHANNELS
from alerts.db import problem_of_url
from alerts.readers import IDS, TIME, comma_list, switch
from alerts.settings.env import (
    ConfigError,
    EnvReader,
    Problem,
    Secret,
    parse_web_address,
)
from alerts.settings.owner import SECRET_NAMES as OWNER_SECRETS
from alerts.settings.owner import OwnerSettings, read_owner

__all__ = [
    "ConfigError",
    "GitHub",
    "Problem",
    "Secret",
    "Settings",
    "database_url_of",
    "require_database_url",
]

# The first that is set is used. Some hosts keep the address of the database that is deployed apart
# from that of development.
DATABASE_VARIABLES = ("DATABASE_URL", "PRODUCTION_DATABASE_URL")
DATABASES_DIFFER = (
    "DATABASE_URL and PRODUCTION_DATABASE_URL name different databases; DATABASE_URL is used"
)
DATABASE_URL_MISSING = (
    "DATABASE_URL is not set (nor PRODUCTION_DATABASE_URL); it takes the address of the PostgreSQL "
    "database, "
    "postgresql://user:password@host:5432/name"
)


@dataclass(frozen=True)
class GitHub:
    """What GitHub Actions says of the job, all None or False elsewhere."""

    actions: bool = False
    event_name: str | None = None
    sha: str | None = None
    server_url: str | None = None
    repository: str | None = None
    run_id: str | None = None
    run_attempt: int = 1
    step_summary: Path | None = None

    @property
    def triggered_by(self) -> str:
        """``github_actions_schedule``, ``github_actions_manual`` or ``local``."""
        if not self.actions:
            return "local"
        scheduled = self.event_name == "schedule"
        return "github_actions_schedule" if scheduled else "github_actions_manual"

    @property
    def is_rerun(self) -> bool:
        """Whether somebody started the job again."""
        return self.actions and self.run_attempt > 1

    @property
    def run_url(self) -> str | None:
        """The page of the workflow run; None outside GitHub."""
        if not (self.actions and self.server_url and self.repository and self.run_id):
            return None
        return f"{self.server_url}/{self.repository}/actions/runs/{self.run_id}"


@dataclass(frozen=True)
class Settings:
    """Everything the environment decides. Times are seconds unless the name says otherwise."""

    database_url: Secret | None
    other_database_url: Secret | None  # set too, not used, and another one
    internal_tokens: tuple[Secret, ...]
    read_tokens: tuple[Secret, ...]
    public_host: bool  # the web app is reached from the internet
    enabled: bool
    enabled_unclear: bool  # ALERTS_V2_ENABLED holds a word that is neither yes nor no
    send_batch_size: int
    send_workers: int
    senders: int  # hosts that may send at once
    record_batch: int
    max_attempts: int
    retry_base_seconds: int
    retry_max_seconds: int
    rate_limits_per_minute: Mapping[str, int | None]  # by channel; None: unlimited
    max_send_per_run: int
    allowlist: tuple[int, ...] | None  # None: everyone
    digest_period: str
    timezone: ZoneInfo
    app_base_url: str | None
    expected_interval_minutes: int
    park_unknown_outcomes: bool
    delivery_max_age_hours: int  # 0: never too old
    input_max_age_hours: int  # of the newest risk score; 0: never too old
    provider_timeout_seconds: int  # for each step until a message is handed over
    provider_answer_seconds: int  # for the answer after that
    run_spool: Path
    clock: datetime | None
    ci: bool
    channels: ChannelSettings
    owner: OwnerSettings
    github: GitHub

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Read and check every variable; raises :class:`ConfigError` naming all that fail.

        Those of channels alone raise nothing: see :class:`ChannelSettings`.
        """
        env = EnvReader(environ, SECRET_NAMES | OWNER_SECRETS)
        of_channels = env.apart()  # what is wrong there stops its channel alone
        enabled = switch(env.text("ALERTS_V2_ENABLED") or "true")
        settings = cls(
            database_url=_database_url(env),
            other_database_url=_other_database_url(env),
            internal_tokens=_tokens(env, "INTERNAL_RUNNER_TOKEN"),
            read_tokens=_tokens(env, "INTERNAL_READ_TOKEN"),
            public_host=env.text("PORT") is not None,
            enabled=enabled is True,
            enabled_unclear=enabled is None,
            send_batch_size=env.integer("ALERTS_SEND_BATCH_SIZE", 200, 1, 10_000),
            send_workers=env.integer("ALERTS_SEND_WORKERS", 8, 1, 128),
            senders=env.integer("ALERTS_SENDERS", 1, 1, 64),
            record_batch=env.integer("ALERTS_RECORD_BATCH", 200, 1, 10_000),
            max_attempts=env.integer("ALERTS_MAX_ATTEMPTS", 5, 1, 100),
            retry_base_seconds=env.integer("ALERTS_RETRY_BASE_SECONDS", 60, 1, 86_400),
            retry_max_seconds=env.integer("ALERTS_RETRY_MAX_SECONDS", 3600, 1, 604_800),
            rate_limits_per_minute={
                kind.name: of_channels.optional_integer(kind.rate_limit_variable, 1, 1_000_000)
                for kind in KINDS
                if not kind.sent_on_creation
            },
            max_send_per_run=env.integer("ALERTS_MAX_SEND_PER_RUN", 1000, 1, 1_000_000),
            allowlist=env.parsed(
                "ALERTS_SEND_ALLOWLIST_USER_IDS",
                None,
                IDS.read,
                f"{IDS.takes}, or nothing for everyone",
            ),
            digest_period=env.choice("ALERTS_DIGEST_PERIOD", "daily", ("daily", "hourly"))
            or "daily",
            timezone=env.parsed(
                "ALERTS_TIMEZONE", _zone("Europe/Amsterdam"), _zone, "a zone like Europe/Amsterdam"
            ),
            app_base_url=env.parsed(
                "ALERTS_APP_BASE_URL",
                None,
                parse_web_address,
                "an address like https://example.com",
            ),
            expected_interval_minutes=env.integer(
                "ALERTS_EXPECTED_INTERVAL_MINUTES", 10, 1, 10_080
            ),
            park_unknown_outcomes=env.choice(
                "ALERTS_ON_UNKNOWN_OUTCOME", "resend", ("resend", "park")
            )
            == "park",
            delivery_max_age_hours=env.integer("ALERTS_DELIVERY_MAX_AGE_HOURS", 72, 0, 87_600),
            input_max_age_hours=env.integer("ALERTS_INPUT_MAX_AGE_HOURS", 26, 0, 8760),
            provider_timeout_seconds=env.integer("ALERTS_PROVIDER_TIMEOUT_SECONDS", 10, 1, 300),
            provider_answer_seconds=env.integer("ALERTS_PROVIDER_ANSWER_SECONDS", 60, 1, 600),
            run_spool=Path(env.text("ALERTS_RUN_SPOOL") or "alerts_runs_spool.jsonl"),
            clock=env.value("ALERTS_CLOCK", None, TIME),
            ci=switch(env.text("CI") or "") is True,
            channels=read_channels(of_channels, PROVIDERS, _channels_off(env)),
            owner=read_owner(env),
            github=_github(env),
        )
        if env.problems:
            raise ConfigError(env.problems)
        return settings


def job_settings(environ: Mapping[str, str], *names: str) -> Settings:
    """Settings of ``names`` and of what CI and GitHub say of the job, which always parses.

    For what is to be said, and where, when the rest does not parse.
    """
    return Settings.from_env(
        {
            name: value
            for name, value in environ.items()
            if name in names or name == "CI" or name.startswith("GITHUB_")
        }
    )


def database_url_of(environ: Mapping[str, str]) -> str:
    """The database's URL, for a program that needs nothing else to be right.

    Raises :class:`ConfigError`.
    """
    env = EnvReader(environ)
    url = _database_url(env)
    if url is None:
        raise ConfigError(env.problems or [Problem("DATABASE_URL", DATABASE_URL_MISSING)])
    return url.reveal()


def database_urls_differ(environ: Mapping[str, str]) -> bool:
    """Whether both variables are set, and differ."""
    return _other_database_url(EnvReader(environ)) is not None


def _database_url(env: EnvReader) -> Secret | None:
    """The database's URL; None when unset, or with a problem noted when it cannot be one."""
    name = next((each for each in DATABASE_VARIABLES if env.raw(each)), DATABASE_VARIABLES[0])
    url = env.secret(name)
    problem = problem_of_url(url.reveal()) if url else None
    if problem:
        env.add_problem(name, problem)
        return None
    return url


def _other_database_url(env: EnvReader) -> Secret | None:
    """What PRODUCTION_DATABASE_URL holds where DATABASE_URL holds something else."""
    used, other = (env.raw(each) for each in DATABASE_VARIABLES)
    return Secret(other) if used and other and used != other else None


def require_database_url(settings: Settings) -> str:
    """The database's URL; raises :class:`ConfigError` naming DATABASE_URL when it is unset."""
    if settings.database_url is None:
        raise ConfigError([Problem("DATABASE_URL", DATABASE_URL_MISSING)])
    return settings.database_url.reveal()


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, OSError) as error:  # unknown name; a directory of the zone database
        raise ValueError(name) from error


def _channels_off(env: EnvReader) -> frozenset[str]:
    off = env.value("ALERTS_CHANNELS_OFF", None, comma_list(SEND_CHANNELS))
    return frozenset(off or ())


def _tokens(env: EnvReader, name: str) -> tuple[Secret, ...]:
    """Compared as bytes, so they may hold any."""
    parts = [part.strip() for part in (env.raw(name) or "").split(",")]
    if len(parts) > 2 or (len(parts) == 2 and not all(parts)):
        env.add_problem(
            name,
            "takes one token, or while rotating two with a comma between: new,old",
        )
    return tuple(Secret(part) for part in parts if part)


def _github(env: EnvReader) -> GitHub:
    summary = env.raw("GITHUB_STEP_SUMMARY")
    attempt = _plain(env, "GITHUB_RUN_ATTEMPT") or ""
    return GitHub(
        actions=_plain(env, "GITHUB_ACTIONS") == "true",
        event_name=_plain(env, "GITHUB_EVENT_NAME"),
        sha=_plain(env, "GITHUB_SHA"),
        server_url=_plain(env, "GITHUB_SERVER_URL"),
        repository=_plain(env, "GITHUB_REPOSITORY"),
        run_id=_plain(env, "GITHUB_RUN_ID"),
        run_attempt=int(attempt) if re.fullmatch("[0-9]{1,9}", attempt) else 1,
        step_summary=Path(summary) if summary else None,
    )


def _plain(env: EnvReader, name: str) -> str | None:
    """What GitHub says of the job always parses: no run fails for it."""
    value = env.raw(name)
    return value and value.encode(errors="replace").decode()
