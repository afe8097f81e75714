"""The common start of both programs: environment, logging and GitHub annotations."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping

from alerts.cli import github
from alerts.logs import setup_logging
from alerts.redaction import Redactor, redactor_for
from alerts.settings.config import (
    DATABASES_DIFFER,
    Settings,
    job_settings,
    require_database_url,
)

log = logging.getLogger("alerts.cli")


class Program:
    """One invocation of a program; ``json`` means that the output is for programs."""

    def __init__(self, environ: Mapping[str, str], *, json: bool) -> None:
        self.environ = environ
        self._job = job_settings(environ)
        self.json = json or self._job.ci
        self._log(Redactor())

    def settings(self, *, database: bool = True) -> Settings:
        """Read the settings and keep their secrets out of the log from now on.

        Raises :class:`~alerts.settings.config.ConfigError`, also if DATABASE_URL is
        missing, unless ``database`` is false.
        """
        settings = Settings.from_env(self.environ)
        if database:
            require_database_url(settings)
        self.hide(settings)
        if settings.other_database_url is not None:
            log.warning(DATABASES_DIFFER)
        return settings

    def hide(self, settings: Settings) -> None:
        """Keep the secrets of ``settings`` out of the log."""
        self._log(redactor_for(settings))

    def annotate(self, problems: Iterable[str]) -> None:
        """On GitHub, report the problems as annotations on the job."""
        if self._job.github.actions:
            for command in github.problem_commands(problems):
                print(command, file=sys.stderr, flush=True)

    def _log(self, redactor: Redactor) -> None:
        # People see tables instead of the INFO records.
        level = logging.INFO if self.json else logging.WARNING
        setup_logging(redactor, json_lines=self.json, level=level)
