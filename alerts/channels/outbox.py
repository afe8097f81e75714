"""Writes messages as files into a folder, to view them without any provider account."""

from __future__ import annotations

import errno
import html
import os
import threading
from collections.abc import Callable
from pathlib import Path

from alerts.channels.base import Channel, Message
from alerts.channels.names import SEND_CHANNELS
from alerts.channels.provider import CallOptions, Provider, Values, Variable
from alerts.channels.transport.mail import EMAIL_FROM, Sender, compose, one_line
from alerts.failures import DeliveryError, FailureCode
from alerts.settings.env import EnvReader


def _outbox_dir(env: EnvReader) -> Path | None:
    folder = env.text("ALERTS_OUTBOX_DIR")
    return Path(folder) if folder else None


OUTBOX_DIR = Variable("ALERTS_OUTBOX_DIR", _outbox_dir)
NOBODY = "EnergyRiskIQ <alerts@example.com>"  # the sender if EMAIL_FROM is not set

_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class OutboxChannel:
    """Writes ``<channel>-<key>``: ``.eml`` for email, ``.html`` for Telegram, ``.txt`` for SMS.

    Files are written atomically; sending a message again replaces its file.
    """

    name = "outbox"

    def __init__(self, directory: Path, channel: str, sender: str) -> None:
        self._directory = directory
        self._channel = channel
        self._suffix, self._content = self._form(channel, Sender.parse(sender))

    def send(self, message: Message) -> str | None:
        """Write the message and return ``outbox-<key>``."""
        content = self._content(message)
        name = f"{self._channel}-{message.key}{self._suffix}"
        try:
            self._write(name, content)
        except OSError as error:
            no_room = error.errno in _NO_ROOM
            code = FailureCode.QUOTA_PROVIDER if no_room else FailureCode.AUTH_FAILED
            reason = os.strerror(error.errno) if error.errno else type(error).__name__
            detail = f"{OUTBOX_DIR.name} {self._directory} cannot be written: {reason}"
            raise DeliveryError(code, detail) from None
        return f"outbox-{message.key}"

    def close(self) -> None:
        """Nothing to close."""

    def _write(self, name: str, content: bytes) -> None:
        draft = self._directory / f".{name}.{os.getpid()}-{threading.get_ident()}"
        try:
            descriptor = os.open(draft, _NEW, 0o600)
        except FileNotFoundError:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(draft, _NEW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            draft.replace(self._directory / name)
        except OSError:
            draft.unlink(missing_ok=True)
            raise

    @staticmethod
    def _form(channel: str, sender: Sender) -> tuple[str, Callable[[Message], bytes]]:
        if channel == "email":
            return ".eml", lambda message: compose(message, sender)
        return (".html", _telegram_page) if channel == "telegram" else (".txt", _plain)


def _telegram_page(message: Message) -> bytes:
    """The chat message as a page; its markup is already HTML."""
    to = html.escape(one_line(message.destination))
    page = (
        f'<!doctype html>\n<meta charset="utf-8">\n<title>To {to}</title>\n<p>To: {to}</p>\n'
        f'<div style="white-space: pre-wrap">{message.text}</div>\n'
    )
    return page.encode("utf-8", "replace")


def _plain(message: Message) -> bytes:
    return f"To: {one_line(message.destination)}\n\n{message.text}\n".encode("utf-8", "replace")


def _build(values: Values, channel: str, options: CallOptions) -> Channel:
    return OutboxChannel(values[OUTBOX_DIR], channel, values.get(EMAIL_FROM) or NOBODY)


PROVIDER = Provider(
    name=OutboxChannel.name,
    title="the outbox",
    channels=SEND_CHANNELS,
    build=_build,
    requires=(OUTBOX_DIR,),
    optional=(EMAIL_FROM,),
)
