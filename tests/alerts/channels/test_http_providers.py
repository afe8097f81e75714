"""What each provider's answers become, over real sockets."""

import json
import time
from email.utils import formatdate
from typing import Any

import pytest

from alerts.failures import FailureCode as Code
from tests.support.adapters import HTTP_ADAPTERS, failure_of, message_for
from tests.support.providers import Fault, HttpProvider, own_error, refusal

ALL = pytest.mark.parametrize("name", HTTP_ADAPTERS)


@ALL
def test_taken_message_gives_the_providers_id(name: str, provider: HttpProvider) -> None:
    message_id = HTTP_ADAPTERS[name](provider.url).send(message_for(name))
    assert message_id
    [accepted] = provider.accepted
    assert (accepted.provider, accepted.destination) == (name, message_for(name).destination)
    assert accepted.text == "Gas – flows halted"


@ALL
@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=200),
        Fault(status=204),
        Fault(status=202, headers={"Content-Type": "application/json; charset=utf-8"}),
        Fault(status=200, body=b'{"id": [}'),
        Fault(status=200, body=b' {"messageId": "<1@smtp'),
        Fault(status=201, body=b"{" * 60_000),
        Fault("cut", status=200, body=b'{"ok": true, '),
        Fault("cut", status=201, body=b"  "),
    ],
    ids=lambda fault: f"{fault.how}-{fault.status}-{fault.body[:12]!r}",
)
def test_success_whose_body_is_empty_or_broken_off_is_sent_without_an_id(
    name: str, fault: Fault, provider: HttpProvider
) -> None:
    provider.faults.append(fault)
    assert HTTP_ADAPTERS[name](provider.url).send(message_for(name)) is None


@ALL
def test_an_id_that_is_no_id_is_not_stored(name: str, provider: HttpProvider) -> None:
    strange: list[Any] = ["a b", "x" * 300, "", ["id"], None, True, "é"]
    channel = HTTP_ADAPTERS[name](provider.url)
    for value in strange:
        fields = {"messageId": value, "id": value, "sid": value, "result": {"message_id": value}}
        fields |= {"ok": True, "status": "queued"}
        provider.faults.append(Fault(status=201, body=json.dumps(fields).encode()))
        assert channel.send(message_for(name)) is None


@ALL
def test_wrong_key_holds_the_channel(name: str, provider: HttpProvider) -> None:
    failure = failure_of(HTTP_ADAPTERS[name](provider.url, "wrong-key"), message_for(name))
    assert failure.code is Code.AUTH_FAILED
    assert provider.accepted == []


@ALL
@pytest.mark.parametrize("status", [500, 502, 503, 504, 408, 421, 425])
@pytest.mark.parametrize("empty", [True, False])
def test_provider_in_trouble_is_tried_again(
    name: str, status: int, empty: bool, provider: HttpProvider
) -> None:
    fault = Fault(status=status) if empty else refusal(status, own_error(name, status))
    provider.faults.append(fault)
    failure = failure_of(HTTP_ADAPTERS[name](provider.url), message_for(name))
    assert failure.code is Code.PROVIDER_UNAVAILABLE
    assert str(status) in failure.detail


@ALL
@pytest.mark.parametrize("status", [301, 302, 307, 308, 304])
def test_redirect_is_not_followed_and_holds_the_channel(
    name: str, status: int, provider: HttpProvider
) -> None:
    headers = {"Location": f"{provider.url}/elsewhere"}
    provider.faults.append(Fault(status=status, headers=headers))
    failure = failure_of(HTTP_ADAPTERS[name](provider.url), message_for(name))
    assert failure.code is Code.UNEXPECTED_ANSWER
    assert "_API_BASE" in failure.detail
    assert len(provider.requests) == 1


@pytest.mark.parametrize("name", ["brevo", "resend", "twilio"])
@pytest.mark.parametrize("status", [404, 405])
def test_address_that_is_not_the_api_holds_the_channel(
    name: str, status: int, provider: HttpProvider
) -> None:
    provider.faults.append(refusal(status, own_error(name, status)))
    failure = failure_of(HTTP_ADAPTERS[name](provider.url), message_for(name))
    assert failure.code is Code.AUTH_FAILED
    assert "_API_BASE" in failure.detail


@ALL
@pytest.mark.parametrize("status", [400, 413, 422, 451])
def test_what_cannot_be_told_apart_is_the_payload(
    name: str, status: int, provider: HttpProvider
) -> None:
    provider.faults.append(refusal(status, own_error(name, status)))
    failure = failure_of(HTTP_ADAPTERS[name](provider.url), message_for(name))
    assert failure.code is Code.PAYLOAD_INVALID


@ALL
def test_too_many_requests_says_how_long_to_wait(name: str, provider: HttpProvider) -> None:
    channel = HTTP_ADAPTERS[name](provider.url)
    provider.faults.append(Fault(status=429, headers={"Retry-After": "7"}))
    provider.faults.append(Fault(status=429))
    in_a_minute = formatdate(time.time() + 60, usegmt=True)
    provider.faults.append(Fault(status=429, headers={"Retry-After": in_a_minute}))
    waits = []
    for _ in range(3):
        failure = failure_of(channel, message_for(name))
        assert failure.code is Code.RATE_LIMITED
        waits.append(failure.retry_after)
    assert waits[:2] == [7.0, None]
    assert waits[2] == pytest.approx(60, abs=3)


@ALL
def test_unavailable_provider_may_say_how_long_to_wait(name: str, provider: HttpProvider) -> None:
    provider.faults.append(Fault(status=503, headers={"Retry-After": "30"}))
    failure = failure_of(HTTP_ADAPTERS[name](provider.url), message_for(name))
    assert (failure.code, failure.retry_after) == (Code.PROVIDER_UNAVAILABLE, 30.0)


@pytest.mark.parametrize("name", ["brevo", "resend"])
def test_idempotency_key_is_the_same_for_every_attempt_and_differs_between_messages(
    name: str, provider: HttpProvider
) -> None:
    channel = HTTP_ADAPTERS[name](provider.url)
    for key in ("d-17", "d-17", "d-18"):
        provider.faults.append(Fault(status=500))
        failure_of(channel, message_for(name, key))
    first, again, other = provider.requests
    assert first.body == again.body
    assert first.headers == again.headers
    if name == "resend":
        keys = [request.headers["idempotency-key"] for request in provider.requests]
    else:
        bodies = [json.loads(request.body) for request in (first, again, other)]
        keys = [body["headers"]["idempotencyKey"] for body in bodies]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize("name", ["brevo", "resend"])
def test_email_says_that_nobody_should_answer(name: str, provider: HttpProvider) -> None:
    HTTP_ADAPTERS[name](provider.url).send(message_for(name))
    headers = json.loads(provider.requests[0].body)["headers"]
    assert headers["Auto-Submitted"] == "auto-generated"
    assert headers["X-Auto-Response-Suppress"] == "All"


@pytest.mark.parametrize("name", ["brevo", "resend"])
@pytest.mark.parametrize(
    "address",
    [
        *("", "a", "a@", "@b", "a@b_c.de", "a@xn--.de\u2028", "a b@example.net", "a@b,c@d"),
        *("a@example.net\r\nBcc: x@y.z", "<a@example.net>", "a@-b.de", "a@b\n"),
        "a" * 65 + "@b.de",
    ],
)
def test_address_that_no_server_takes_is_refused_before_any_call(
    name: str, address: str, provider: HttpProvider
) -> None:
    failure = failure_of(HTTP_ADAPTERS[name](provider.url), message_for(name, destination=address))
    assert failure.code is Code.RECIPIENT_INVALID
    assert provider.connections == 0
    assert failure.detail == "not an email address"


@ALL
def test_any_characters_pass_as_utf8(name: str, provider: HttpProvider) -> None:
    text = 'Ω≈ç √∫ 🛢️ \u202e &<>" \x00 \r\n line'
    HTTP_ADAPTERS[name](provider.url).send(message_for(name, text=text))
    lone = message_for(name, "d-18", text="a\ud800b")
    HTTP_ADAPTERS[name](provider.url).send(lone)
    assert [accepted.text for accepted in provider.accepted] == [text, "a?b"]


@pytest.mark.parametrize("name", ["brevo", "resend"])
def test_subject_is_one_line_whatever_it_holds(name: str, provider: HttpProvider) -> None:
    hostile = "Gas\r\nBcc: victim@example.org\0\x85\u2028end"
    HTTP_ADAPTERS[name](provider.url).send(message_for(name, subject=hostile))
    assert provider.accepted[0].subject == "Gas Bcc: victim@example.org end"
