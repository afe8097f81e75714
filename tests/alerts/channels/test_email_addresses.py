"""Recipients of any kind through each email provider."""

import json

import pytest

from alerts.channels.brevo import BrevoChannel
from alerts.channels.smtp import SmtpChannel
from alerts.channels.transport.smtp_server import SmtpServer
from alerts.failures import FailureCode as Code
from alerts.settings.env import Secret
from tests.support.adapters import HTTP_ADAPTERS, failure_of, message_for, smtp
from tests.support.mailserver import MailServer
from tests.support.providers import BREVO_KEY, HttpProvider

WRITTEN = {
    "a@bücher.example": "a@xn--bcher-kva.example",
    "a@straße.example": "a@xn--strae-oqa.example",
    '"a b"@example.net': '"a b"@example.net',
    "a..b@example.net": '"a..b"@example.net',
}


@pytest.mark.parametrize("address", WRITTEN)
def test_mail_server_is_given_the_written_form(address: str, mail: MailServer) -> None:
    smtp(mail).send(message_for(destination=address))
    [arrived] = mail.mails
    assert mail.recipients == [f"TO:<{WRITTEN[address]}>"]
    assert f"\r\nTo: {WRITTEN[address]}\r\n".encode() in arrived.content


@pytest.mark.parametrize("address", WRITTEN)
@pytest.mark.parametrize("name", ["brevo", "resend"])
def test_api_is_given_the_written_form(name: str, address: str, provider: HttpProvider) -> None:
    HTTP_ADAPTERS[name](provider.url).send(message_for(name, destination=address))
    assert provider.accepted[0].destination == WRITTEN[address]


@pytest.mark.parametrize("address", ["jörg@example.net", "用户@例子.广告", '"j ö"@example.net'])
def test_name_beyond_ascii_goes_by_smtputf8_where_it_is_offered(address: str) -> None:
    with MailServer(smtputf8=True) as mail:
        channel = smtp(mail)
        channel.send(message_for(destination=address))
        channel.send(message_for(key="d-18"))
        first, second = mail.mails
    local = address.rpartition("@")[0]
    assert first.recipient.startswith(f"{local}@")
    assert f"\r\nTo: {local}@".encode() in first.content
    assert second.content.isascii()


@pytest.mark.parametrize("address", ["jörg@example.net", "用户@例子.广告"])
def test_name_beyond_ascii_is_refused_where_it_is_not_offered(
    address: str, mail: MailServer
) -> None:
    channel = smtp(mail)
    failure = failure_of(channel, message_for(destination=address))
    assert failure.code is Code.RECIPIENT_INVALID
    assert "SMTPUTF8" in failure.detail
    assert mail.commands["MAIL"] == 0
    assert channel.send(message_for())
    assert mail.connections == 1


@pytest.mark.parametrize("name", ["brevo", "resend"])
def test_name_beyond_ascii_is_refused_by_apis_that_do_not_take_it(
    name: str, provider: HttpProvider
) -> None:
    channel = HTTP_ADAPTERS[name](provider.url)
    failure = failure_of(channel, message_for(name, destination="jörg@example.net"))
    assert failure.code is Code.RECIPIENT_INVALID
    assert "SMTPUTF8" in failure.detail
    assert provider.connections == 0


def test_sender_of_an_international_domain_is_written_by_idna_2008(
    mail: MailServer, provider: HttpProvider
) -> None:
    sender = "Straße <alerts@straße.example>"
    server = SmtpServer("127.0.0.1", mail.port, None, None, False)
    assert SmtpChannel(server, sender).send(message_for()) == "<d-17@xn--strae-oqa.example>"
    assert mail.mails[0].sender == "alerts@xn--strae-oqa.example"
    BrevoChannel(Secret(BREVO_KEY), sender, provider.url).send(message_for())
    body = json.loads(provider.requests[0].body)
    assert body["sender"] == {"email": "alerts@xn--strae-oqa.example", "name": "Straße"}
