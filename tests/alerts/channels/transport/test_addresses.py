"""Email addresses as mail servers take them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.channels.transport.addresses import parse_mailbox


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a@example.com", "a@example.com"),
        ("a@bücher.example", "a@xn--bcher-kva.example"),
        ("a@BÜCHER.example", "a@xn--bcher-kva.example"),
        # IDNA 2003 would have sent these four to other people.
        ("a@straße.de", "a@xn--strae-oqa.de"),
        ("a@faß.de", "a@xn--fa-hia.de"),
        ("a@βόλος.com", "a@xn--nxasmm1c.com"),
        ("a@نامه‌ای.com", "a@xn--mgba3gch31f060k.com"),
        ("a@例え.jp", "a@xn--r8jz45g.jp"),
        ("a@ドメイン。テスト", "a@xn--eckwd4c7c.xn--zckzah"),
        ("jörg@example.com", "jörg@example.com"),
        ("用户@例子.广告", "用户@xn--fsqu00a.xn--4rr70v"),
        ("a..b@docomo.example", '"a..b"@docomo.example'),
        (".a@example.com", '".a"@example.com'),
        ("a.@example.com", '"a."@example.com'),
        ("a:b@example.com", '"a:b"@example.com'),
        ("a(b)@example.com", '"a(b)"@example.com'),
        ("a[1]@example.com", '"a[1]"@example.com'),
        ('"a b"@example.com', '"a b"@example.com'),
        ('"a@b"@example.com', '"a@b"@example.com'),
        (r'"a\"b"@example.com', r'"a\"b"@example.com'),
        (r'"a\\b"@example.com', r'"a\\b"@example.com'),
        ('"plain"@example.com', "plain@example.com"),
        ('""@example.com', '""@example.com'),
    ],
)
def test_address_is_written_as_servers_take_it(text: str, written: str) -> None:
    assert str(parse_mailbox(text)) == written
    assert str(parse_mailbox(written)) == written


@pytest.mark.parametrize(
    "text",
    [
        *("", "a", "@", "a@", "@b", "a b@example.com", "a,b@example.com", "a;b@example.com"),
        *("<a@example.com>", "a@b@example.com", 'a"b@example.com', '"a@example.com', "a\\b@b.de"),
        *("a@exa mple.com", "a@-b.de", "a@b-.de", "a@b..de", "a@b.de.", "a@.b", "a@b_c.de"),
        *("a@b.de\n", "a@b.de\r\nRSET", "a\u200b\u2028@b.de", "a\xa0b@c.de", '"a\nb"@c.de'),
        *("a\u200b@b.de", '"a\u2028b"@b.de', '"a\u200eb"@b.de', "\ud800@b.de", "a\u3000b@c.de"),
        *("a@☃.de\u0301\u0301x", "a@a\u200db.de", "a@" + "ü" * 70 + ".de", "a@xn--ü.de"),
        *("a" * 65 + "@b.de", "ü" * 33 + "@b.de", "a@" + "b" * 64 + ".de", "a@[192.0.2.1]"),
        "a@" + ".".join(["b" * 60] * 5),
    ],
)
def test_what_is_no_address_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(no|an) [a-zA-Z0-9 ]*$"):
        parse_mailbox(text)


@given(st.text(max_size=80))
def test_nothing_breaks_a_command_or_a_header(text: str) -> None:
    try:
        written = str(parse_mailbox(text))
    except ValueError:
        return
    assert written.isprintable()
    assert "\r" not in written
    assert "\n" not in written
    assert written.rpartition("@")[2].isascii()
    assert parse_mailbox(written) == parse_mailbox(text)
