"""The owner of the tests: addresses of their own, and runs that end well or badly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import cast

from alerts.engine import Hooks, RunReport, RunRequest, run_engine
from alerts.owner.telling import Telling
from alerts.phases.context import Stop
from tests.support.mailserver import Mail, MailServer
from tests.support.provider_runs import environ as provider_environ
from tests.support.provider_runs import mail_environ
from tests.support.providers import HttpProvider
from tests.support.world import NOW, settings_for

OWNER_EMAIL, OWNER_CHAT = "owner.owl@canary-owner.example", "4400155522"
OWNER = {
    "ALERTS_OWNER_EMAIL": OWNER_EMAIL,
    "ALERTS_OWNER_TELEGRAM_CHAT_ID": OWNER_CHAT,
    "ALERTS_APP_BASE_URL": "https://alerts.example.com",
}


class Place:
    """A mail server and Telegram, as runs are set up for them; ``environ`` may be changed."""

    def __init__(self, database_url: str, mail: MailServer, telegram: HttpProvider) -> None:
        self._database_url = database_url
        self.mail, self.telegram = mail, telegram
        self.environ = {**mail_environ(mail), **provider_environ(telegram)["telegram"], **OWNER}

    def run(self, *, failing: bool = False, dry_run: bool = False) -> RunReport:
        """One run of phase A, of which the owner is told; ``failing``: it fails."""
        report = self.run_untold(failing=failing, dry_run=dry_run)
        self.tell(report)
        return report

    def run_untold(self, *, failing: bool = False, dry_run: bool = False) -> RunReport:
        """The run alone."""
        settings = settings_for(self._database_url, **self.environ)
        request = RunRequest(phase="a", now=NOW, dry_run=dry_run)
        stop = Stop()
        if failing:  # as a phase does that is told to end
            stop.interrupt("SIGTERM")
        return run_engine(settings, request, Hooks(stop=stop))

    def tell(self, report: RunReport) -> None:
        """What the program does when a run has ended."""
        settings = settings_for(self._database_url, **self.environ)
        telling = Telling(settings, Stop(), dry_run=report.record.dry_run, now=NOW)
        telling.ended(report.record, report.asked)

    @property
    def chats(self) -> list[tuple[str, str]]:
        """Chat and text of every Telegram message."""
        return [(each.destination, each.text) for each in self.telegram.accepted]


@contextmanager
def place_at(database_url: str) -> Iterator[Place]:
    with MailServer() as mail, HttpProvider() as telegram:
        yield Place(database_url, mail, telegram)


def parsed(mail: Mail) -> EmailMessage:
    """The mail as a program reads it."""
    return cast(EmailMessage, message_from_bytes(mail.content, policy=default))
