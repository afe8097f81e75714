"""Encryption and logins of the SMTP adapter."""

import traceback
from pathlib import Path

import pytest

from alerts.failures import FailureCode as Code
from tests.support.adapters import failure_of, lasting, message_for, smtp, trusting
from tests.support.certificates import server_tls
from tests.support.mailserver import USER, MailServer

LIMIT = 0.4
REMOTE = "0.0.0.0"  # noqa: S104  (reaches this machine, and does not count as loopback)


def test_login_over_starttls(certificate: Path) -> None:
    with MailServer(starttls=server_tls(certificate), login=True) as mail:
        channel = smtp(mail, host=REMOTE, user=USER, tls=trusting(certificate))
        for number in range(3):
            channel.send(message_for(key=f"d-{number}"))
        assert (len(mail.mails), mail.connections) == (3, 1)


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
def test_login_over_smtps(certificate: Path) -> None:
    with MailServer(smtps=server_tls(certificate), login=True) as mail:
        tls = trusting(certificate)
        smtp(mail, host=REMOTE, user=USER, smtps=True, tls=tls).send(message_for())
        assert len(mail.mails) == 1


def test_loopback_server_may_sign_for_itself(certificate: Path) -> None:
    with MailServer(starttls=server_tls(certificate), login=True) as mail:
        smtp(mail, user=USER).send(message_for())
        assert len(mail.mails) == 1


def test_remote_server_must_offer_starttls(mail: MailServer) -> None:
    failure = failure_of(smtp(mail, host=REMOTE), message_for())
    assert failure.code is Code.AUTH_FAILED
    assert "STARTTLS" in failure.detail
    assert mail.commands["MAIL"] == 0


@pytest.mark.parametrize("smtps", [False, True])
def test_certificate_that_nobody_signed_holds_the_channel(smtps: bool, certificate: Path) -> None:
    tls = server_tls(certificate)
    with MailServer(starttls=None if smtps else tls, smtps=tls if smtps else None) as mail:
        failure = failure_of(smtp(mail, host=REMOTE, smtps=smtps), message_for())
        assert failure.code is Code.AUTH_FAILED
        assert "certificate not trusted" in failure.detail
        assert mail.commands["MAIL"] == 0


def test_handshake_that_hangs_is_a_timeout(mail: MailServer) -> None:
    mail.fail("CONNECT", "hang")
    with lasting(LIMIT, LIMIT + 1):
        failure = failure_of(smtp(mail, smtps=True, timeout=LIMIT), message_for())
    assert failure.code is Code.TIMEOUT_CONNECT


def test_wrong_password_holds_the_channel_and_is_not_quoted(certificate: Path) -> None:
    with MailServer(starttls=server_tls(certificate), login=True) as mail:
        channel = smtp(mail, user=USER, password="canary-wrong")
        failure = failure_of(channel, message_for())
        assert failure.code is Code.AUTH_FAILED
        assert failure.detail.startswith("SMTP 535")
        trace = "".join(traceback.format_exception(failure))
        assert "canary" not in trace
        assert USER not in trace


def test_password_outside_ascii_holds_the_channel_and_is_not_quoted(certificate: Path) -> None:
    with MailServer(starttls=server_tls(certificate), login=True) as mail:
        channel = smtp(mail, user=USER, password="canary-pässword")
        failure = failure_of(channel, message_for())
        assert failure.code is Code.AUTH_FAILED
        assert "canary" not in "".join(traceback.format_exception(failure))


def test_server_that_wants_a_login_that_is_not_configured(certificate: Path) -> None:
    with MailServer(starttls=server_tls(certificate), login=True) as mail:
        failure = failure_of(smtp(mail), message_for())
        assert failure.code is Code.AUTH_FAILED
        assert failure.detail.startswith("SMTP 530")


def test_login_where_the_server_offers_none(mail: MailServer) -> None:
    mail.fail("EHLO", "250 bare.example.com")
    assert failure_of(smtp(mail, user=USER), message_for()).code is Code.AUTH_FAILED


@pytest.mark.parametrize("reply", ["535 5.7.8 no", "534 5.7.9 another way", "538 5.7.11 encrypt"])
def test_server_that_hangs_up_after_refusing_a_login_has_refused_it(
    reply: str, certificate: Path
) -> None:
    with MailServer(starttls=server_tls(certificate), login=True) as mail:
        mail.refuse_and_close("AUTH", reply)
        failure = failure_of(smtp(mail, user=USER), message_for())
        assert failure.code is Code.AUTH_FAILED
        assert failure.detail.startswith(f"SMTP {reply[:3]}")
