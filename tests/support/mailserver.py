"""A mail server for tests: STARTTLS, smtps, logins, and faults at any command."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections import Counter
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

USER = "alerts@example.com"
PASSWORD = "canary-mail-password"


@dataclass(frozen=True)
class Mail:
    """A message that the server accepted."""

    sender: str
    recipient: str
    content: bytes


class MailServer:
    """aiosmtpd on 127.0.0.1 in a separate thread; use it as a context manager.

    ``starttls`` or ``smtps`` (a server-side context) set the encryption. With ``login`` the server
    requires ``USER`` and ``PASSWORD``; ``smtputf8`` offers that extension. ``fail`` sets a
    command's reply. ``names`` are the clients' EHLO names, ``recipients`` their RCPT arguments
    verbatim.
    """

    def __init__(
        self,
        *,
        starttls: ssl.SSLContext | None = None,
        smtps: ssl.SSLContext | None = None,
        login: bool = False,
        smtputf8: bool = False,
    ) -> None:
        self.mails: list[Mail] = []
        self.connections = 0
        self.commands: Counter[str] = Counter()
        self.faults: dict[str, tuple[str, int]] = {}
        self.hang_up_after: set[str] = set()
        self.port = 0
        self._starttls = starttls
        self._smtps = smtps
        self._login = login
        self._smtputf8 = smtputf8
        self.names: list[str] = []
        self.recipients: list[str] = []
        self._protocols: set[_Protocol] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def fail(self, command: str, reply: str, times: int = 1) -> None:
        """Set the reply to ``CONNECT``, ``EHLO``, ``STARTTLS``, ``AUTH``, ``MAIL``, ``RCPT``,
        ``DATA``, ``RSET`` or ``CONTENT`` (the end of a message), for a number of times: a reply
        line, ``close``, ``hang`` or ``endless``. ``slow 1.5`` accepts the message and answers 1.5
        seconds later.
        """
        self.faults[command] = (reply, times)

    def refuse_and_close(self, command: str, reply: str) -> None:
        """Answer a command with a reply line once, then hang up."""
        self.fail(command, reply)
        self.hang_up_after.add(command)

    def take_fault(self, command: str) -> str | None:
        """Consume and return the fault set for a command."""
        self.commands[command] += 1
        reply, times = self.faults.get(command, ("", 0))
        if times <= 0:
            return None
        self.faults[command] = (reply, times - 1)
        return reply

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def drop_connections(self) -> None:
        """Close every connection, as servers do with idle ones."""
        asyncio.run_coroutine_threadsafe(self._drop(), self._loop).result(10)

    async def _listen(self) -> asyncio.Server:
        return await self._loop.create_server(self._protocol, "127.0.0.1", 0, ssl=self._smtps)

    def _protocol(self) -> _Protocol:
        self.connections += 1
        protocol = _Protocol(
            self,
            hostname="mail.example.com",
            tls_context=self._starttls,
            auth_required=self._login,
            auth_require_tls=self._starttls is not None,
            authenticator=_authenticate,
            enable_SMTPUTF8=self._smtputf8,
            loop=self._loop,
        )
        self._protocols.add(protocol)
        return protocol

    async def _drop(self) -> None:
        for protocol in self._protocols:
            if protocol.transport is not None:
                protocol.transport.abort()
        self._protocols.clear()

    async def _stop(self) -> None:
        self._server.close()
        await self._drop()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """aiosmtpd's hook for a completely received message."""
        fault = self.take_fault("CONTENT")
        if fault and fault.startswith("slow"):
            self._take(envelope)
            await asyncio.sleep(float(fault.split()[1]))
            return "250 2.0.0 queued"
        if fault and not fault.startswith("250"):
            await misbehave(server, fault)
            return fault
        self._take(envelope)
        return "250 2.0.0 queued"

    def _take(self, envelope: Envelope) -> None:
        content = envelope.original_content or b""
        self.mails.append(Mail(str(envelope.mail_from), str(envelope.rcpt_tos[0]), content))


async def misbehave(server: SMTP, fault: str) -> None:
    """Carry out a fault that is not a reply."""
    if fault == "hang":
        await asyncio.Event().wait()
    elif fault == "close" and server.transport is not None:
        server.transport.abort()
        await asyncio.Event().wait()
    while fault == "endless":
        await server.push("250-more")


class _Protocol(SMTP):
    def __init__(self, owner: MailServer, **options: Any) -> None:
        super().__init__(owner, **options)
        self.owner = owner

    async def _faulty(self, command: str) -> bool:
        fault = self.owner.take_fault(command)
        if fault is None:
            return False
        await misbehave(self, fault)
        await self.push(fault)
        if (
            fault.startswith("421") or command in self.owner.hang_up_after
        ) and self.transport is not None:
            self.transport.close()
        return True

    async def _handle_client(self) -> None:
        if not await self._faulty("CONNECT"):
            await super()._handle_client()

    async def smtp_EHLO(self, hostname: str) -> None:
        self.owner.names.append(hostname)
        if not await self._faulty("EHLO"):
            await super().smtp_EHLO(hostname)

    async def smtp_STARTTLS(self, arg: str) -> None:
        if not await self._faulty("STARTTLS"):
            await super().smtp_STARTTLS(arg)

    async def smtp_AUTH(self, arg: str) -> None:
        if not await self._faulty("AUTH"):
            await super().smtp_AUTH(arg)

    async def smtp_MAIL(self, arg: str | None) -> None:
        if not await self._faulty("MAIL"):
            await super().smtp_MAIL(arg)

    async def smtp_RCPT(self, arg: str | None) -> None:
        self.owner.recipients.append(str(arg))
        if not await self._faulty("RCPT"):
            await super().smtp_RCPT(arg)

    async def smtp_DATA(self, arg: str) -> None:
        if not await self._faulty("DATA"):
            await super().smtp_DATA(arg)

    async def smtp_RSET(self, arg: str) -> None:
        if not await self._faulty("RSET"):
            await super().smtp_RSET(arg)


def _authenticate(
    server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
) -> AuthResult:
    right = LoginPassword(USER.encode(), PASSWORD.encode())
    return AuthResult(success=data == right, handled=False)
