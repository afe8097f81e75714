"""What each provider's own codes become."""

import json

import pytest

from alerts.channels.base import Moved
from alerts.channels.twilio import CODES_OF
from alerts.failures import FailureCode as Code
from tests.support.adapters import brevo, failure_of, message_for, resend, telegram, twilio
from tests.support.providers import BOT_TOKEN, Fault, HttpProvider, own_error, refusal


def test_brevo_says_in_its_own_header_when_its_limit_resets(provider: HttpProvider) -> None:
    provider.faults.append(Fault(status=429, headers={"x-sib-ratelimit-reset": "45"}))
    assert failure_of(brevo(provider.url), message_for()).retry_after == 45.0


@pytest.mark.parametrize(
    ("status", "own_code", "code"),
    [
        (402, "not_enough_credits", Code.QUOTA_PROVIDER),
        (402, "", Code.QUOTA_PROVIDER),
        (401, "unauthorized", Code.AUTH_FAILED),
        (403, "permission_denied", Code.AUTH_FAILED),
        (403, "whatever", Code.AUTH_FAILED),
        (400, "account_under_validation", Code.AUTH_FAILED),
        (400, "invalid_parameter", Code.PAYLOAD_INVALID),
        (400, "missing_parameter", Code.PAYLOAD_INVALID),
        (400, "duplicate_request", Code.OUTCOME_UNKNOWN),
        (500, "unauthorized", Code.PROVIDER_UNAVAILABLE),
    ],
)
def test_brevo_codes(status: int, own_code: str, code: Code, provider: HttpProvider) -> None:
    provider.faults.append(refusal(status, {"code": own_code, "message": "reader@example.net"}))
    failure = failure_of(brevo(provider.url), message_for())
    assert failure.code is code
    assert failure.detail == f"Brevo {status} {own_code}".rstrip()


def test_brevo_refusing_a_known_idempotency_key_means_it_took_the_message(
    provider: HttpProvider,
) -> None:
    channel = brevo(provider.url)
    provider.faults.append(Fault("accept_then_answer", status=500))
    assert failure_of(channel, message_for()).code is Code.PROVIDER_UNAVAILABLE
    assert channel.send(message_for()) is None
    assert len(provider.accepted) == 1


@pytest.mark.parametrize(
    ("status", "own_code", "code"),
    [
        (401, "missing_api_key", Code.AUTH_FAILED),
        (401, "restricted_api_key", Code.AUTH_FAILED),
        (403, "invalid_api_key", Code.AUTH_FAILED),
        (403, "unheard_of", Code.AUTH_FAILED),
        (403, "validation_error", Code.SENDER_REJECTED),
        (403, "invalid_from_address", Code.SENDER_REJECTED),
        (422, "invalid_from_address", Code.SENDER_REJECTED),
        (422, "validation_error", Code.PAYLOAD_INVALID),
        (400, "validation_error", Code.PAYLOAD_INVALID),
        (409, "concurrent_idempotent_requests", Code.PROVIDER_UNAVAILABLE),
        (409, "invalid_idempotent_request", Code.OUTCOME_UNKNOWN),
        (429, "daily_quota_exceeded", Code.QUOTA_PROVIDER),
        (429, "monthly_quota_exceeded", Code.QUOTA_PROVIDER),
        (429, "rate_limit_exceeded", Code.RATE_LIMITED),
        (500, "application_error", Code.PROVIDER_UNAVAILABLE),
    ],
)
def test_resend_codes(status: int, own_code: str, code: Code, provider: HttpProvider) -> None:
    body = {"statusCode": status, "name": own_code, "message": "to reader@example.net: no"}
    provider.faults.append(refusal(status, body))
    failure = failure_of(resend(provider.url), message_for())
    assert (failure.code, failure.detail) == (code, f"Resend {status} {own_code}")


def test_resend_answers_a_repeated_attempt_with_the_first_id(provider: HttpProvider) -> None:
    channel = resend(provider.url)
    first = channel.send(message_for())
    assert channel.send(message_for()) == first
    assert len(provider.accepted) == 1
    assert failure_of(channel, message_for(text="other")).code is Code.OUTCOME_UNKNOWN


@pytest.mark.parametrize(
    ("status", "description", "code"),
    [
        (400, "Bad Request: chat not found", Code.RECIPIENT_INVALID),
        (400, "Bad Request: user not found", Code.RECIPIENT_INVALID),
        (400, "Bad Request: PEER_ID_INVALID", Code.RECIPIENT_INVALID),
        (400, "Bad Request: chat_id is empty", Code.RECIPIENT_INVALID),
        (400, "Bad Request: group is deactivated", Code.RECIPIENT_INVALID),
        # Without the new id beside it, nobody knows where the group is.
        (400, "Bad Request: group chat was upgraded to a supergroup chat", Code.RECIPIENT_INVALID),
        (400, "Bad Request: group chat was migrated to a supergroup chat", Code.RECIPIENT_INVALID),
        (400, "Bad Request: have no rights to send a message", Code.RECIPIENT_BLOCKED),
        (
            400,
            "Bad Request: not enough rights to send text messages to the chat",
            Code.RECIPIENT_BLOCKED,
        ),
        (400, "Bad Request: need administrator rights in the channel chat", Code.RECIPIENT_BLOCKED),
        (400, "Bad Request: CHAT_WRITE_FORBIDDEN", Code.RECIPIENT_BLOCKED),
        (400, "Bad Request: CHAT_RESTRICTED", Code.RECIPIENT_BLOCKED),
        (400, "Bad Request: TOPIC_CLOSED", Code.RECIPIENT_BLOCKED),
        (403, "Forbidden: bot was kicked from the supergroup chat", Code.RECIPIENT_BLOCKED),
        (
            403,
            "Forbidden: not enough rights to send text messages to the chat",
            Code.RECIPIENT_BLOCKED,
        ),
        (403, "Forbidden: bot can't initiate conversation with a user", Code.RECIPIENT_BLOCKED),
        (400, "Bad Request: can't parse entities: chat not found", Code.PAYLOAD_INVALID),
        (400, "Bad Request: message is too long", Code.PAYLOAD_INVALID),
        (401, "Unauthorized", Code.AUTH_FAILED),
        (404, "Not Found", Code.AUTH_FAILED),
        (403, "Forbidden: bot was blocked by the user", Code.RECIPIENT_BLOCKED),
        (403, "Forbidden: user is deactivated", Code.RECIPIENT_BLOCKED),
        (500, "Internal Server Error: chat not found", Code.PROVIDER_UNAVAILABLE),
    ],
)
def test_telegram_descriptions(
    status: int, description: str, code: Code, provider: HttpProvider
) -> None:
    body = {"ok": False, "error_code": status, "description": description}
    provider.faults.append(refusal(status, body))
    failure = failure_of(telegram(provider.url), message_for("telegram"))
    assert failure.code is code


@pytest.mark.parametrize(
    ("asked", "wait"), [(12, 12.0), (10**30, 86_400.0), (-5, None), ("soon", None), (True, None)]
)
def test_telegram_says_how_long_to_wait(
    asked: object, wait: float | None, provider: HttpProvider
) -> None:
    body = {"ok": False, "error_code": 429, "parameters": {"retry_after": asked}}
    provider.faults.append(refusal(429, body))
    failure = failure_of(telegram(provider.url), message_for("telegram"))
    assert (failure.code, failure.retry_after) == (Code.RATE_LIMITED, wait)


@pytest.mark.parametrize("word", ["upgraded", "migrated"])
def test_telegram_group_with_a_new_id_gets_the_message_there(
    word: str, provider: HttpProvider
) -> None:
    description = f"Bad Request: group chat was {word} to a supergroup chat"
    body = {"ok": False, "error_code": 400, "description": description}
    provider.faults.append(refusal(400, {**body, "parameters": {"migrate_to_chat_id": -100815}}))
    sent = telegram(provider.url).send(message_for("telegram"))
    assert sent == Moved("1", "-100815")
    assert [taken.destination for taken in provider.accepted] == ["-100815"]
    assert "815" not in repr(sent)


def test_telegram_group_whose_new_id_fails_ends_as_that_failure(provider: HttpProvider) -> None:
    moved = {"ok": False, "error_code": 400, "parameters": {"migrate_to_chat_id": -100815}}
    provider.faults += [refusal(400, moved), refusal(403, own_error("telegram", 403))]
    failure = failure_of(telegram(provider.url), message_for("telegram"))
    assert failure.code is Code.RECIPIENT_BLOCKED
    provider.faults += [refusal(400, moved), refusal(400, moved)]
    failure = failure_of(telegram(provider.url), message_for("telegram"))
    assert failure.code is Code.PAYLOAD_INVALID
    assert len(provider.requests) == 4


@pytest.mark.parametrize("header", ["30", "5, 40"])
def test_longer_of_telegrams_two_waits_counts(header: str, provider: HttpProvider) -> None:
    body = {"ok": False, "error_code": 429, "parameters": {"retry_after": 12}}
    provider.faults.append(refusal(429, body, Retry_After=header))
    failure = failure_of(telegram(provider.url), message_for("telegram"))
    assert failure.retry_after == float(header.split()[-1])


def test_telegram_message_is_html_without_previews(provider: HttpProvider) -> None:
    telegram(provider.url).send(message_for("telegram", text="<b>Gas</b>"))
    [request] = provider.requests
    assert request.path == f"/bot{BOT_TOKEN}/sendMessage"
    assert json.loads(request.body) == {
        "chat_id": "4711",
        "text": "<b>Gas</b>",
        "parse_mode": "HTML",
        "link_preview_options": {"is_disabled": True},
    }


@pytest.mark.parametrize(
    ("status", "own_code", "code"),
    [
        (400, 21211, Code.RECIPIENT_INVALID),
        (400, 21614, Code.RECIPIENT_INVALID),
        (400, 21610, Code.RECIPIENT_BLOCKED),
        (401, 20003, Code.AUTH_FAILED),
        (403, 20003, Code.AUTH_FAILED),
        (404, 20404, Code.AUTH_FAILED),
        (400, 21606, Code.SENDER_REJECTED),
        (400, 21212, Code.SENDER_REJECTED),
        (400, 21659, Code.SENDER_REJECTED),
        (400, 21660, Code.SENDER_REJECTED),
        (429, 20429, Code.RATE_LIMITED),
        (429, 21611, Code.RATE_LIMITED),
        (400, 21611, Code.RATE_LIMITED),
        (403, 21408, Code.ACCOUNT_LIMITED),
        (400, 21608, Code.ACCOUNT_LIMITED),
        (400, 21612, Code.ACCOUNT_LIMITED),
        (400, 21703, Code.ACCOUNT_LIMITED),
        (403, 20005, Code.ACCOUNT_LIMITED),
        (400, 21635, Code.RECIPIENT_INVALID),
        (400, 21265, Code.RECIPIENT_INVALID),
        (400, 21266, Code.RECIPIENT_INVALID),
        (400, 21661, Code.SENDER_REJECTED),
        (403, 70051, Code.AUTH_FAILED),
        (403, 99999, Code.AUTH_FAILED),
        (429, 63017, Code.RATE_LIMITED),
        (400, 21602, Code.PAYLOAD_INVALID),
        (429, 63038, Code.QUOTA_PROVIDER),
        (400, 21617, Code.PAYLOAD_INVALID),
        (500, 21211, Code.PROVIDER_UNAVAILABLE),
    ],
)
def test_twilio_codes(status: int, own_code: int, code: Code, provider: HttpProvider) -> None:
    body = {"code": own_code, "message": "'To' +31612345678 is wrong", "status": status}
    provider.faults.append(refusal(status, body))
    failure = failure_of(twilio(provider.url), message_for("twilio"))
    assert failure.code is code
    assert failure.detail.startswith(f"Twilio {status} {own_code}")
    assert "316" not in failure.detail


@pytest.mark.parametrize("code", CODES_OF)
def test_twilio_code_means_the_same_at_once_and_in_a_message_that_was_given_up(
    code: Code, provider: HttpProvider
) -> None:
    channel = twilio(provider.url)
    for number in CODES_OF[code]:
        given_up = {"sid": "SM1", "status": "failed", "error_code": number}
        provider.faults += [refusal(400, own_error("twilio", 400, number)), refusal(201, given_up)]
        for _ in range(2):
            assert failure_of(channel, message_for("twilio")).code is code


def test_no_twilio_code_stands_twice() -> None:
    numbers = [number for numbers in CODES_OF.values() for number in numbers]
    assert len(numbers) == len(set(numbers))
