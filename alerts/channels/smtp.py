"""Email through a mail server."""

from __future__ import annotations

import ssl
import threading
from dataclasses import replace
from urllib.parse import unquote, urlsplit

from alerts.channels.base import Channel, Message
from alerts.channels.provider import CallOptions, Provider, Values, Variable
from alerts.channels.transport.addresses import Mailbox, ascii_domain
from alerts.channels.transport.clock import CallClock
from alerts.channels.transport.mail import (
    EMAIL_FROM,
    Sender,
    compose,
    message_id_of,
    recipient_of,
)
from alerts.channels.transport.smtp_server import SmtpServer, is_loopback, parse_ehlo_name
from alerts.channels.transport.smtp_session import ConnectionLost, Session
from alerts.channels.transport.sockets import tls_context
from alerts.settings.env import EnvReader, Secret

_TAKES = "smtp://user:password@host:587 or smtps://user:password@host:465"


def _smtp_url(env: EnvReader) -> SmtpServer | None:
    return env.parsed("SMTP_URL", None, _parse_url, _TAKES, hide=True)


def _parse_url(text: str) -> SmtpServer | None:
    parts = urlsplit(text)
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname or parts.path.strip("/"):
        raise ValueError("no mail server")
    if parts.query or parts.fragment or any(c.isspace() for c in text) or parts.port == 0:
        raise ValueError("more than a mail server")  # options such as ?tls=no do not exist
    tls_from_start = parts.scheme == "smtps"
    if bool(parts.username) != bool(parts.password):
        raise ValueError("a user and a password go together")
    host = parts.hostname
    return SmtpServer(
        host=host if host.isascii() else ascii_domain(host),
        port=parts.port or (465 if tls_from_start else 587),
        user=unquote(parts.username) if parts.username else None,
        password=Secret(unquote(parts.password)) if parts.password else None,
        tls_from_start=tls_from_start,
    )


def _ehlo_name(env: EnvReader) -> str | None:
    takes = "a full host name like mail.example.com, or an address literal like [203.0.113.5]"
    return env.parsed("SMTP_EHLO_NAME", None, parse_ehlo_name, takes)


SMTP_URL = Variable("SMTP_URL", _smtp_url, secret=True)
EHLO_NAME = Variable("SMTP_EHLO_NAME", _ehlo_name)


class SmtpChannel:
    """Keeps as many connections as the largest number of messages sent at the same time.

    ``timeout`` and ``answer`` are those of :class:`CallClock`. The connection is encrypted and the
    certificate verified. On loopback, TLS is used if offered, but the certificate is not verified:
    local mail servers use self-signed ones, and the traffic does not leave the machine.
    """

    name = "smtp"

    def __init__(
        self,
        server: SmtpServer,
        sender: str,
        *,
        timeout: float = 10.0,
        answer: float = 60.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._server = server
        self._sender = Sender.parse(sender)
        self._limits = (timeout, answer)
        self._tls = tls or tls_context(verify=not is_loopback(server.host))
        self._lock = threading.Lock()
        self._idle: list[Session] = []

    def send(self, message: Message) -> str | None:
        """Hand the email to the server and return its Message-ID."""
        recipient = recipient_of(message)
        content = compose(message, self._sender)
        clock = CallClock(*self._limits)
        session = self._take_idle()
        reused = session is not None
        try:
            if session is None:
                session = Session.open(self._server, clock, self._tls)
            try:
                self._transfer(session, recipient, content, clock)
            except ConnectionLost:
                if not reused or not clock.may_start_over:
                    raise
                # The server had closed the idle connection before receiving any of this message.
                clock.next_step()
                session = Session.open(self._server, clock, self._tls)
                self._transfer(session, recipient, content, clock)
        except ConnectionLost as lost:
            raise lost.error from None
        return message_id_of(message, self._sender)

    def close(self) -> None:
        """Close the open connections."""
        while (session := self._take_idle()) is not None:
            session.say_goodbye()

    def _transfer(
        self, session: Session, recipient: Mailbox, content: bytes, clock: CallClock
    ) -> None:
        try:
            session.transfer(self._sender.usable(), recipient, content, clock)
        finally:
            if session.alive:
                with self._lock:
                    self._idle.append(session)

    def _take_idle(self) -> Session | None:
        with self._lock:
            return self._idle.pop() if self._idle else None


def _build(values: Values, channel: str, options: CallOptions) -> Channel:
    server = replace(values[SMTP_URL], ehlo_name=values.get(EHLO_NAME))
    return SmtpChannel(
        server, values[EMAIL_FROM], timeout=options["timeout"], answer=options["answer"]
    )


PROVIDER = Provider(
    name=SmtpChannel.name,
    title="the mail server",
    channels=("email",),
    build=_build,
    credentials=(SMTP_URL,),
    requires=(EMAIL_FROM,),
    optional=(EHLO_NAME,),
)
