"""Two limits on a call: short ones until the message is handed over, a long one after it."""

import socket
import threading

import pytest

from alerts.channels.base import Channel
from alerts.channels.smtp import SmtpChannel
from alerts.channels.transport.clock import STEPS_MAX, CallClock, longest_call
from alerts.channels.transport.smtp_server import SmtpServer
from alerts.failures import FailureCode as Code
from tests.support.adapters import FROM, HTTP_ADAPTERS, failure_of, lasting, message_for, smtp
from tests.support.mailserver import MailServer
from tests.support.providers import Fault, HttpProvider

ALL = pytest.mark.parametrize("name", HTTP_ADAPTERS)
STEP, ANSWER = 0.3, 5.0


@ALL
def test_slow_answer_is_waited_for(name: str, provider: HttpProvider) -> None:
    provider.faults.append(Fault("slow", seconds=3 * STEP))
    channel = HTTP_ADAPTERS[name](provider.url, timeout=STEP, answer=ANSWER)
    with lasting(3 * STEP, ANSWER):
        assert channel.send(message_for(name))
    assert len(provider.accepted) == 1


@ALL
def test_answer_that_never_comes_is_waited_for_so_long(name: str, provider: HttpProvider) -> None:
    provider.faults.append(Fault("hang"))
    channel = HTTP_ADAPTERS[name](provider.url, timeout=STEP, answer=1.0)
    with lasting(1.0, 2.0):
        failure = failure_of(channel, message_for(name))
    assert (failure.code, failure.handed_over) == (Code.OUTCOME_UNKNOWN, True)


def test_verdict_on_the_message_is_waited_for(mail: MailServer) -> None:
    mail.fail("CONTENT", f"slow {3 * STEP}")
    channel = smtp(mail, timeout=STEP, answer=ANSWER)
    with lasting(3 * STEP, ANSWER):
        assert channel.send(message_for())
    assert len(mail.mails) == 1
    channel.send(message_for(key="d-18"))
    assert mail.connections == 1


def test_verdict_that_never_comes_is_waited_for_so_long(mail: MailServer) -> None:
    mail.fail("CONTENT", "hang")
    with lasting(1.0, 2.0):
        failure = failure_of(smtp(mail, timeout=STEP, answer=1.0), message_for())
    assert failure.code is Code.OUTCOME_UNKNOWN


@pytest.mark.parametrize("command", ["EHLO", "MAIL", "RCPT", "DATA"])
def test_patience_begins_when_the_message_has_left(command: str, mail: MailServer) -> None:
    mail.fail(command, "hang")
    with lasting(STEP, 1.5):
        failure = failure_of(smtp(mail, timeout=STEP, answer=ANSWER), message_for())
    assert (failure.code, failure.handed_over) == (Code.TIMEOUT_CONNECT, False)


def slow_mail_server(delay: float, stop: threading.Event) -> tuple[socket.socket, list[bytes]]:
    """Takes so long over every reply; gives its listener and what it was told."""
    listener, told = socket.create_server(("127.0.0.1", 0)), []

    def serve() -> None:
        connection, _ = listener.accept()
        file = connection.makefile("rb")
        in_content = False
        reply = b"220 hi"
        while not stop.wait(delay):
            connection.sendall(reply + b"\r\n")
            while (line := file.readline()) != b".\r\n" and in_content and line:
                pass
            told.append(line)
            in_content = line.startswith(b"DATA")
            reply = b"354 go" if in_content else b"250 ok"
            if not line:
                return

    threading.Thread(target=serve, daemon=True).start()
    return listener, told


def slow_channel(listener: socket.socket, timeout: float) -> Channel:
    server = SmtpServer("127.0.0.1", listener.getsockname()[1], None, None, False)
    return SmtpChannel(server, FROM, timeout=timeout, answer=ANSWER)


def test_each_step_has_the_limit_to_itself() -> None:
    stop = threading.Event()
    listener, told = slow_mail_server(0.3, stop)
    with listener, lasting(1.5, 4.0):  # six replies, each within a limit that all would break
        assert slow_channel(listener, 0.8).send(message_for())
    stop.set()
    assert told.count(b".\r\n") == 1


def test_many_slow_steps_end_together() -> None:
    stop = threading.Event()
    listener, told = slow_mail_server(0.35, stop)
    with listener, lasting(STEPS_MAX * 0.4, STEPS_MAX * 0.4 + 0.5):
        failure = failure_of(slow_channel(listener, 0.4), message_for())
    stop.set()
    assert failure.code is Code.TIMEOUT_CONNECT
    assert b".\r\n" not in told


def test_no_call_is_longer_than_its_limits_allow() -> None:
    clock = CallClock(10.0, 60.0)
    begun = clock.deadline - 10.0
    clock.hand_over()
    assert clock.deadline - begun <= longest_call(10.0, 60.0) == 100.0
