"""POST requests to providers: one deadline a call, kept connections, honest outcomes.

No redirects are followed, nothing is retried, no proxy is read from the environment (the
``*_API_BASE`` variables name one where it is needed), certificates are checked against the
system's authorities.
"""

from __future__ import annotations

import json
import logging
import re
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from alerts.channels.transport.retry_after import wait_asked_for
from alerts.channels.transport.sockets import (
    DeadlineSocket,
    DeadlineTlsSocket,
    connect,
    tls_context,
)
from alerts.failures import DeliveryError, FailureCode
from alerts.settings.env import Secret

BODY_MAX = 64 * 1024  # more of an answer than any provider gives to a sent message
# Servers close idle connections after five seconds at the shortest (Node's default). A request
# that crosses with such a close has an unknown outcome, so a connection is given up before.
IDLE_SECONDS = 4.0
# Words or a short number. Words and digits mixed, or many digits, may be an echo of what was sent:
# a key, a phone number, a chat id.
ERROR_CODE = re.compile(r"[A-Za-z_.-]{1,40}|[0-9]{1,6}")
_PRIVATE_LENGTH_MIN = 6  # shorter ones stand in ordinary ids by chance
_MESSAGE_ID = re.compile(r"[!-~]{1,200}")
_HEADER_SECRET = re.compile(r"[!-~]+")


def _is_no_debug(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG


# urllib3's debug lines quote paths, and Telegram's path is the bot's token.
for _name in ("urllib3.connectionpool", "urllib3.util.retry"):
    logging.getLogger(_name).addFilter(_is_no_debug)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider answered; ``body`` is empty where it could not be read."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        """The provider took the message, whatever its body says."""
        return 200 <= self.status < 300

    def json(self) -> dict[str, Any]:
        """The body's object; empty when it is none."""
        try:
            parsed = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return parsed if isinstance(parsed, dict) else {}


def message_id(value: object, *private: str) -> str | None:
    """A provider's message id as text, or None where it is not one to store.

    ``private``: what was sent with the request (destination, key) and must not come back as,
    or inside of, an id.
    """
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not _MESSAGE_ID.fullmatch(text):
        return None
    plain = unquote(text).lower()
    sent = (part.strip("+").lower() for part in private if len(part) >= _PRIVATE_LENGTH_MIN)
    return None if any(part in plain for part in sent) else text


def error_code(value: object) -> str:
    """A provider's own error code, or nothing where it could be free text."""
    text = str(value) if isinstance(value, str | int) else ""
    return text if ERROR_CODE.fullmatch(text) else ""


def header_value(secret: Secret, variable: str) -> str:
    """A key to be sent in a header; raises ``auth_failed`` naming the variable.

    Checked here because the HTTP library quotes a value that it refuses.
    """
    value = secret.reveal()
    if not _HEADER_SECRET.fullmatch(value):
        detail = f"{variable} holds characters that no key has (a space, a line break?)"
        raise DeliveryError(FailureCode.AUTH_FAILED, detail)
    return value


@dataclass
class _Call:
    deadline: float  # monotonic
    sent: bool = False  # the whole request has left


class _CurrentCall(threading.local):
    call: _Call


_current = _CurrentCall()


class _Connection(HTTPConnection):
    """Keeps the deadline of the thread's call, and notes when the whole request has left."""

    used_at: float = 0.0

    def _new_conn(self) -> DeadlineSocket:
        return connect(self._dns_host, self.port, _current.call.deadline, self.socket_options or ())

    def request(self, *args: Any, **options: Any) -> None:
        call = _current.call
        if self.sock is None:
            self.connect()
        if isinstance(self.sock, DeadlineSocket | DeadlineTlsSocket):
            self.sock.deadline = call.deadline
        self.used_at = time.monotonic()
        super().request(*args, **options)
        call.sent = True

    @property
    def is_connected(self) -> bool:
        """Whether the connection may carry another request."""
        return super().is_connected and time.monotonic() - self.used_at < IDLE_SECONDS


class _TlsConnection(_Connection, HTTPSConnection):
    pass


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class HttpApi:
    """A provider's HTTP interface; one for all threads.

    ``provider`` is its name for people, ``base_variable`` the variable that names ``base``
    (scheme, host, port), ``timeout`` the seconds one call may take from first to last,
    ``connections`` how many are kept open.
    """

    def __init__(
        self,
        provider: str,
        base: str,
        base_variable: str,
        *,
        timeout: float,
        connections: int = 8,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._provider = provider
        self._base_variable = base_variable
        self._timeout = timeout
        parts = urlsplit(base)
        self._pool: urllib3.HTTPConnectionPool
        host = parts.hostname or ""
        options: dict[str, Any] = {"port": parts.port, "maxsize": connections}
        if parts.scheme == "https":
            self._pool = _TlsPool(host, ssl_context=tls or tls_context(), **options)
        else:
            self._pool = _Pool(host, **options)

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send one request and read its answer, of any status.

        Raises :class:`DeliveryError` where there is none: transient as long as the request had
        not left as a whole (no provider acts on half of one), else ``outcome_unknown``.
        """
        call = _current.call = _Call(time.monotonic() + self._timeout)
        try:
            response = self._pool.urlopen(
                "POST",
                path,
                body=body,
                headers={"User-Agent": "EnergyRiskIQ-alerts", **headers},
                retries=False,
                redirect=False,
                timeout=None,  # the sockets keep the deadline
                preload_content=False,
                decode_content=False,
            )
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            # From None: these errors quote the path, which may hold a token.
            raise self._no_answer(error, call) from None
        return Answer(response.status, response.headers, _read_body(response))

    def close(self) -> None:
        """Close the kept connections."""
        self._pool.close()

    def failure(
        self, answer: Answer, own_code: object = "", code: FailureCode | None = None
    ) -> DeliveryError:
        """The error for an answer that is not ok.

        ``code`` is what the adapter made of the provider's ``own_code``; None leaves it to
        the status.
        """
        code = code or code_of_status(answer.status)
        detail = f"{self._provider} {answer.status} {error_code(own_code)}".rstrip()
        if answer.status in _WRONG_PLACE or 300 <= answer.status < 400:
            detail = f"{detail}: not its API; check {self._base_variable}"
        wait = wait_asked_for(answer.headers) if code in _WAITABLE else None
        return DeliveryError(code, detail, retry_after=wait)

    def _no_answer(self, error: Exception, call: _Call) -> DeliveryError:
        late = time.monotonic() >= call.deadline
        if call.sent:
            what = "no answer within the time limit" if late else "connection closed unanswered"
            code = FailureCode.OUTCOME_UNKNOWN
        elif (cause := _untrusted(error)) is not None:
            # Retrying cannot help, and the row is not to blame: the channel waits for someone.
            what, code = f"certificate not trusted ({cause})", FailureCode.AUTH_FAILED
        elif late:
            what, code = "not reached within the time limit", FailureCode.TIMEOUT_CONNECT
        else:
            what, code = "cannot be reached", FailureCode.NETWORK
        return DeliveryError(code, f"{self._provider}: {what}")


_WAITABLE = (FailureCode.RATE_LIMITED, FailureCode.PROVIDER_UNAVAILABLE)
_WRONG_PLACE = (404, 405)


def code_of_status(status: int) -> FailureCode:
    """What a status means where the provider's own code says nothing more."""
    if status == 429:
        return FailureCode.RATE_LIMITED
    if status >= 500 or status == 408:
        return FailureCode.PROVIDER_UNAVAILABLE
    if status == 402:
        return FailureCode.QUOTA_PROVIDER
    # Nothing a message says makes a provider redirect or miss the address: the configured place
    # is wrong. Failing every queued message over that would lose them all.
    if status in (401, *_WRONG_PLACE) or status < 400:
        return FailureCode.AUTH_FAILED
    return FailureCode.PAYLOAD_INVALID


def _untrusted(error: BaseException | None) -> str | None:
    """OpenSSL's verification code, where the server's certificate was refused."""
    for _ in range(5):  # errors wrap each other as arguments
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"code {error.verify_code}"
        causes = [arg for arg in getattr(error, "args", ()) if isinstance(arg, BaseException)]
        error = causes[0] if causes else None
    return None


def _read_body(response: urllib3.BaseHTTPResponse) -> bytes:
    """The body; empty where it is cut short, late or larger than any real one."""
    body = b""
    try:
        while len(body) <= BODY_MAX and (part := response.read(BODY_MAX + 1 - len(body))):
            body += part
    except (urllib3.exceptions.HTTPError, OSError, ValueError):
        body = b""
    if len(body) > BODY_MAX:
        body = b""
    if not response.closed:
        response.close()  # with bytes left on it, the connection cannot be kept
    response.release_conn()
    return body
