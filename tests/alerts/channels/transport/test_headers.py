"""Header lines in any script."""

import re
import unicodedata
from email import message_from_string
from email.header import decode_header, make_header
from email.policy import default

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.channels.transport.headers import header

WORD = re.compile(r"=\?utf-8\?b\?([A-Za-z0-9+/=]*)\?=")
SCRIPTS = {
    "latin": "Öl- und Gaspreise steigen über Nacht in ganz Süd- und Osteuropa weiter an",
    "cyrillic": "Поставки газа через терминал остановлены до дальнейшего уведомления сегодня",
    "greek": "Οι παραδόσεις φυσικού αερίου σταμάτησαν μέχρι νεωτέρας σε όλη την περιοχή",
    "arabic": "توقفت شحنات الغاز عبر المحطة حتى إشعار آخر في جميع أنحاء المنطقة الشرقية",
    "hindi": "गैस की आपूर्ति अगली सूचना तक रोक दी गई है और कीमतें तेजी से बढ़ रही हैं",
    "thai": "การส่งก๊าซผ่านท่าเรือหยุดลงจนกว่าจะมีประกาศเพิ่มเติมทั่วทั้งภูมิภาค",
    "japanese": "天然ガスの供給は追って通知があるまで停止され、価格は急騰しています。" * 2,
    "korean": "가스 공급이 추후 공지가 있을 때까지 중단되었으며 가격이 급등하고 있습니다",
    "emoji": "🛢️🇳🇱👩🏽‍🔬👨‍👩‍👧‍👦" * 12,
    "ascii-long": "Gas deliveries through the terminal are halted until further notice, " * 3,
    "no-spaces": "x" * 300,
    "looks-encoded": "=?utf-8?q?Gas?= and more",
    "combining": "e\u0301" * 60,
    "piled": "a" + "\u0301" * 120,
}


def read_back(lines: str) -> str:
    message = message_from_string(lines + "\r\n", policy=default)
    return str(message["Subject"])


@pytest.mark.parametrize("script", SCRIPTS)
def test_subject_of_any_script_comes_back_from_lines_of_legal_length(script: str) -> None:
    text = SCRIPTS[script].strip()
    lines = header("Subject", text)
    assert lines.isascii()
    assert all(len(line) <= 76 for line in lines.split("\r\n"))
    assert all(len(word.group()) <= 75 for word in WORD.finditer(lines))
    assert str(make_header(decode_header(lines.partition(": ")[2].strip()))) == text
    assert read_back(lines) == text


@pytest.mark.parametrize("script", sorted(set(SCRIPTS) - {"piled"}))
def test_no_character_is_cut(script: str) -> None:
    words = decode_words(header("Subject", SCRIPTS[script].strip()))
    for word in words:
        first = word[:1]
        assert not unicodedata.category(first or "a").startswith("M")
        assert first != "\u200d"
        assert not word.endswith("\u200d")
    flags = [word for word in words if sum(0x1F1E6 <= ord(c) < 0x1F200 for c in word) % 2]
    assert flags == []


def decode_words(lines: str) -> list[str]:
    return [
        str(make_header(decode_header(match.group())))  # each by itself: no octets shared
        for match in WORD.finditer(lines)
    ]


@pytest.mark.parametrize("text", ["Gas – halted", "", "A B", "Prices: +20 %"])
def test_short_ascii_stays_readable(text: str) -> None:
    lines = header("Subject", text)
    assert (lines == f"Subject: {text}\r\n") is text.isascii()


@pytest.mark.parametrize("length", range(60, 80))
def test_what_stands_behind_goes_to_a_line_of_its_own_where_it_must(length: int) -> None:
    lines = header("From", "Desk", end=f"<{'a' * (length - 14)}@example.com>")
    assert all(len(line) <= 76 or line.startswith(" <") for line in lines.split("\r\n"))
    assert message_from_string(lines + "\r\n", policy=default)["From"].addresses[0].domain == (
        "example.com"
    )


@given(st.text(st.characters(exclude_categories=["C", "Z"]), max_size=120))
def test_any_text_comes_back(text: str) -> None:
    lines = header("Subject", text)
    assert all(len(line) <= 76 for line in lines.split("\r\n"))
    assert str(make_header(decode_header(lines[len("Subject: ") :].rstrip("\r\n")))) == text
