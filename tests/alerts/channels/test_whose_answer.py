"""An answer counts if it is the provider's own, and final."""

import gzip
import json
from pathlib import Path

import pytest

from alerts.failures import FailureCode as Code
from tests.support.adapters import (
    HTTP_ADAPTERS,
    failure_of,
    message_for,
    resend,
    telegram,
    trusting,
    twilio,
)
from tests.support.certificates import server_tls
from tests.support.mailserver import MailServer
from tests.support.providers import Fault, HttpProvider, own_error, refusal

ALL = pytest.mark.parametrize("name", HTTP_ADAPTERS)

INTERIM = {
    100: b"HTTP/1.1 100 Continue\r\n\r\n",
    102: b"HTTP/1.1 102 Processing\r\n\r\n",
    103: b"HTTP/1.1 103 Early Hints\r\nLink: </s.css>; rel=preload\r\nLink: </t.js>\r\n\r\n",
    104: b"HTTP/1.1 104 Upload Resumption Supported\r\n\r\n",
    199: b"HTTP/1.1 199\r\nX-Any: thing\r\n\r\n",
}


@ALL
@pytest.mark.parametrize(
    "interim", [*([s] for s in INTERIM), [103, 100, 103], [102] * 50, list(INTERIM)]
)
def test_interim_answers_are_read_past(
    name: str, interim: list[int], provider: HttpProvider
) -> None:
    provider.interim = tuple(INTERIM[status] for status in interim)
    channel = HTTP_ADAPTERS[name](provider.url)
    assert channel.send(message_for(name, "d-1"))
    assert channel.send(message_for(name, "d-2"))
    provider.faults.append(refusal(429, own_error(name, 429), Retry_After="7"))
    failure = failure_of(channel, message_for(name, "d-3"))
    assert (failure.code, failure.retry_after) == (Code.RATE_LIMITED, 7.0)
    assert len(provider.accepted) == 2
    assert provider.connections == 1


@ALL
def test_interim_answers_are_read_past_over_tls(name: str, certificate: Path) -> None:
    with HttpProvider(server_tls(certificate)) as provider:
        provider.interim = (INTERIM[103], INTERIM[102])
        channel = HTTP_ADAPTERS[name](provider.url, tls=trusting(certificate))
        assert channel.send(message_for(name, "d-1"))
        assert channel.send(message_for(name, "d-2"))
        assert provider.connections == 1


@ALL
def test_interim_answer_alone_is_no_answer(name: str, provider: HttpProvider) -> None:
    provider.interim = (INTERIM[103],)
    provider.faults.append(Fault("close"))
    failure = failure_of(HTTP_ADAPTERS[name](provider.url), message_for(name))
    assert failure.code is Code.OUTCOME_UNKNOWN


@ALL
def test_interim_answers_without_end_keep_the_time_limit(name: str, provider: HttpProvider) -> None:
    provider.interim = (INTERIM[103] * 100_000,)
    provider.faults.append(Fault("hang"))
    failure = failure_of(HTTP_ADAPTERS[name](provider.url, timeout=0.3), message_for(name))
    assert failure.code is Code.OUTCOME_UNKNOWN


@ALL
def test_change_of_protocol_is_nobodys_answer(name: str, provider: HttpProvider) -> None:
    channel = HTTP_ADAPTERS[name](provider.url)
    provider.faults.append(Fault(status=101, headers={"Upgrade": "websocket"}))
    assert failure_of(channel, message_for(name)).code is Code.UNEXPECTED_ANSWER
    assert channel.send(message_for(name))
    assert provider.connections == 2


HTML = b"<!doctype html><title>Blocked</title><p>Sign in to the network."
FOREIGN = {
    "html": HTML,
    "html-upper": b"  \r\n<HTML><body>502</body></HTML>",
    "text": b"upstream connect error",
    "xml": b'<?xml version="1.0"?><error/>',
    "array": b"[1]",
    "string": b'"ok"',
    "empty-object": b"{}",
    "other-object": b'{"error": {"reason": "quota"}, "detail": "no"}',
    "other-ok": b'{"ok": "yes", "success": true}',
    "utf-16": '{"id": 1}'.encode("utf-16"),
    "numbers": b'{"code": [1], "message": 5, "name": null, "ok": 1, "error_code": true}',
}


@ALL
@pytest.mark.parametrize("status", [200, 201, 204, 400, 401, 403, 404, 422, 429, 500, 502, 503])
def test_page_of_a_proxy_is_unexpected_whatever_its_status(
    name: str, status: int, provider: HttpProvider
) -> None:
    provider.faults.append(Fault(status=status, body=HTML if status != 204 else b"",
                                 headers={"Content-Type": "text/html"}))  # fmt: skip
    failure = failure_of(HTTP_ADAPTERS[name](provider.url), message_for(name))
    assert (failure.code, failure.handed_over) == (Code.UNEXPECTED_ANSWER, True)
    assert str(status) in failure.detail
    assert "_API_BASE" in failure.detail


@ALL
@pytest.mark.parametrize("status", [200, 403, 500])
@pytest.mark.parametrize("kind", FOREIGN)
def test_any_foreign_body_is_unexpected(
    name: str, status: int, kind: str, provider: HttpProvider
) -> None:
    provider.faults.append(Fault(status=status, body=FOREIGN[kind]))
    failure = failure_of(HTTP_ADAPTERS[name](provider.url), message_for(name))
    assert (failure.code, failure.handed_over) == (Code.UNEXPECTED_ANSWER, True)


@ALL
@pytest.mark.parametrize("other", HTTP_ADAPTERS)
def test_answers_of_other_providers_are_foreign(
    name: str, other: str, provider: HttpProvider
) -> None:
    if name == other or {name, other} == {"brevo", "twilio"}:
        return  # these two write errors alike
    provider.faults.append(refusal(403, own_error(other, 403)))
    failure = failure_of(HTTP_ADAPTERS[name](provider.url), message_for(name))
    assert failure.code is Code.UNEXPECTED_ANSWER


@ALL
@pytest.mark.parametrize("how", ["endless", "drip_body"])
@pytest.mark.parametrize("status", [200, 503])
def test_page_that_does_not_end_is_a_page(
    name: str, how: str, status: int, provider: HttpProvider
) -> None:
    provider.faults.append(Fault(how, status=status, body=HTML))
    failure = failure_of(HTTP_ADAPTERS[name](provider.url, timeout=0.3), message_for(name))
    assert failure.code is Code.UNEXPECTED_ANSWER


@ALL
@pytest.mark.parametrize("status", [400, 403, 422])
def test_refusal_that_was_cut_off_leaves_the_outcome_open(
    name: str, status: int, provider: HttpProvider
) -> None:
    provider.faults.append(Fault("cut", status=status, body=b'{"code": "invalid_'))
    failure = failure_of(HTTP_ADAPTERS[name](provider.url), message_for(name))
    assert failure.code is Code.OUTCOME_UNKNOWN


@ALL
@pytest.mark.parametrize("status", [400, 401, 403, 407, 302])
def test_refusal_without_a_body_is_not_the_providers(
    name: str, status: int, provider: HttpProvider
) -> None:
    provider.faults.append(Fault(status=status))
    failure = failure_of(HTTP_ADAPTERS[name](provider.url), message_for(name))
    assert failure.code is Code.UNEXPECTED_ANSWER


@ALL
@pytest.mark.parametrize("status", [300, 302, 308, 407])
def test_no_body_makes_such_a_status_the_providers(
    name: str, status: int, provider: HttpProvider
) -> None:
    provider.faults.append(refusal(status, own_error(name, status)))
    failure = failure_of(HTTP_ADAPTERS[name](provider.url), message_for(name))
    assert failure.code is Code.UNEXPECTED_ANSWER


@ALL
@pytest.mark.parametrize(
    "said", [b"220 mail.example.com ESMTP\r\n", b"SSH-2.0-OpenSSH_9.6\r\n", b"\x15\x03\x01\x00\x02"]
)
def test_another_program_on_the_port_is_unexpected(
    name: str, said: bytes, provider: HttpProvider
) -> None:
    provider.faults.append(Fault("raw", body=said))
    failure = failure_of(HTTP_ADAPTERS[name](provider.url), message_for(name))
    assert (failure.code, failure.handed_over) == (Code.UNEXPECTED_ANSWER, True)


@ALL
@pytest.mark.parametrize("said", [b"HT", b"HTTP/1.1 20", b"HTTP/1.1 4"])
def test_status_line_that_was_cut_off_leaves_the_outcome_open(
    name: str, said: bytes, provider: HttpProvider
) -> None:
    provider.faults.append(Fault("raw", body=said))
    failure = failure_of(HTTP_ADAPTERS[name](provider.url), message_for(name))
    assert failure.code is Code.OUTCOME_UNKNOWN


@ALL
def test_https_of_a_port_without_tls_says_what_to_set(name: str) -> None:
    with MailServer() as mail:  # it greets, as no TLS server does
        failure = failure_of(HTTP_ADAPTERS[name](f"https://127.0.0.1:{mail.port}"),
                             message_for(name))  # fmt: skip
    assert (failure.code, failure.handed_over) == (Code.UNEXPECTED_ANSWER, False)
    assert "does not speak TLS: use http://" in failure.detail


@ALL
def test_http_to_a_port_with_tls_is_no_refusal_of_the_message(name: str, certificate: Path) -> None:
    with HttpProvider(server_tls(certificate)) as provider:
        url = provider.url.replace("https:", "http:")
        failure = failure_of(HTTP_ADAPTERS[name](url), message_for(name))
    # It hangs up, before or after the whole request has left.
    assert failure.code in (Code.UNEXPECTED_ANSWER, Code.OUTCOME_UNKNOWN, Code.NETWORK)


def test_answer_that_a_gateway_compressed_is_read(provider: HttpProvider) -> None:
    body = gzip.compress(json.dumps({"id": "49a3999c-0ce1"}).encode())
    provider.faults.append(Fault(status=200, body=body, headers={"Content-Encoding": "gzip"}))
    assert resend(provider.url).send(message_for()) == "49a3999c-0ce1"


@pytest.mark.parametrize(
    ("error_code", "code"),
    [
        (400, Code.PAYLOAD_INVALID),
        (401, Code.AUTH_FAILED),
        (403, Code.RECIPIENT_BLOCKED),
        (429, Code.RATE_LIMITED),
        (500, Code.PROVIDER_UNAVAILABLE),
    ],
)
def test_telegrams_200_that_is_not_ok_means_its_error_code(
    error_code: int, code: Code, provider: HttpProvider
) -> None:
    provider.faults.append(refusal(200, own_error("telegram", error_code)))
    assert failure_of(telegram(provider.url), message_for("telegram")).code is code


@pytest.mark.parametrize(
    ("status", "error_code", "code"),
    [
        ("failed", 30005, Code.RECIPIENT_INVALID),
        ("failed", 30002, Code.ACCOUNT_LIMITED),
        ("undelivered", 30003, Code.PROVIDER_UNAVAILABLE),
        ("failed", 21610, Code.RECIPIENT_BLOCKED),
        ("failed", 14107, Code.RATE_LIMITED),
        ("failed", 30007, Code.PAYLOAD_INVALID),
        ("failed", None, Code.PAYLOAD_INVALID),
        ("canceled", None, Code.PAYLOAD_INVALID),
    ],
)
def test_twilios_201_of_a_failed_message_is_a_failure(
    status: str, error_code: int | None, code: Code, provider: HttpProvider
) -> None:
    body = {"sid": "SM1", "status": status, "error_code": error_code, "error_message": "no"}
    provider.faults.append(refusal(201, body))
    failure = failure_of(twilio(provider.url), message_for("twilio"))
    assert (failure.code, failure.handed_over) == (code, False)


@pytest.mark.parametrize("status", ["queued", "accepted", "sending", "sent", "scheduled"])
def test_twilios_201_of_a_message_on_its_way_is_a_success(
    status: str, provider: HttpProvider
) -> None:
    provider.faults.append(refusal(201, {"sid": "SM1", "status": status, "error_code": None}))
    assert twilio(provider.url).send(message_for("twilio")) == "SM1"


@pytest.mark.parametrize("name", ["brevo", "resend", "twilio"])
def test_success_whose_body_is_a_refusal_is_a_refusal(name: str, provider: HttpProvider) -> None:
    provider.faults.append(refusal(200, own_error(name, 200)))
    assert failure_of(HTTP_ADAPTERS[name](provider.url), message_for(name)).code is (
        Code.PAYLOAD_INVALID
    )
