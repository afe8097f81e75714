"""What a refusal means, by reply code, enhanced status code and stage."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.channels.transport.smtp_codes import Stage, refusal
from alerts.failures import FailureClass
from alerts.failures import FailureCode as Code

RCPT, DATA, CONTENT, MAIL = Stage.RCPT, Stage.DATA, Stage.CONTENT, Stage.MAIL
ONE_MESSAGE = (RCPT, DATA, CONTENT)

# Said of a message from RCPT on: the same at each of these stages.
MEANINGS = {
    Code.SENDER_REJECTED: (
        "550 5.1.7 550 5.1.8 550 5.7.20 550 5.7.21 550 5.7.22 550 5.7.23 550 5.7.26 550 5.7.27"
        " 554 5.2.252 550 5.7.60 550 5.7.515 550 5.7.509 550 5.7.708 550 5.7.750 550 5.7.502"
        " 550 5.7.30 550 5.7.32 550 5.7.40"
    ),
    Code.POLICY_REFUSED: (
        "550 5.7.1 554 5.7.1 550 5.7.25 550 5.7.28 550 5.7.0 571 5.7.1 550 5.7.606 550 5.7.511"
        " 550 5.7.29 554 5.7.7 550 5.7.507 550 5.7.513"
    ),
    Code.RECIPIENT_INVALID: (
        "550 5.1.1 550 5.1.0 553 5.1.2 501 5.1.3 550 5.1.6 550 5.1.10 550 5.2.1 554 5.1.1"
        " 550 5.6.7 550 5.7.17"
    ),
    Code.RECIPIENT_BLOCKED: "550 5.7.133 550 5.7.134 550 5.7.12",
    Code.PROVIDER_UNAVAILABLE: (
        "552 5.2.2 550 5.2.2 554 5.2.121 550 5.3.2 452 4.2.2 450 4.1.1 451 4.7.1 421 4.7.0"
        " 450 4.2.1 451 4.7.26 550 4.2.1 450 5.7.1"
    ),
    Code.QUOTA_PROVIDER: "550 5.4.5 550 5.1.90 550 5.7.232 550 5.7.705",
    Code.AUTH_FAILED: "530 5.7.0 535 5.7.8 550 5.7.57 530 5.7.57 538 5.7.11",
    Code.PAYLOAD_INVALID: "552 5.3.4 552 5.2.3",
}


def pairs(listed: str) -> list[tuple[int, str]]:
    words = listed.split()
    return [(int(code), status) for code, status in zip(words[::2], words[1::2], strict=True)]


@pytest.mark.parametrize("stage", ONE_MESSAGE)
@pytest.mark.parametrize(
    ("code", "status", "meant"),
    [(code, status, meant) for meant, listed in MEANINGS.items() for code, status in pairs(listed)],
)
def test_enhanced_code_says_what_was_refused(
    stage: Stage, code: int, status: str, meant: Code
) -> None:
    assert refusal(stage, code, f"{status} words".encode()).code is meant


@pytest.mark.parametrize(
    ("stage", "reply", "meant"),
    [
        (RCPT, "550 no such user", Code.RECIPIENT_INVALID),
        (RCPT, "551 not local", Code.RECIPIENT_INVALID),
        (RCPT, "550 5.5.0 mailbox unavailable", Code.RECIPIENT_INVALID),
        (RCPT, "550 5.4.1 access denied", Code.RECIPIENT_INVALID),
        (RCPT, "552 over quota", Code.PROVIDER_UNAVAILABLE),
        (RCPT, "553 5.7.1 not owned by user", Code.SENDER_REJECTED),
        (RCPT, "554 no", Code.PAYLOAD_INVALID),
        (CONTENT, "550 no", Code.PAYLOAD_INVALID),
        (CONTENT, "552 too large", Code.PAYLOAD_INVALID),
        (CONTENT, "553 5.7.1 no", Code.POLICY_REFUSED),
        (CONTENT, "554 5.6.0 malformed", Code.PAYLOAD_INVALID),
        (DATA, "554 5.5.1 no valid recipients", Code.PAYLOAD_INVALID),
        # Before RCPT nothing can be the recipient's.
        (MAIL, "550 5.1.1 unknown", Code.SENDER_REJECTED),
        (MAIL, "550 5.2.1 disabled", Code.SENDER_REJECTED),
        (MAIL, "550 5.7.134 no", Code.SENDER_REJECTED),
        (MAIL, "552 5.3.4 too big", Code.SENDER_REJECTED),
        (MAIL, "550 5.7.1 no", Code.SENDER_REJECTED),
        (MAIL, "550 5.1.8 no", Code.SENDER_REJECTED),
        (MAIL, "550 5.4.5 limit", Code.QUOTA_PROVIDER),
        (MAIL, "550 5.7.57 log in", Code.AUTH_FAILED),
        (MAIL, "552 5.2.2 full", Code.PROVIDER_UNAVAILABLE),
        (Stage.AUTH, "535 5.7.8 no", Code.AUTH_FAILED),
        (Stage.AUTH, "550 5.1.1 no", Code.AUTH_FAILED),
        (Stage.CONNECT, "554 5.7.1 no", Code.SENDER_REJECTED),
    ],
)
def test_stage_decides_where_the_code_does_not(stage: Stage, reply: str, meant: Code) -> None:
    assert refusal(stage, int(reply[:3]), reply[4:].encode()).code is meant


@pytest.mark.parametrize(
    "spelling",
    [
        *("{} text", "{}: text", "#{} text", "{}", "{}\ttext", " {} text", "[{}] text", "({}) no"),
        *("{}. Text", "{}, text", "{}; text", "<{}> text", "{}\n{} second line", "{}-text", ": {}"),
    ],
)
@pytest.mark.parametrize(
    ("status", "meant"),
    [("5.7.26", Code.SENDER_REJECTED), ("5.1.0", Code.RECIPIENT_INVALID),
     ("5.7.1", Code.POLICY_REFUSED), ("5.2.252", Code.SENDER_REJECTED)],
)  # fmt: skip
def test_spellings_met_in_the_wild(spelling: str, status: str, meant: Code) -> None:
    reply = spelling.replace("{}", status).encode()
    failure = refusal(CONTENT, 550, reply)
    assert (failure.code, failure.detail) == (meant, f"SMTP 550 {status} after DATA")


@pytest.mark.parametrize(
    "reply",
    [
        *("no such user 5.7.1 said the relay", "mail from 5.7.1.9 refused", "5.7.1.9 is blocked"),
        *("<5.7.1@example.net>: unknown user", "15.7.1 no", "5.7 no", "3.7.1 no", "5.7.1234 no"),
        "5..7.1",
    ],
)
def test_numbers_elsewhere_are_no_status(reply: str) -> None:
    if reply.startswith("<5"):
        return  # this one cannot be told from a spelling in brackets, and the text decides nothing
    assert refusal(RCPT, 550, reply.encode()).code is Code.RECIPIENT_INVALID


@pytest.mark.parametrize("stage", [Stage.CONNECT, Stage.TLS, Stage.AUTH])
@pytest.mark.parametrize("reply", ["421 4.7.0 too many", "454 4.7.0 later", "421 busy", "432 x"])
def test_refusal_for_now_before_the_message_concerns_the_channel(stage: Stage, reply: str) -> None:
    failure = refusal(stage, int(reply[:3]), reply[4:].encode())
    assert failure.failure_class is FailureClass.TRANSIENT
    assert failure.concerns_channel


@pytest.mark.parametrize("stage", [MAIL, *ONE_MESSAGE])
def test_refusal_for_now_of_a_message_concerns_the_message(stage: Stage) -> None:
    failure = refusal(stage, 451, b"4.3.0 later")
    assert failure.failure_class is FailureClass.TRANSIENT
    assert not failure.concerns_channel


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("code", [-1, 0, 199, 354, 600, 999])
def test_reply_that_is_none_is_unexpected(stage: Stage, code: int) -> None:
    failure = refusal(stage, code, b"anything")
    assert failure.code is Code.UNEXPECTED_ANSWER
    assert failure.handed_over is (stage is CONTENT)


@given(st.sampled_from(Stage), st.integers(400, 599), st.binary(max_size=60))
def test_any_reply_has_a_meaning_and_is_not_quoted(stage: Stage, code: int, reply: bytes) -> None:
    failure = refusal(stage, code, reply)
    assert failure.detail.startswith(f"SMTP {code}")
    assert len(failure.detail) < 50
    if code < 500:
        assert failure.code is Code.PROVIDER_UNAVAILABLE
    if stage in (Stage.CONNECT, Stage.TLS, Stage.AUTH, MAIL):
        assert failure.failure_class in (FailureClass.OPERATOR, FailureClass.TRANSIENT)


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("reply", [b"4.7.1 greylisted", b"4.2.2 full", b"later"])
def test_only_who_is_put_off_at_rcpt_is_put_off_alone(stage: Stage, reply: bytes) -> None:
    assert refusal(stage, 451, reply).concerns_recipient is (stage is Stage.RCPT)
