"""Deadlines, kept connections, TLS, threads and secrets of the HTTP adapters."""

import logging
import socket
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from alerts.channels.transport import http
from alerts.channels.transport.clock import CallClock
from alerts.channels.transport.sockets import connect
from alerts.failures import FailureCode as Code
from tests.support.adapters import (
    HTTP_ADAPTERS,
    brevo,
    failure_of,
    lasting,
    message_for,
    resend,
    telegram,
    trusting,
)
from tests.support.certificates import server_tls
from tests.support.providers import SECRETS, Fault, HttpProvider

ALL = pytest.mark.parametrize("name", HTTP_ADAPTERS)
LIMIT = 0.3


@ALL
@pytest.mark.parametrize("how", ["hang", "drip", "close"])
def test_request_without_an_answer_has_an_unknown_outcome(
    name: str, how: str, provider: HttpProvider
) -> None:
    provider.faults.append(Fault(how))
    with lasting(0 if how == "close" else LIMIT, LIMIT + 1):
        failure = failure_of(HTTP_ADAPTERS[name](provider.url, timeout=LIMIT), message_for(name))
    assert failure.code is Code.OUTCOME_UNKNOWN
    assert len(provider.requests) == 1


@ALL
@pytest.mark.parametrize("how", ["drip_body", "endless"])
def test_success_with_a_body_that_does_not_end_is_sent(
    name: str, how: str, provider: HttpProvider
) -> None:
    channel = HTTP_ADAPTERS[name](provider.url, timeout=LIMIT)
    provider.faults.append(Fault(how, status=200))
    with lasting(0, LIMIT + 1):
        assert channel.send(message_for(name)) is None
    assert channel.send(message_for(name, "next"))


@ALL
@pytest.mark.parametrize("how", ["drip_body", "endless"])
def test_refusal_with_a_body_that_does_not_end_counts_by_its_status(
    name: str, how: str, provider: HttpProvider
) -> None:
    provider.faults.append(Fault(how, status=503))
    with lasting(0, LIMIT + 1):
        failure = failure_of(HTTP_ADAPTERS[name](provider.url, timeout=LIMIT), message_for(name))
    assert failure.code is Code.PROVIDER_UNAVAILABLE


@ALL
def test_refused_connection_is_a_network_failure(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    failure = failure_of(HTTP_ADAPTERS[name](url), message_for(name))
    assert failure.code is Code.NETWORK


def test_unresolvable_name_is_a_network_failure() -> None:
    failure = failure_of(brevo("http://no-such-host.invalid"), message_for())
    assert failure.code is Code.NETWORK


def full_listener() -> tuple[socket.socket, list[socket.socket]]:
    """A port whose queue is full: connecting to it hangs."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        fillers.append(filler)
    return listener, fillers


@ALL
def test_connecting_that_hangs_is_a_timeout_with_nothing_sent(name: str) -> None:
    listener, fillers = full_listener()
    try:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with lasting(LIMIT, LIMIT + 1):
            failure = failure_of(HTTP_ADAPTERS[name](url, timeout=LIMIT), message_for(name))
    finally:
        for end in (listener, *fillers):
            end.close()
    assert failure.code is Code.TIMEOUT_CONNECT


def test_handshake_that_hangs_is_a_timeout_with_nothing_sent(provider: HttpProvider) -> None:
    provider.unread = True
    url = provider.url.replace("http:", "https:")
    with lasting(LIMIT, LIMIT + 1):
        failure = failure_of(resend(url, timeout=LIMIT), message_for())
    assert failure.code is Code.TIMEOUT_CONNECT
    assert provider.connections == 1
    assert provider.requests == []


def test_request_that_could_not_leave_as_a_whole_was_not_made(provider: HttpProvider) -> None:
    provider.unread = True  # a body beyond all socket buffers never leaves
    long = message_for(text="x" * 16_000_000)
    with lasting(LIMIT, LIMIT + 2):
        failure = failure_of(brevo(provider.url, timeout=LIMIT), long)
    assert failure.code is Code.TIMEOUT_CONNECT


def test_slow_address_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    listener, fillers = full_listener()
    with socket.create_server(("127.0.0.1", 0)) as good:
        both = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", end.getsockname())
            for end in (listener, good)
        ]
        # Two addresses for one name cannot be had without a name server.
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
        with lasting(LIMIT / 2, LIMIT):
            connection = connect("name.example", 1, CallClock(LIMIT, LIMIT))
        assert connection.getpeername() == good.getsockname()
        connection.close()
    for end in (listener, *fillers):
        end.close()


@ALL
def test_hundred_messages_go_over_one_connection(name: str, provider: HttpProvider) -> None:
    channel = HTTP_ADAPTERS[name](provider.url)
    for number in range(100):
        assert channel.send(message_for(name, f"d-{number}"))
    assert provider.connections == 1


@ALL
@pytest.mark.parametrize("status", [400, 429, 500])
def test_refusal_keeps_the_connection(name: str, status: int, provider: HttpProvider) -> None:
    channel = HTTP_ADAPTERS[name](provider.url)
    for number in range(5):
        provider.faults.append(Fault(status=status, body=b'{"code": "no"}'))
        failure_of(channel, message_for(name))
        assert channel.send(message_for(name, f"d-{number}"))
    assert provider.connections == 1


@ALL
def test_connection_closed_while_idle_is_replaced(name: str, provider: HttpProvider) -> None:
    channel = HTTP_ADAPTERS[name](provider.url)
    for number in range(5):
        assert channel.send(message_for(name, f"d-{number}"))
        provider.drop_connections()
    assert provider.connections == 5
    assert len(provider.accepted) == 5


def test_connection_idle_for_long_is_not_used_again(
    provider: HttpProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = brevo(provider.url)
    channel.send(message_for(key="d-1"))
    monkeypatch.setattr(http, "IDLE_SECONDS", 0.0)
    channel.send(message_for(key="d-2"))
    assert provider.connections == 2


def test_close_closes_the_kept_connections(provider: HttpProvider) -> None:
    channel = brevo(provider.url)
    channel.send(message_for())
    channel.close()
    assert failure_of(channel, message_for(key="d-2")).code is Code.NETWORK


@ALL
def test_eight_threads_share_an_adapter(name: str, provider: HttpProvider) -> None:
    channel = HTTP_ADAPTERS[name](provider.url, connections=8)
    together = threading.Barrier(8)

    def send(worker: int) -> list[str | None]:
        together.wait(5)
        return [channel.send(message_for(name, f"d-{worker}-{n}")) for n in range(25)]

    with ThreadPoolExecutor(8) as pool:
        ids = [one for many in pool.map(send, range(8)) for one in many]
    assert len(set(ids)) == len(provider.accepted) == 200
    assert provider.connections <= 8


def test_deadline_of_one_thread_is_not_that_of_another(provider: HttpProvider) -> None:
    provider.rule = lambda request: Fault("hang") if b"slow" in request.body else None
    channel = resend(provider.url, timeout=LIMIT)
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(failure_of, channel, message_for(text="slow"))
        until = time.monotonic() + 2 * LIMIT
        while time.monotonic() < until:
            assert channel.send(message_for())
    assert slow.result().code is Code.OUTCOME_UNKNOWN


@ALL
def test_https_works_and_keeps_its_connection(name: str, certificate: Path) -> None:
    with HttpProvider(server_tls(certificate)) as provider:
        channel = HTTP_ADAPTERS[name](provider.url, tls=trusting(certificate))
        for number in range(10):
            assert channel.send(message_for(name, f"d-{number}"))
        assert provider.connections == 1


@pytest.mark.parametrize("how", ["hang", "drip", "close"])
def test_https_keeps_the_deadline(how: str, certificate: Path) -> None:
    with HttpProvider(server_tls(certificate)) as provider:
        provider.faults.append(Fault(how))
        channel = brevo(provider.url, tls=trusting(certificate), timeout=LIMIT)
        with lasting(0, LIMIT + 1):
            failure = failure_of(channel, message_for())
    assert failure.code is Code.OUTCOME_UNKNOWN


@ALL
def test_certificate_that_nobody_signed_holds_the_channel(name: str, certificate: Path) -> None:
    with HttpProvider(server_tls(certificate)) as provider:
        failure = failure_of(HTTP_ADAPTERS[name](provider.url), message_for(name))
        assert failure.code is Code.AUTH_FAILED
        assert "certificate not trusted" in failure.detail
        assert provider.requests == []


@ALL
def test_proxy_variables_are_ignored(
    name: str, provider: HttpProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    assert HTTP_ADAPTERS[name](provider.url).send(message_for(name))


FAULTS = [
    Fault(status=401),
    Fault(status=404),
    Fault(status=302, headers={"Location": "/x"}),
    Fault(status=400, body=b'{"code": "reader@example.net", "name": "+31612345678 no"}'),
    Fault("close"),
    Fault("hang"),
    Fault("raw", body=b"HTTP/1.1 500 X\r\nno header at all\r\nContent-Length: 0\r\n\r\n"),
    Fault("raw", body=b"HTTP/1.1 500 X\r\n: \r\n\x00\r\nContent-Length: 2\r\n\r\n{}"),
]


@ALL
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.how}-{fault.status}")
def test_no_secret_and_no_address_is_in_errors_or_logs(
    name: str, fault: Fault, provider: HttpProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for logger in ("urllib3", "urllib3.connection", "urllib3.connectionpool", "urllib3.util.retry"):
        caplog.set_level(logging.DEBUG, logger)
    channel = HTTP_ADAPTERS[name](provider.url, timeout=LIMIT)
    channel.send(message_for(name, "first"))
    provider.faults.append(fault)
    failure = failure_of(channel, message_for(name))
    trace = "".join(traceback.format_exception(failure))
    unreachable = failure_of(HTTP_ADAPTERS[name]("http://127.0.0.1:9"), message_for(name))
    trace += "".join(traceback.format_exception(unreachable))
    for private in (*SECRETS, "reader@example.net", "+31612345678", "4711"):
        assert private not in trace
        assert private not in caplog.text
        assert private not in repr(vars(failure))


@ALL
@pytest.mark.parametrize("key", ["canary key", "canary\r\nX-Other: 1", "canarÿ", "canary☃"])
def test_key_with_impossible_characters_holds_the_channel_without_being_quoted(
    name: str, key: str, provider: HttpProvider
) -> None:
    failure = failure_of(HTTP_ADAPTERS[name](provider.url, key), message_for(name))
    assert failure.code is Code.AUTH_FAILED
    assert "canar" not in "".join(traceback.format_exception(failure))
    assert provider.accepted == []
    assert all("x-other" not in request.headers for request in provider.requests)


def test_telegram_token_cannot_leave_its_place_in_the_path(provider: HttpProvider) -> None:
    failure_of(telegram(provider.url, "1:a/../../x?y#z"), message_for("telegram"))
    assert provider.requests[0].path == "/bot1:a%2F..%2F..%2Fx%3Fy%23z/sendMessage"
