"""The SMTP adapter against a real mail server."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email import message_from_bytes
from email.policy import default

import pytest

from alerts.channels.smtp import SmtpChannel
from alerts.channels.transport.smtp_server import SmtpServer
from alerts.failures import FailureCode as Code
from tests.support.adapters import EMAIL, FROM, failure_of, lasting, message_for, smtp
from tests.support.mailserver import MailServer

LIMIT = 0.4
REMOTE = "0.0.0.0"  # noqa: S104  (reaches this machine, and does not count as loopback)


def test_email_arrives_as_it_was_meant(mail: MailServer) -> None:
    text = "Gas – halted\n.\n..dots\n" + "long " * 400
    message_id = smtp(mail).send(message_for(text=text))
    [arrived] = mail.mails
    assert (arrived.sender, arrived.recipient) == ("alerts@example.com", EMAIL)
    parsed = message_from_bytes(arrived.content, policy=default)
    assert parsed["From"] == "Énergie <alerts@example.com>"
    assert parsed["Message-ID"] == message_id == "<d-17@example.com>"
    plain = parsed.get_body(("plain",))
    assert plain is not None
    assert plain.get_content().replace("\r\n", "\n").rstrip("\n") == text.rstrip("\n")


@pytest.mark.parametrize(
    ("command", "reply", "code"),
    [
        ("CONNECT", "421 4.3.2 busy", Code.PROVIDER_UNAVAILABLE),
        ("CONNECT", "554 5.7.1 go away", Code.SENDER_REJECTED),
        ("CONNECT", "close", Code.NETWORK),
        ("CONNECT", "garbage", Code.UNEXPECTED_ANSWER),
        ("CONNECT", "endless", Code.NETWORK),
        ("EHLO", "421 4.3.2 busy", Code.PROVIDER_UNAVAILABLE),
        ("EHLO", "550 5.7.1 no", Code.SENDER_REJECTED),
        ("EHLO", "close", Code.NETWORK),
        ("EHLO", "endless", Code.NETWORK),
        ("MAIL", "451 4.3.0 later", Code.PROVIDER_UNAVAILABLE),
        ("MAIL", "421 4.3.2 closing", Code.PROVIDER_UNAVAILABLE),
        ("MAIL", "550 5.1.8 domain", Code.SENDER_REJECTED),
        ("MAIL", "553 5.7.1 not yours", Code.SENDER_REJECTED),
        ("MAIL", "530 5.7.0 log in", Code.AUTH_FAILED),
        ("MAIL", "550 5.4.5 daily limit", Code.QUOTA_PROVIDER),
        ("MAIL", "close", Code.NETWORK),
        ("RCPT", "550 5.1.1 unknown", Code.RECIPIENT_INVALID),
        ("RCPT", "550 unknown", Code.RECIPIENT_INVALID),
        ("RCPT", "551 moved", Code.RECIPIENT_INVALID),
        ("RCPT", "553 5.1.3 syntax", Code.RECIPIENT_INVALID),
        ("RCPT", "501 5.1.3 syntax", Code.RECIPIENT_INVALID),
        ("RCPT", "550 5.1.8 sender domain", Code.SENDER_REJECTED),
        ("RCPT", "553 5.7.1 not owned by you", Code.SENDER_REJECTED),
        ("RCPT", "550 5.4.5 daily limit", Code.QUOTA_PROVIDER),
        ("RCPT", "530 5.7.0 log in", Code.AUTH_FAILED),
        ("RCPT", "450 4.2.0 greylisted", Code.PROVIDER_UNAVAILABLE),
        ("RCPT", "452 4.2.2 full", Code.PROVIDER_UNAVAILABLE),
        ("RCPT", "552 5.2.2 full", Code.PROVIDER_UNAVAILABLE),
        ("RCPT", "554 5.7.1 relay denied", Code.POLICY_REFUSED),
        ("RCPT", "close", Code.NETWORK),
        ("DATA", "451 4.3.0 later", Code.PROVIDER_UNAVAILABLE),
        ("DATA", "554 5.5.1 no", Code.PAYLOAD_INVALID),
        ("DATA", "close", Code.NETWORK),
        ("CONTENT", "451 4.3.0 later", Code.PROVIDER_UNAVAILABLE),
        ("CONTENT", "421 4.3.2 closing", Code.PROVIDER_UNAVAILABLE),
        ("CONTENT", "554 5.7.1 spam", Code.POLICY_REFUSED),
        ("CONTENT", "554 5.6.0 no", Code.PAYLOAD_INVALID),
        ("CONTENT", "550 5.4.5 daily limit", Code.QUOTA_PROVIDER),
        ("CONTENT", "close", Code.OUTCOME_UNKNOWN),
        ("CONTENT", "garbage", Code.UNEXPECTED_ANSWER),
    ],
)
def test_refusal_at_each_command(command: str, reply: str, code: Code, mail: MailServer) -> None:
    mail.fail(command, reply)
    channel = smtp(mail)
    with lasting(0, 3):
        failure = failure_of(channel, message_for())
    assert failure.code is code
    assert EMAIL not in failure.detail
    if reply[:3].isdigit():
        assert failure.detail.startswith(f"SMTP {reply[:3]}")
    assert mail.mails == []
    assert channel.send(message_for(key="d-18")) == "<d-18@example.com>"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("CONNECT", Code.TIMEOUT_CONNECT),
        ("EHLO", Code.TIMEOUT_CONNECT),
        ("MAIL", Code.TIMEOUT_CONNECT),
        ("RCPT", Code.TIMEOUT_CONNECT),
        ("DATA", Code.TIMEOUT_CONNECT),
        ("CONTENT", Code.OUTCOME_UNKNOWN),
    ],
)
def test_server_that_hangs_ends_by_the_deadline(command: str, code: Code, mail: MailServer) -> None:
    mail.fail(command, "hang")
    channel = smtp(mail, timeout=LIMIT)
    with lasting(LIMIT, LIMIT + 1):
        assert failure_of(channel, message_for()).code is code
    assert mail.mails == []


def test_server_that_drips_ends_by_the_deadline() -> None:
    stop = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        connection, _ = listener.accept()
        while not stop.wait(0.05):
            connection.send(b"2")

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    server = SmtpServer("127.0.0.1", listener.getsockname()[1], None, None, False)
    with lasting(LIMIT, LIMIT + 1):
        failure = failure_of(SmtpChannel(server, FROM, timeout=LIMIT), message_for())
    stop.set()
    thread.join(5)
    listener.close()
    assert failure.code is Code.TIMEOUT_CONNECT


def test_content_that_could_not_leave_as_a_whole_was_not_sent() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def converse() -> None:
        connection, _ = listener.accept()
        file = connection.makefile("rb")
        for reply in (b"220 hi", b"250 hi", b"250 ok", b"250 ok", b"354 go"):
            connection.sendall(reply + b"\r\n")
            if reply != b"354 go":
                file.readline() if reply != b"220 hi" else None
        done.wait(10)
        connection.close()

    done = threading.Event()
    thread = threading.Thread(target=converse, daemon=True)
    thread.start()
    server = SmtpServer("127.0.0.1", listener.getsockname()[1], None, None, False)
    channel = SmtpChannel(server, FROM, timeout=LIMIT)
    failure = failure_of(channel, message_for(text="x" * 16_000_000, html=""))
    done.set()
    thread.join(5)
    listener.close()
    assert failure.code is Code.TIMEOUT_CONNECT


def test_refused_connection_is_a_network_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = SmtpServer("127.0.0.1", taken.getsockname()[1], None, None, False)
    assert failure_of(SmtpChannel(server, FROM), message_for()).code is Code.NETWORK


def test_unresolvable_name_is_a_network_failure() -> None:
    server = SmtpServer("no-such-host.invalid", 25, None, None, False)
    assert failure_of(SmtpChannel(server, FROM), message_for()).code is Code.NETWORK


def test_hundred_messages_go_over_one_connection_whatever_happens_to_some(
    mail: MailServer,
) -> None:
    channel = smtp(mail)
    for number in range(100):
        if number % 10 == 3:
            mail.fail("RCPT", "550 5.1.1 unknown")
            failure_of(channel, message_for())
        if number % 10 == 6:
            mail.fail("CONTENT", "554 5.7.1 spam")
            failure_of(channel, message_for())
        channel.send(message_for(key=f"d-{number}"))
    assert len(mail.mails) == 100
    assert mail.connections == 1


def test_refused_reset_costs_the_connection_not_the_verdict(mail: MailServer) -> None:
    channel = smtp(mail)
    mail.fail("RCPT", "550 5.1.1 unknown")
    mail.fail("RSET", "421 4.3.2 closing")
    assert failure_of(channel, message_for()).code is Code.RECIPIENT_INVALID
    channel.send(message_for())
    assert mail.connections == 2


def test_connection_closed_while_idle_is_replaced(mail: MailServer) -> None:
    channel = smtp(mail)
    for number in range(4):
        channel.send(message_for(key=f"d-{number}"))
        mail.drop_connections()
    assert len(mail.mails) == mail.connections == 4


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("reply", ["421 4.4.2 idle for too long", "close"])
def test_kept_connection_that_is_closing_is_replaced_once(
    command: str, reply: str, mail: MailServer
) -> None:
    channel = smtp(mail)
    channel.send(message_for(key="d-1"))
    mail.fail(command, reply)
    channel.send(message_for(key="d-2"))
    assert (len(mail.mails), mail.connections) == (2, 2)
    mail.fail(command, reply, times=2)
    assert failure_of(channel, message_for(key="d-3")).code in (
        Code.PROVIDER_UNAVAILABLE,
        Code.NETWORK,
    )
    assert mail.connections == 3


def test_close_says_goodbye(mail: MailServer) -> None:
    channel = smtp(mail)
    channel.send(message_for())
    channel.close()
    channel.close()
    channel.send(message_for())
    assert mail.connections == 2


def test_eight_threads_share_an_adapter(mail: MailServer) -> None:
    channel = smtp(mail)
    together = threading.Barrier(8)

    def send(worker: int) -> None:
        together.wait(5)
        for number in range(10):
            channel.send(message_for(key=f"d-{worker}-{number}"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(send, range(8)))
    assert len({mail.content for mail in mail.mails}) == 80
    assert mail.connections <= 8


@pytest.mark.parametrize("address", ["a@example.net>\r\nRSET", "", "a b@c.de", "a,b@c.de"])
def test_bad_address_never_reaches_the_server(address: str, mail: MailServer) -> None:
    failure = failure_of(smtp(mail), message_for(destination=address))
    assert failure.code is Code.RECIPIENT_INVALID
    assert mail.connections == 0


def test_deadline_covers_connecting_and_sending_together(mail: MailServer) -> None:
    started = time.monotonic()
    mail.fail("CONTENT", "hang")
    failure_of(smtp(mail, timeout=LIMIT), message_for())
    assert time.monotonic() - started < LIMIT + 1
