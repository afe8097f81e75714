"""Emails as bytes: readable by any mail program, safe against hostile texts."""

import mailbox
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.channels.transport.mail import Sender, compose
from alerts.failures import DeliveryError
from alerts.failures import FailureCode as Code
from tests.support.adapters import EMAIL, message_for

SENDER = Sender.parse("EnergyRiskIQ <alerts@example.com>")
ANY_TEXT = st.text(st.characters(codec=None), max_size=300)
HEADERS = ["from", "subject", "to", "date", "message-id", "auto-submitted"]
HEADERS += ["x-auto-response-suppress", "mime-version", "content-type"]


def parsed(raw: bytes) -> EmailMessage:
    message = message_from_bytes(raw, policy=default)
    assert isinstance(message, EmailMessage)
    assert [part.defects for part in message.walk() if part.defects] == []
    return message


def content(message: EmailMessage, kind: str) -> str:
    body = message.get_body((kind,))
    assert body is not None
    text: str = body.get_content()
    return text.replace("\r\n", "\n")


def test_email_has_both_forms_and_its_headers() -> None:
    message = parsed(compose(message_for(), SENDER))
    assert message["From"] == "EnergyRiskIQ <alerts@example.com>"
    assert message["To"] == EMAIL
    assert message["Subject"] == "Gas – halted"
    assert message["Message-ID"] == "<d-17@example.com>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["X-Auto-Response-Suppress"] == "All"
    assert message["Date"].datetime.tzinfo is not None
    assert message.get_content_type() == "multipart/alternative"
    assert content(message, "plain") == "Gas – flows halted\n"
    assert content(message, "html") == "<p>Gas – flows halted</p>\n"


def test_email_without_html_is_plain_text() -> None:
    message = parsed(compose(message_for(html=""), SENDER))
    assert message.get_content_type() == "text/plain"
    assert message.get_content().rstrip() == "Gas – flows halted"


def test_message_id_is_the_same_for_every_attempt() -> None:
    first, again = (parsed(compose(message_for(), SENDER)) for _ in range(2))
    assert first["Message-ID"] == again["Message-ID"]


@given(subject=ANY_TEXT, text=ANY_TEXT, html=ANY_TEXT)
def test_no_text_breaks_an_email_or_adds_a_header(subject: str, text: str, html: str) -> None:
    raw = compose(message_for(subject=subject, text=text, html=html), SENDER)
    raw.decode("ascii")
    assert re.search(rb"[^\r]\n|\r[^\n]|\0", raw) is None
    assert max(map(len, raw.split(b"\r\n"))) <= 76
    assert re.search(rb"^From ", raw, re.MULTILINE) is None
    message = parsed(raw)
    names = [name.lower() for name in message.keys()]  # noqa: SIM118
    expected = HEADERS if html else [*HEADERS, "content-transfer-encoding"]
    assert sorted(names) == sorted(expected)


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=200))
def test_subject_and_texts_come_back_as_they_were(word: str) -> None:
    text = f"{word} {word}\n.\n{word}"
    message = parsed(compose(message_for(subject=f"A {word}", text=text, html=text), SENDER))
    assert message["Subject"].split() == f"A {word}".split()
    assert content(message, "plain") == f"{text}\n"
    assert content(message, "html") == f"{text}\n"


@pytest.mark.parametrize(
    "subject",
    [
        *("Gas\r\nBcc: victim@example.org", "Gas\nBcc: x@y.z", "Gas\rX: 1", "a\0b", "a\x85X: 1"),
        *("a\u2028Bcc: x@y.z", "=?utf-8?q?x=0D=0ABcc=3A_x?=", "=?utf-8?b?", " ", "", "x" * 5000),
    ],
)
def test_subject_cannot_add_a_header(subject: str) -> None:
    message = parsed(compose(message_for(subject=subject), SENDER))
    assert message["Bcc"] is None
    assert message["X"] is None
    assert message["To"] == EMAIL


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("alerts@example.com", "", "alerts@example.com"),
        ("Énergie <a@example.com>", "Énergie", "a@example.com"),
        ('"Risk, Energy" <a@example.com>', "Risk, Energy", "a@example.com"),
        ("Alerts <a@bücher.example>", "Alerts", "a@xn--bcher-kva.example"),
        ("Alerts <a@straße.example>", "Alerts", "a@xn--strae-oqa.example"),
        ('"Risk: gas; oil @ sea" <a@example.com>', "Risk: gas; oil @ sea", "a@example.com"),
        (r'"Say \"gas\"" <a@example.com>', 'Say "gas"', "a@example.com"),
        ("Dr. O'Neil & Sons (desk) <a@example.com>", "Dr. O'Neil & Sons (desk)", "a@example.com"),
        ('"a b"@example.com', "", '"a b"@example.com'),
        ("=?utf-8?q?Gas?= <a@example.com>", "=?utf-8?q?Gas?=", "a@example.com"),
    ],
)
def test_sender_is_read_with_its_name(text: str, name: str, address: str) -> None:
    sender = Sender.parse(text)
    message = parsed(compose(message_for(), sender))
    [mailbox] = message["From"].addresses
    assert (mailbox.display_name, mailbox.addr_spec) == (name, address)


@pytest.mark.parametrize(
    "text", ["", "nobody", "ü@example.com", "a@", "a@b@c", "a@..", "a b@c.d", "A: b@c.d"]
)
def test_sender_that_no_server_takes_holds_the_channel(text: str) -> None:
    with pytest.raises(DeliveryError) as caught:
        compose(message_for(), Sender.parse(text))
    assert caught.value.code is Code.SENDER_REJECTED
    assert "EMAIL_FROM" in caught.value.detail


@pytest.mark.parametrize(
    "address",
    [
        *("a@b.de", "a+b.c@example.co.uk", "o'neil@example.com", "x@localhost", "a@1.2.de"),
        *('"a b"@example.com', '"a@b"@example.com', '".a"@example.com', '"a..b"@example.com'),
    ],
)
def test_ordinary_addresses_are_taken(address: str) -> None:
    raw = compose(message_for(destination=address), SENDER)
    assert f"\r\nTo: {address}\r\n".encode() in raw
    assert parsed(raw)["To"].addresses[0].domain == address.rpartition("@")[2]


def test_date_says_that_it_is_utc() -> None:
    assert re.search(rb"^Date: .* \+0000\r$", compose(message_for(), SENDER), re.MULTILINE)


@pytest.mark.parametrize(
    "line",
    [
        *("From now on gas is short", "From ", "From " + "x" * 200, "From é", "From" + " y" * 60),
        *("x" * 76 + "From here", "From " + "x" * 68, "From " + "x" * 70, "From " + "x" * 69),
    ],
)
def test_line_that_begins_with_from_survives_mbox(line: str) -> None:
    text = f"{line}\n\n{line}\nand From here\n{line}"
    raw = compose(message_for(text=text, html=f"<p>\n{text}</p>"), SENDER)
    assert max(map(len, raw.split(b"\r\n"))) <= 76
    with mailbox_of(raw) as kept:  # an mbox writes > in front of such lines, and never takes it off
        message = parsed(kept)
    assert content(message, "plain") == f"{text}\n"
    assert content(message, "html") == f"<p>\n{text}</p>\n"


@contextmanager
def mailbox_of(raw: bytes) -> Iterator[bytes]:
    """The message as it comes out of an mbox file."""
    with tempfile.TemporaryDirectory() as folder:
        box = mailbox.mbox(f"{folder}/box")
        box.add(raw.replace(b"\r\n", b"\n"))
        box.flush()
        yield box.get_bytes(0)
        box.close()


def test_recipient_who_needs_smtputf8_is_written_as_it_is() -> None:
    raw = compose(message_for(destination="jörg@bücher.example"), SENDER)
    assert "\r\nTo: jörg@xn--bcher-kva.example\r\n".encode() in raw
