"""What scrubbing takes out, and what it must leave readable."""

import base64
import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.redaction import Redactor, redactor_for
from alerts.settings.config import Settings
from tests.support.environ import hush, secret_environ

SECRET = "s3cr/t+pa ss&wörd"
PLAIN = Redactor()
KNOWING = Redactor([SECRET])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("to ann.b+x@mail.example.org now", "to [redacted] now"),
        ("to=ann%40example.org&x=1", "to=[redacted]&x=1"),
        ("call +31 (0)6-1234 5678 today", "call [redacted] today"),
        ("To=%2B31612345678", "To=[redacted]"),
        (
            "POST https://api.telegram.org/bot123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw-/getMe",
            "POST https://api.telegram.org/bot[redacted]/getMe",
        ),
        ("at 123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw- x", "at [redacted] x"),
        ("postgresql://joe:p@ss/w:rd@db.host:5432/x", "postgresql://[redacted]@db.host:5432/x"),
        ("redis://token@host/0", "redis://[redacted]@host/0"),
        ("Authorization: Bearer abc.def", "Authorization: [redacted]"),
        ("{'Authorization': 'Basic dXNlcjpwdw=='}", "{'Authorization': '[redacted]'}"),
        ("sent bearer abcdef12", "sent bearer [redacted]"),
        (
            "api-key: k1; api_key=k2&apikey=k3",
            "api-key: [redacted]; api_key=[redacted]&apikey=[redacted]",
        ),
        ('{"password": "a \\"b\\" c", "n": 1}', '{"password": [redacted], "n": 1}'),
        ("{'telegram_chat_id': 987654, 'id': 12}", "{'telegram_chat_id': [redacted], 'id': 12}"),
        ("phone_number=0612345678", "phone_number=[redacted]"),
        ("key xkeysib-0123456789abcdef0123-AbC", "key [redacted]"),
        ("key Zm9vYmFyMTIzNDU2Nzg5MGFiY2RlZg==", "key [redacted]"),
        ("key 0123456789abcdef0123456789abcdef0123456789abcdef", "key [redacted]"),
    ],
)
def test_what_looks_like_a_secret_or_a_person_goes(text: str, expected: str) -> None:
    assert PLAIN.scrub(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "sent 1234567890 rows, 42 failed, HTTP 429, id 9223372036854775807",
        "run 5b0c8c1e-98a4-4a6e-8f0e-2f6f2f6c1b7a at 2026-01-16T12:30:11.567002+00:00",
        "run 5b0c8c1e98a44a6e8f0e2f6f2f6c1b7a",
        "git 9fceb02d0ae598e95dc970b74767f19372d61af8",
        "sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "basic authentication failed; token=None, password: null",
        "constraint user_alert_deliveries_alert_event_id_user_id_channel_key",
        "GET https://api.example.com:443/v3/smtp/email?limit=20 401",
        '{"email": {"queued": 3}, "tokens": 5}',
        "alerts.engine.SomeVeryLongClassNameInCamelCase failed",
        "window 2022-03-08 18:00:00 to 2022-03-09 18:00:00",
    ],
)
def test_what_people_need_to_read_stays(text: str) -> None:
    assert PLAIN.scrub(text) == text


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET),
        quote(SECRET, safe=""),
        re.sub("%..", lambda match: match[0].lower(), quote(SECRET, safe="")),
        quote_plus(SECRET),
        json.dumps(SECRET),
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
    ],
)
def test_known_secret_goes_in_every_encoding(form: str) -> None:
    scrubbed = KNOWING.scrub(f"got {form} here")
    assert "[redacted]" in scrubbed
    assert "s3cr" not in scrubbed
    assert form.strip("=") not in scrubbed


@settings(deadline=None)
@given(
    secret=st.text(st.characters(exclude_categories=["Cs"]), min_size=6, max_size=40),
    before=st.text(max_size=40),
    after=st.text(max_size=40),
)
def test_known_secret_never_survives(secret: str, before: str, after: str) -> None:
    if secret in "[redacted]" or secret in f"{before}[redacted]{after}":
        return
    scrubbed = Redactor([secret]).scrub(before + secret + after, 1000)
    assert secret not in scrubbed


@given(st.binary(max_size=7), st.binary(max_size=7))
def test_known_secret_goes_inside_base64_of_something_longer(before: bytes, after: bytes) -> None:
    secret = "hunter2-hunter2"
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        whole = encode(before + secret.encode() + after).decode()
        inner = whole[len(before) * 4 // 3 + 3 : (len(before) + len(secret)) * 4 // 3 - 3]
        assert inner not in Redactor([secret]).scrub(f"AUTH {whole}")


@settings(deadline=None)
@given(st.text(st.characters(), max_size=600), st.integers(1, 400))
def test_result_is_one_bounded_harmless_line(text: str, limit: int) -> None:
    line = KNOWING.scrub(text, limit)
    assert len(line) <= limit
    assert line.isprintable() or not any(c < " " or "\x7f" <= c < "\xa0" for c in line)
    assert "\u202e" not in line
    line.encode()


def test_short_secrets_are_left_so_that_words_survive() -> None:
    assert Redactor(["post", ""]).scrub("post office") == "post office"


def test_url_goes_whole_before_the_password_inside_of_it() -> None:
    url = "postgresql://joe:swordfish@db/x"
    assert Redactor(["swordfish", url]).scrub(f"to {url}") == "to [redacted]"


def test_redactor_shows_no_secret() -> None:
    assert "s3cr" not in repr(KNOWING)


@pytest.mark.parametrize(
    "text",
    [
        "a" * 200_000,
        "://:" * 50_000,
        "a@" * 100_000,
        "+1" * 100_000,
        "token=" * 40_000,
        '"' * 200_000,
        "Aa1" * 70_000,
        "aaaa.aaaa" * 20_000,
        "%40" * 70_000,
        "[{(" * 70_000,
    ],
)
def test_no_text_takes_long(text: str) -> None:
    begin = time.perf_counter()
    KNOWING.scrub(text, 300)
    assert time.perf_counter() - begin < 5.0  # were it quadratic, it would be minutes


def test_redactor_for_settings_knows_every_secret() -> None:
    environ = {
        "DATABASE_URL": "postgresql://joe:sword%2Ffish@db.example/x",
        "INTERNAL_RUNNER_TOKEN": "newtoken-1,oldtoken-2",
        "SMTP_URL": "smtps://mailer:smtp-pass-3@mail.example",
        "BREVO_API_KEY": "brevo-key-4",
        "RESEND_API_KEY": "resend-key-5",
        "TELEGRAM_BOT_TOKEN": "bot-token-6",
        "TWILIO_ACCOUNT_SID": "twilio-sid-8",
        "TWILIO_AUTH_TOKEN": "twilio-token-7",
        "EMAIL_PROVIDER": "outbox",
    }
    redactor = redactor_for(Settings.from_env(environ))
    secrets = (
        *("sword/fish", "sword%2Ffish", "newtoken-1", "oldtoken-2", "smtp-pass-3"),
        *("brevo-key-4", "resend-key-5", "bot-token-6", "twilio-token-7"),
        "twilio-sid-8",
    )
    for secret in secrets:
        assert redactor.scrub(f"x {secret} y") == "x [redacted] y"


@pytest.mark.parametrize(
    "dsn", ["host=db password='sword fish'", "postgresql://db/x?password=sword%20fish"]
)
def test_password_is_known_in_every_form_of_connection_string(dsn: str) -> None:
    redactor = redactor_for(Settings.from_env({"DATABASE_URL": dsn}))
    assert redactor.scrub("x sword fish y") == "x [redacted] y"


@pytest.mark.parametrize(("name", "given"), secret_environ().items())
def test_redactor_knows_each_secret_that_a_provider_declares(name: str, given: str) -> None:
    """Also of a provider that is not in use; and it is known, not merely like a secret."""
    secret = hush(name)
    assert Redactor().scrub(f"x {secret} y") == f"x {secret} y"
    redactor = redactor_for(Settings.from_env({name: given, "EMAIL_PROVIDER": "outbox"}))
    assert redactor.scrub(f"x {secret} y") == "x [redacted] y"


def test_settings_without_secrets_give_a_working_redactor() -> None:
    bare = replace(Settings.from_env({}), database_url=None)
    assert redactor_for(bare).scrub("plain") == "plain"


EXAMPLES = (
    "postgresql://user:password@host:5432/name",
    "smtp://user:password@host:587",
    "smtps://user:password@host:465",
)


@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.parametrize("sentence", ["{}", "takes {}", "takes {}; or none", "{} or {}", "{}."])
def test_the_examples_of_our_own_messages_arrive_whole(example: str, sentence: str) -> None:
    text = sentence.replace("{}", example)
    assert Redactor().scrub(text) == text


@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.parametrize("change", [
])  # fmt: skip
def test_what_only_resembles_an_example_is_hidden(
    example: str, change: Callable[[str], str]
) -> None:
    shown = Redactor().scrub(f"it is {change(example)}")
    assert "[redacted]" in shown
    assert "pass" not in shown


def test_an_example_does_not_open_the_text_around_it() -> None:
    for example in EXAMPLES:
        shown = Redactor().scrub(f"password='one {example} two' from joe@example.com")
        assert not {"one", "two", "joe"} & set(shown.replace("'", " ").split())


def test_a_control_character_never_becomes_an_example() -> None:
    assert Redactor().scrub("a\x01b\x02c\x03d") == "a b c d"
