"""One SMTP connection: opening it safely, and handing over one message at a time."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import smtplib
import socket
import ssl
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from alerts.channels.transport.sockets import DeadlineSocket, DeadlineTlsSocket, connect
from alerts.failures import DeliveryError, FailureCode
from alerts.settings.env import Secret

REPLY_LINES_MAX = 100  # of one reply; the longest real ones list a server's extensions
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?!\S)")
# Enhanced status codes (RFC 3463) tell apart what the three digits do not.
_SENDER_STATUSES = frozenset({"5.1.7", "5.1.8"})
_RECIPIENT_STATUSES = frozenset({"5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1"})
_DAILY_LIMIT_STATUS = "5.4.5"
_AUTH_CODES = frozenset({530, 534, 535, 538})
_RECIPIENT_CODES = frozenset({550, 551, 553})


@dataclass(frozen=True)
class SmtpServer:
    """A mail server: ``tls_from_start`` for smtps, STARTTLS otherwise (optional on loopback)."""

    host: str
    port: int
    user: str | None
    password: Secret | None
    tls_from_start: bool


class Stage(StrEnum):
    """How far the conversation was; the value says it to people."""

    CONNECT = "on connecting"
    TLS = "at STARTTLS"
    AUTH = "at AUTH"
    MAIL = "at MAIL FROM"
    RCPT = "at RCPT TO"
    DATA = "at DATA"
    CONTENT = "after DATA"


class ConnectionLost(Exception):
    """The connection ended with nothing handed over; ``error`` says why for people."""

    def __init__(self, error: DeliveryError) -> None:
        super().__init__(error.detail)
        self.error = error


def refusal(stage: Stage, code: int, reply: bytes) -> DeliveryError:
    """What a server's refusal means, by its codes alone."""
    match = _STATUS.match(reply.decode("ascii", "replace"))
    status = match[0] if match else ""
    detail = f"SMTP {code} {status}".rstrip() + f" {stage.value}"
    return DeliveryError(_refusal_code(stage, code, status), detail)


def _refusal_code(stage: Stage, code: int, status: str) -> FailureCode:
    if not 500 <= code < 600:
        # 4xx; or no answer that SMTP knows, after which the message's fate is open.
        known = 400 <= code < 500 or stage is not Stage.CONTENT
        return FailureCode.PROVIDER_UNAVAILABLE if known else FailureCode.OUTCOME_UNKNOWN
    if stage in (Stage.TLS, Stage.AUTH) or code in _AUTH_CODES:
        return FailureCode.AUTH_FAILED
    if status == _DAILY_LIMIT_STATUS:
        return FailureCode.QUOTA_PROVIDER
    if stage in (Stage.CONNECT, Stage.MAIL):
        return FailureCode.SENDER_REJECTED
    if stage is Stage.RCPT:
        # Many servers judge the sender only here. 553 5.7.1: not this account's address.
        if status in _SENDER_STATUSES or (code, status) == (553, "5.7.1"):
            return FailureCode.SENDER_REJECTED
        if code in _RECIPIENT_CODES or status in _RECIPIENT_STATUSES:
            return FailureCode.RECIPIENT_INVALID
    return FailureCode.PAYLOAD_INVALID


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine, without asking a name server."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class _Replies:
    """Reads reply lines, but not without end."""

    def __init__(self, connection: socket.socket) -> None:
        self._file = connection.makefile("rb")
        self.lines = 0

    def readline(self, limit: int) -> bytes:
        self.lines += 1
        if self.lines > REPLY_LINES_MAX:
            raise OSError("endless reply")
        return self._file.readline(limit)

    def close(self) -> None:
        self._file.close()


class Session(smtplib.SMTP):
    """A connection that is ready for messages; not shared by threads."""

    def __init__(self) -> None:
        super().__init__(local_hostname=_own_name())
        self.deadline = 0.0

    @classmethod
    def open(cls, server: SmtpServer, deadline: float, tls: ssl.SSLContext) -> Session:
        """Connect, encrypt and log in by ``deadline`` (monotonic).

        Raises :class:`DeliveryError`, or :class:`ConnectionLost` when the server hangs up.
        """
        session = cls()
        session.deadline = deadline
        try:
            session._connect(server, tls)
            session._encrypt(server, tls)
            session._log_in(server)
        except (OSError, smtplib.SMTPException) as error:
            session.close()
            raise session._lost(error) from None
        except DeliveryError:
            session.close()
            raise
        return session

    @property
    def alive(self) -> bool:
        """Whether the connection can take another message."""
        return self.sock is not None

    def transfer(self, sender: str, recipient: str, content: bytes, deadline: float) -> None:
        """Hand one message over by ``deadline`` (monotonic).

        Raises :class:`DeliveryError` with the connection kept where it can be, or
        :class:`ConnectionLost` when it ended before all of the content had left.
        """
        self.deadline = deadline
        self._bound(self.sock)
        self._expect(Stage.MAIL, f"MAIL FROM:<{sender}>", 250)
        self._expect(Stage.RCPT, f"RCPT TO:<{recipient}>", 250, 251, 252)
        self._expect(Stage.DATA, "DATA", 354)
        stuffed = content.replace(b"\r\n.", b"\r\n..")
        try:
            self._socket().sendall(stuffed + b".\r\n")
        except OSError as error:
            # The line that ends the content is its last: a server has no message without it.
            self.close()
            raise self._lost(error) from None
        self._await_verdict()

    def say_goodbye(self) -> None:
        """End the session without waiting for the server's answer."""
        self.deadline = time.monotonic() + 0.2
        self._bound(self.sock)
        with contextlib.suppress(OSError, smtplib.SMTPException):
            self.putcmd("QUIT")
        self.close()

    def getreply(self) -> tuple[int, bytes]:
        """As the base's, for replies of bounded length."""
        if self.file is None:
            self.file = _Replies(self._socket())
        self.file.lines = 0
        return super().getreply()

    # -- opening ---------------------------------------------------------------------------

    def _connect(self, server: SmtpServer, tls: ssl.SSLContext) -> None:
        self.sock = connect(server.host, server.port, self.deadline)
        if server.tls_from_start:
            self._wrap(server.host, tls)
        self._require(Stage.CONNECT, self.getreply())
        self._require(Stage.CONNECT, self.ehlo())

    def _encrypt(self, server: SmtpServer, tls: ssl.SSLContext) -> None:
        if server.tls_from_start:
            return
        if not self.has_extn("starttls"):
            if is_loopback(server.host):
                return
            # Neither time nor another message mends this, and the password must not go in the
            # clear: the channel waits for someone.
            detail = "SMTP server offers no STARTTLS; use smtps:// or another port in SMTP_URL"
            raise DeliveryError(FailureCode.AUTH_FAILED, detail)
        self._require(Stage.TLS, self.docmd("STARTTLS"))
        self._wrap(server.host, tls)
        # What was said in the clear does not count.
        self.file = None
        self.esmtp_features = {}
        self.ehlo_resp = None
        self._require(Stage.CONNECT, self.ehlo())

    def _log_in(self, server: SmtpServer) -> None:
        if server.user is None or server.password is None:
            return
        try:
            self.login(server.user, server.password.reveal())
        except smtplib.SMTPResponseException as error:
            reply = error.smtp_error
            text = reply if isinstance(reply, bytes) else reply.encode("ascii", "replace")
            raise refusal(Stage.AUTH, error.smtp_code, text) from None
        except smtplib.SMTPNotSupportedError:
            detail = "SMTP server offers no login; check the port in SMTP_URL"
            raise DeliveryError(FailureCode.AUTH_FAILED, detail) from None
        except UnicodeError:  # whose text quotes the password
            detail = "SMTP_URL: user and password must be ASCII for this server"
            raise DeliveryError(FailureCode.AUTH_FAILED, detail) from None
        except smtplib.SMTPServerDisconnected:
            raise
        except smtplib.SMTPException:
            detail = "SMTP server offers no login that is known here"
            raise DeliveryError(FailureCode.AUTH_FAILED, detail) from None

    def _wrap(self, host: str, tls: ssl.SSLContext) -> None:
        plain = self._socket()
        plain.settimeout(max(0.001, self.deadline - time.monotonic()))
        self.sock = tls.wrap_socket(plain, server_hostname=host)
        self._bound(self.sock)

    def _socket(self) -> socket.socket:
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected("the connection is closed")
        return self.sock

    def _bound(self, connection: Any) -> None:
        if isinstance(connection, DeadlineSocket | DeadlineTlsSocket):
            connection.deadline = self.deadline

    @staticmethod
    def _require(stage: Stage, reply: tuple[int, bytes]) -> None:
        if not 200 <= reply[0] < 300:
            raise refusal(stage, *reply)

    # -- one message -----------------------------------------------------------------------

    def _expect(self, stage: Stage, command: str, *wanted: int) -> None:
        try:
            code, reply = self.docmd(command)
        except (OSError, smtplib.SMTPException) as error:
            self.close()
            raise self._lost(error) from None
        if code in wanted:
            return
        error_ = refusal(stage, code, reply)
        if code == 421:  # it is closing
            self.close()
            raise ConnectionLost(error_)
        self._reset()
        raise error_

    def _await_verdict(self) -> None:
        try:
            code, reply = self.getreply()
        except (OSError, smtplib.SMTPException):
            late = time.monotonic() >= self.deadline
            self.close()
            what = "no answer within the time limit" if late else "connection closed unanswered"
            raise DeliveryError(
                FailureCode.OUTCOME_UNKNOWN, f"SMTP: {what} {Stage.CONTENT.value}"
            ) from None
        if 200 <= code < 300:
            return
        if code == 421 or not 400 <= code < 600:
            self.close()
        raise refusal(Stage.CONTENT, code, reply)

    def _reset(self) -> None:
        """Forget the begun message, so that the connection can take another."""
        try:
            code, _ = self.docmd("RSET")
        except (OSError, smtplib.SMTPException):
            code = 0
        if code != 250:
            self.close()

    def _lost(self, error: Exception) -> ConnectionLost:
        if isinstance(error, ssl.SSLCertVerificationError):
            # Retrying cannot help, and the row is not to blame.
            code = FailureCode.AUTH_FAILED
            what = f"certificate not trusted (code {error.verify_code})"
        elif time.monotonic() >= self.deadline:
            what, code = "no answer within the time limit", FailureCode.TIMEOUT_CONNECT
        else:
            what, code = "cannot be reached, or hung up", FailureCode.NETWORK
        return ConnectionLost(DeliveryError(code, f"SMTP: {what}"))


def _own_name() -> str:
    """For EHLO: the host's name if it is a whole one. Asking DNS for it could take minutes."""
    name = socket.gethostname()
    return name if "." in name and name.isascii() else "[127.0.0.1]"
