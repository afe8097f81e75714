"""One SMTP connection: opens it securely and hands over one message at a time."""

from __future__ import annotations

import contextlib
import smtplib
import socket
import ssl

from alerts.channels.transport.addresses import Mailbox
from alerts.channels.transport.clock import CallClock
from alerts.channels.transport.mail import no_smtputf8
from alerts.channels.transport.smtp_codes import Stage, refusal
from alerts.channels.transport.smtp_server import SmtpServer, is_loopback, own_name
from alerts.channels.transport.sockets import (
    connect,
    met_no_tls,
    tls_context,
    untrusted,
    use_clock,
)
from alerts.failures import DeliveryError, FailureCode

REPLY_LINES_MAX = 100  # per reply; the longest real replies list a server's extensions
PROBE_SECONDS = 2.0  # to find out whether a silent port expects TLS
GOODBYE_SECONDS = 0.2


class ConnectionLost(Exception):
    """The connection ended before the message was handed over; ``error`` says why."""

    def __init__(self, error: DeliveryError) -> None:
        super().__init__(error.detail)
        self.error = error


class _Replies:
    """Reads reply lines, up to a limit."""

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
    """A connection that is ready for messages; not thread-safe."""

    def __init__(self, clock: CallClock) -> None:
        super().__init__(local_hostname="localhost")  # replaced once we are connected
        self._clock = clock
        self._login_refused: DeliveryError | None = None

    @classmethod
    def open(cls, server: SmtpServer, clock: CallClock, tls: ssl.SSLContext) -> Session:
        """Connect, encrypt and log in.

        Raises :class:`DeliveryError`, or :class:`ConnectionLost` if the server hangs up.
        """
        session = cls(clock)
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

    def transfer(
        self, sender: Mailbox, recipient: Mailbox, content: bytes, clock: CallClock
    ) -> None:
        """Hand over one message.

        Raises :class:`DeliveryError`, keeping the connection if possible, or
        :class:`ConnectionLost` if it ended before all of the content was sent.
        """
        self._keep(clock)
        options = ""
        if recipient.needs_smtputf8:
            if not self.has_extn("smtputf8"):
                raise no_smtputf8()
            self.command_encoding, options = "utf-8", " SMTPUTF8"
        self._expect(Stage.MAIL, f"MAIL FROM:<{sender}>{options}", 250)
        self._expect(Stage.RCPT, f"RCPT TO:<{recipient}>", 250, 251, 252)
        self._expect(Stage.DATA, "DATA", 354)
        stuffed = content.replace(b"\r\n.", b"\r\n..")
        clock.next_step()
        try:
            self._socket().sendall(stuffed + b".\r\n")
        except OSError as error:
            # The final dot was not sent, and without it the server has no message.
            self.close()
            raise self._lost(error) from None
        clock.hand_over()
        self._await_verdict()

    def say_goodbye(self) -> None:
        """End the session without waiting for the server's answer."""
        self._keep(CallClock(GOODBYE_SECONDS, 0.0))
        with contextlib.suppress(OSError, smtplib.SMTPException):
            self.putcmd("QUIT")
        self.close()

    def putcmd(self, cmd: str, args: str = "") -> None:
        """Like the base method; a command and its reply count as one step."""
        self._clock.next_step()
        super().putcmd(cmd, args)

    def getreply(self) -> tuple[int, bytes]:
        """Like the base method, but limits the length of a reply."""
        if self.file is None:
            self.file = _Replies(self._socket())
        self.file.lines = 0
        return super().getreply()

    # -- opening ---------------------------------------------------------------------------

    def _connect(self, server: SmtpServer, tls: ssl.SSLContext) -> None:
        self.sock = connect(server.host, server.port, self._clock)
        self.local_hostname = server.ehlo_name or own_name(self.sock)
        self._clock.next_step()
        if server.tls_from_start:
            self._wrap(server.host, tls)
        self._require(Stage.CONNECT, self._greeting(server))
        self._require(Stage.CONNECT, self.ehlo())

    def _greeting(self, server: SmtpServer) -> tuple[int, bytes]:
        self._clock.next_step()
        connection = self._socket()
        if not server.tls_from_start:
            connection.settimeout(self._clock.seconds_left())
            try:
                connection.recv(1, socket.MSG_PEEK)
            except TimeoutError:
                if self._speaks_tls():
                    what = "this port speaks TLS from the start: use smtps:// in SMTP_URL"
                    detail = f"SMTP: {what}"
                    raise DeliveryError(FailureCode.UNEXPECTED_ANSWER, detail) from None
                raise
        return self.getreply()

    def _speaks_tls(self) -> bool:
        """Whether a silent server answers a TLS handshake, so each side waits for the other."""
        plain = self._socket()
        plain.settimeout(min(PROBE_SECONDS, self._clock.timeout))
        try:
            self.sock = tls_context(verify=False).wrap_socket(plain)
        except ssl.SSLError as error:  # an alert is an answer too
            return not met_no_tls(error) and not isinstance(error, ssl.SSLEOFError)
        except OSError:
            return False
        return True

    def _encrypt(self, server: SmtpServer, tls: ssl.SSLContext) -> None:
        if server.tls_from_start:
            return
        if not self.has_extn("starttls"):
            if is_loopback(server.host):
                return
            # Retrying cannot help, and the password must not be sent unencrypted: hold the channel
            # until someone acts.
            detail = "SMTP server offers no STARTTLS; use smtps:// or another port in SMTP_URL"
            raise DeliveryError(FailureCode.AUTH_FAILED, detail)
        self._require(Stage.TLS, self.docmd("STARTTLS"))
        self._clock.next_step()
        self._wrap(server.host, tls)
        # Discard everything received before encryption.
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
            raise self._login_failure(error) from None
        except smtplib.SMTPNotSupportedError:
            detail = "SMTP server offers no login; check the port in SMTP_URL"
            raise DeliveryError(FailureCode.AUTH_FAILED, detail) from None
        except UnicodeError:  # its text quotes the password
            detail = "SMTP_URL: user and password must be ASCII for this server"
            raise DeliveryError(FailureCode.AUTH_FAILED, detail) from None
        except smtplib.SMTPServerDisconnected:
            if self._login_refused is not None:  # it hung up before the next login mechanism
                raise self._login_refused from None
            raise
        except smtplib.SMTPException:
            detail = "SMTP server offers no supported login method"
            raise DeliveryError(FailureCode.AUTH_FAILED, detail) from None

    def auth(
        self,
        mechanism: str,
        authobject: smtplib._AuthObject,
        *,
        initial_response_ok: bool = True,
    ) -> tuple[int, bytes]:
        """Like the base method; remembers a refusal, since the server may hang up after it."""
        try:
            return super().auth(mechanism, authobject, initial_response_ok=initial_response_ok)
        except smtplib.SMTPAuthenticationError as error:
            self._login_refused = self._login_failure(error)
            raise

    @staticmethod
    def _login_failure(error: smtplib.SMTPResponseException) -> DeliveryError:
        reply = error.smtp_error
        text = reply if isinstance(reply, bytes) else reply.encode("ascii", "replace")
        return refusal(Stage.AUTH, error.smtp_code, text)

    def _wrap(self, host: str, tls: ssl.SSLContext) -> None:
        plain = self._socket()
        plain.settimeout(self._clock.seconds_left())
        self.sock = tls.wrap_socket(plain, server_hostname=host)
        use_clock(self.sock, self._clock)

    def _socket(self) -> socket.socket:
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected("the connection is closed")
        return self.sock

    def _keep(self, clock: CallClock) -> None:
        """Use the deadlines of this call from now on."""
        self._clock = clock
        use_clock(self.sock, clock)

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
        if code == 421:  # the server is closing the connection
            self.close()
            raise ConnectionLost(error_)
        self._reset()
        raise error_

    def _await_verdict(self) -> None:
        try:
            code, reply = self.getreply()
        except (OSError, smtplib.SMTPException):
            late = "no answer within the time limit"
            what = late if self._clock.late else "connection closed unanswered"
            self.close()
            detail = f"SMTP: {what} {Stage.CONTENT.value}"
            raise DeliveryError(FailureCode.OUTCOME_UNKNOWN, detail, handed_over=True) from None
        if 200 <= code < 300:
            return
        if code == 421 or not 400 <= code < 600:
            self.close()
        raise refusal(Stage.CONTENT, code, reply)

    def _reset(self) -> None:
        """Abort the current message so that the connection can be used for another."""
        try:
            code, _ = self.docmd("RSET")
        except (OSError, smtplib.SMTPException):
            code = 0
        if code != 250:
            self.close()

    def _lost(self, error: Exception) -> ConnectionLost:
        if (cause := untrusted(error)) is not None:
            # Retrying cannot help, and the row is fine.
            what, code = f"certificate not trusted ({cause})", FailureCode.AUTH_FAILED
        elif met_no_tls(error):
            what = "this port does not speak TLS: use smtp:// with 587 in SMTP_URL"
            code = FailureCode.UNEXPECTED_ANSWER
        elif self._clock.late:
            what, code = "no answer within the time limit", FailureCode.TIMEOUT_CONNECT
        else:
            what, code = "cannot be reached, or hung up", FailureCode.NETWORK
        return ConnectionLost(DeliveryError(code, f"SMTP: {what}"))
