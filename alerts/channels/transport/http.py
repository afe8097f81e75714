"""POST requests to providers: a deadline for each step, kept connections, accurate outcomes.

Redirects are not followed and nothing is retried. Proxies are not read from the environment; if one
is needed, the ``*_API_BASE`` variables name it. Certificates are verified against the system's
authorities. :mod:`alerts.channels.transport.answers` interprets the answers.
"""

from __future__ import annotations

import http.client
import logging
import re
import ssl
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit, urlunsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from alerts.channels.transport import answers
from alerts.channels.transport.answers import Answer, Raw, Shape
from alerts.channels.transport.clock import CallClock, WholeCall
from alerts.channels.transport.sockets import (
    DeadlineSocket,
    causes,
    connect,
    met_no_tls,
    tls_context,
    untrusted,
    use_clock,
)
from alerts.failures import DeliveryError, FailureCode
from alerts.settings.env import Secret

PAGE_MAX = 1024 * 1024  # of a page that is no provider's
BODY_MAX = 64 * 1024  # longer than any provider's answer to a sent message
# Servers close idle connections after at least five seconds (Node's default). If a request crosses
# with the close its outcome is unknown, so we stop using a connection before that.
IDLE_SECONDS = 4.0
_HEADER_SECRET = re.compile(r"[!-~]+")


def _quotes_no_path(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG and "(url=" not in str(record.msg)


# urllib3's debug lines and its warning about malformed headers quote paths, and Telegram's path
# contains the bot token.
for _name in ("urllib3.connection", "urllib3.connectionpool", "urllib3.util.retry"):
    logging.getLogger(_name).addFilter(_quotes_no_path)


def header_value(secret: Secret, variable: str) -> str:
    """Return a key for use in a header; raises ``auth_failed`` naming the variable.

    Checked here because the HTTP library quotes values that it refuses.
    """
    value = secret.reveal()
    if not _HEADER_SECRET.fullmatch(value):
        detail = f"{variable} contains characters that no key has (a space, a line break?)"
        raise DeliveryError(FailureCode.AUTH_FAILED, detail)
    return value


class _CurrentCall(threading.local):
    clock: CallClock


_current = _CurrentCall()


class _FinalResponse(http.client.HTTPResponse):
    """Skips all interim answers (RFC 9110, 15.2); the base class skips only status 100.

    101 is final: what follows is no longer HTTP.
    """

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 <= status < 200 or status == 101:
                return version, status, reason
            http.client.parse_headers(self.fp)


class _Connection(HTTPConnection):
    """Applies the deadlines of the thread's call and notes when the whole request was sent."""

    response_class = _FinalResponse
    used_at: float = 0.0

    def _new_conn(self) -> DeadlineSocket:
        return connect(self._dns_host, self.port, _current.clock, self.socket_options or ())

    def request(self, *args: Any, **options: Any) -> None:
        clock = _current.clock
        if self.sock is None:
            self.connect()
            clock.next_step()
        use_clock(self.sock, clock)
        self.used_at = time.monotonic()
        super().request(*args, **options)
        clock.hand_over()

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]
        response = super().getresponse()
        if response.status == 101:
            self.close()  # the server has switched to another protocol
        return response

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
    """A provider's HTTP interface, shared by all threads.

    ``provider`` is its display name, ``base_variable`` the variable that sets ``base`` (scheme,
    host, port), and ``shape`` recognizes its answers. ``timeout`` and ``answer`` are those of
    :class:`CallClock`; ``connections`` is how many are kept open.
    """

    def __init__(
        self,
        provider: str,
        base: str,
        base_variable: str,
        shape: Shape,
        *,
        timeout: float,
        answer: float,
        connections: int = 8,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._provider = provider
        self._base_variable = base_variable
        self._shape = shape
        self._limits = (timeout, answer)
        parts = urlsplit(base)
        self._pool: urllib3.HTTPConnectionPool
        host = parts.hostname or ""
        options: dict[str, Any] = {"port": parts.port, "maxsize": connections}
        if parts.scheme == "https":
            self._pool = _TlsPool(host, ssl_context=tls or tls_context(), **options)
        else:
            self._pool = _Pool(host, **options)

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send one request and return the provider's answer, whatever its status.

        Raises :class:`DeliveryError` if the provider did not answer: a transient code if the
        request was not fully sent (no provider acts on half a request), ``unexpected_answer`` if
        something else answered, otherwise ``outcome_unknown``.
        """
        clock = _current.clock = CallClock(*self._limits)
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
                decode_content=True,  # some gateways compress unasked
            )
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            # From None: these errors quote the path, which may hold a token.
            raise self._no_answer(error, clock) from None
        raw = _read(response)
        return answers.judge(self._provider, self._base_variable, self._shape, raw)

    def close(self) -> None:
        """Close the open connections."""
        self._pool.close()

    def failure(
        self, answer: Answer, own_code: object = "", code: FailureCode | None = None
    ) -> DeliveryError:
        """Return the error for a message that was not accepted; see :func:`answers.failure`."""
        return answers.failure(self._provider, self._base_variable, answer, own_code, code)

    def _no_answer(self, error: Exception, clock: CallClock) -> DeliveryError:
        if clock.handed_over:
            if _is_no_http(error):
                what = f"the answer is not HTTP; check {self._base_variable}"
                code = FailureCode.UNEXPECTED_ANSWER
            else:
                late = "no answer within the time limit"
                what = late if clock.late else "connection closed unanswered"
                code = FailureCode.OUTCOME_UNKNOWN
        elif (cause := untrusted(error)) is not None:
            # Retrying cannot help, and the row is fine: hold the channel until someone acts.
            what, code = f"certificate not trusted ({cause})", FailureCode.AUTH_FAILED
        elif met_no_tls(error):
            what = f"this port does not speak TLS: use http:// in {self._base_variable}"
            code = FailureCode.UNEXPECTED_ANSWER
        elif clock.late:
            what, code = "not reached within the time limit", FailureCode.TIMEOUT_CONNECT
        else:
            what, code = "cannot be reached", FailureCode.NETWORK
        detail = f"{self._provider}: {what}"
        return DeliveryError(code, detail, handed_over=clock.handed_over)


def post_anywhere(address: str, body: bytes, headers: Mapping[str, str], seconds: float) -> int:
    """Send one request within ``seconds`` and return the status of whatever answers.

    For an address that is no provider's; what it says beyond the status is not waited for. Its
    user and password become an ``Authorization``. Raises OSError, or TimeoutError for a late
    answer; their texts never hold the address.
    """
    return ask_anywhere("POST", address, headers, seconds, body, most=0).status


class Page(NamedTuple):
    """Whatever answered, and the beginning of what it said."""

    status: int
    headers: Mapping[str, str]  # names in any case
    body: bytes


def ask_anywhere(
    method: str,
    address: str,
    headers: Mapping[str, str],
    seconds: float,
    body: bytes = b"",
    most: int = PAGE_MAX,
) -> Page:
    """Send one request within ``seconds`` and read up to ``most`` bytes of the answer, if any.

    See :func:`post_anywhere`. Follows no redirect.
    """
    parts = urlsplit(address)
    pool_of = _TlsPool if parts.scheme == "https" else _Pool
    tls: dict[str, Any] = {"ssl_context": tls_context()} if pool_of is _TlsPool else {}
    pool = pool_of(parts.hostname or "", port=parts.port, maxsize=1, **tls)
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers = {**headers, **urllib3.make_headers(basic_auth=pair)}
    clock = _current.clock = WholeCall(seconds)
    path = urlunsplit(("", "", parts.path or "/", parts.query, ""))
    try:
        response = pool.urlopen(
            method, path, body=body or (None if method == "GET" else b""),
            headers={"User-Agent": "EnergyRiskIQ-alerts", **headers}, retries=False,
            redirect=False, timeout=None, preload_content=False,
        )  # fmt: skip
        text = _read(response, most).body if most else b""
    except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
        late = TimeoutError("no answer within the time limit")
        raise (late if clock.late else OSError(_unreached(error))) from None
    finally:
        pool.close()
    return Page(response.status, response.headers, text)


def _unreached(error: Exception) -> str:
    cause = untrusted(error)
    return f"certificate not trusted ({cause})" if cause else "cannot be reached"


def _is_no_http(error: Exception) -> bool:
    """Whether the answer is not HTTP; a cut-off beginning of a status line may still be."""
    for cause in causes(error):
        if isinstance(cause, http.client.RemoteDisconnected | http.client.IncompleteRead):
            return False
        if isinstance(cause, http.client.BadStatusLine):
            line = str(cause.args[0])
            return line.endswith("\n") or not "HTTP/".startswith(line[:5])
        if isinstance(cause, http.client.HTTPException):
            return True
    return False


def _read(response: urllib3.BaseHTTPResponse, most: int = BODY_MAX) -> Raw:
    """Read as much of the body as arrives in time, up to a size that no real answer reaches."""
    body, whole = b"", True
    try:
        while len(body) <= most and (part := response.read1(most + 1 - len(body))):
            body += part
    except (urllib3.exceptions.HTTPError, OSError, ValueError):
        whole = False
    if not response.closed:
        response.close()  # with bytes left on it, the connection cannot be kept
    response.release_conn()
    return Raw(response.status, response.headers, body, whole and len(body) <= most)
