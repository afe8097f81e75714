"""How the SMTP adapter meets a server: its name, TLS on the wrong port, refusals for now."""

import socket
from pathlib import Path

import pytest

from alerts.channels.transport.smtp_server import own_name
from alerts.failures import FailureCode as Code
from tests.support.adapters import failure_of, lasting, message_for, smtp
from tests.support.certificates import server_tls
from tests.support.mailserver import USER, MailServer

LIMIT = 0.4


@pytest.mark.parametrize(
    ("hostname", "introduced"),
    [
        ("mail.example.com", "mail.example.com"),
        ("ip-10-0-0-7.eu-west-1.compute.amazonaws.com",) * 2,
        ("post.bücher.de", "post.xn--bcher-kva.de"),
        ("runner", "[127.0.0.1]"),
        ("localhost.localdomain", "[127.0.0.1]"),
        ("build-7.local", "[127.0.0.1]"),
        ("fv-az1.internal", "[127.0.0.1]"),
        ("my_host.example.com", "[127.0.0.1]"),
        ("10.0.0.7", "[127.0.0.1]"),
        ("[10.0.0.7]", "[127.0.0.1]"),
        ("", "[127.0.0.1]"),
        ("a b.example.com", "[127.0.0.1]"),
    ],
)
def test_the_name_is_a_whole_one_or_the_connections_own_address(
    hostname: str, introduced: str, mail: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: hostname)
    smtp(mail).send(message_for())
    assert mail.names == [introduced]


def test_the_configured_name_goes_first(mail: MailServer) -> None:
    smtp(mail, ehlo_name="out.example.org").send(message_for())
    assert mail.names == ["out.example.org"]


@pytest.mark.parametrize(
    ("address", "literal"),
    [
        ("203.0.113.9", "[203.0.113.9]"),
        ("2001:db8::9", "[IPv6:2001:db8::9]"),
        ("fe80::1%eth0", "[IPv6:fe80::1]"),
        ("::ffff:203.0.113.9", "[203.0.113.9]"),
    ],
)
def test_the_address_is_that_of_this_connection(
    address: str, literal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Connected(socket.socket):
        def getsockname(self) -> tuple[str, int]:
            return address, 4711

    monkeypatch.setattr(socket, "gethostname", lambda: "runner")
    with Connected() as connection:
        assert own_name(connection) == literal


def test_smtps_to_a_port_without_tls_says_what_to_set(mail: MailServer) -> None:
    failure = failure_of(smtp(mail, smtps=True), message_for())
    assert (failure.code, failure.handed_over) == (Code.UNEXPECTED_ANSWER, False)
    assert "this port does not speak TLS: use smtp:// with 587" in failure.detail


def test_smtp_to_a_port_with_tls_says_what_to_set(certificate: Path) -> None:
    with (
        MailServer(smtps=server_tls(certificate)) as mail,
        lasting(LIMIT, 3 * LIMIT + 1),
    ):
        failure = failure_of(smtp(mail, timeout=LIMIT), message_for())
    assert (failure.code, failure.handed_over) == (Code.UNEXPECTED_ANSWER, False)
    assert "use smtps://" in failure.detail


def test_starttls_that_goes_on_in_the_clear_is_unexpected() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with MailServer() as mail, listener:
        mail.fail("EHLO", "250-mail.example.com\r\n250 STARTTLS")
        mail.fail("STARTTLS", "220 go ahead\r\n220 and some more")
        failure = failure_of(smtp(mail), message_for())
    assert failure.code is Code.UNEXPECTED_ANSWER


@pytest.mark.parametrize(
    "greeting", ["SSH-2.0-OpenSSH_9.6", "+OK POP3 ready", "* OK IMAP4rev1", "<html>", "hello"]
)
def test_another_program_on_the_port_is_unexpected(greeting: str, mail: MailServer) -> None:
    mail.fail("CONNECT", greeting)
    failure = failure_of(smtp(mail), message_for())
    assert (failure.code, failure.handed_over) == (Code.UNEXPECTED_ANSWER, False)
    assert "SMTP_URL" in failure.detail


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("CONNECT", "421 4.7.0 too many connections"),
        ("EHLO", "421 4.3.2 shutting down"),
        ("AUTH", "454 4.7.0 temporary authentication failure"),
        ("AUTH", "421 4.7.0 try later"),
        ("STARTTLS", "454 4.7.0 TLS not available"),
    ],
)
def test_refusal_for_now_while_connecting_concerns_the_channel(
    command: str, reply: str, certificate: Path
) -> None:
    with MailServer(starttls=server_tls(certificate), login=True) as mail:
        mail.fail(command, reply, times=5)
        channel = smtp(mail, user=USER)
        failure = failure_of(channel, message_for())
        assert failure.code is Code.PROVIDER_UNAVAILABLE
        assert failure.concerns_channel
        assert mail.commands["MAIL"] == 0
        mail.fail(command, "", times=0)
        assert channel.send(message_for())
