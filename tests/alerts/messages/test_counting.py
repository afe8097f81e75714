"""Lengths as the carriers and Telegram count them, and cuts that no reader sees inside a letter."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alerts.cleaning import clean_line, cut, head, utf16_units
from alerts.messages import render_alert, render_digest
from alerts.messages.events import TITLE_MAX, regional_spike
from alerts.messages.sms import is_gsm, septets
from tests.support.messages import ALERT, NO_LINK, STYLE, WINDOW, telegram_text

# 3GPP TS 23.038, table by table: the rows of the default alphabet and its extension.
DEFAULT_ALPHABET = (
    "@£$¥èéùìòÇ\nØø\rÅå",
    "Δ_ΦΓΛΩΠΨΣΘΞÆæßÉ",  # without the escape
    " !\"#¤%&'()*+,-./",
    "0123456789:;<=>?",
    "¡ABCDEFGHIJKLMNO",
    "PQRSTUVWXYZÄÖÑÜ§",
    "¿abcdefghijklmno",
    "pqrstuvwxyzäöñüà",
)
EXTENSION = "^{}\\[~]|€"
GSM = frozenset("".join(DEFAULT_ALPHABET))

# One grapheme each: what readers see as one letter or picture.
GRAPHEMES = {
    "letter": "a",
    "composed letter": "é",
    "letter with marks": "x\u0302\u0327",
    "letter of two units": "𝔸",
    "family": "👨\u200d👩\u200d👧\u200d👦",
    "picture with a style": "❤\ufe0f\u200d🔥",
    "skin tone": "👍🏽",
    "flag": "🇳🇱",
    "keycap": "1\ufe0f\u20e3",
    "Hangul syllable": "각",
    "Hangul letters": "ᄓᅡᇫ",
    "Devanagari conjunct": "क्ष्म",
    "Devanagari conjunct with joiner": "क्\u200dष",
    "Malayalam conjunct": "ക്ഷ",
    "Tamil vowel sign": "நி",
    "Thai vowel": "น้ำ",
    "number sign before its digit": "\u0600١",
}
graphemes = st.sampled_from(sorted(GRAPHEMES.values()))
words = st.lists(graphemes, min_size=1, max_size=60).map("".join)
texts = st.lists(words, min_size=1, max_size=8).map(" ".join)


def parts_of(units: Iterable[int], whole: int, part: int) -> int:
    """The segments that a carrier makes of characters of one or two units: no character is split
    over two of them."""
    sizes = list(units)
    if sum(sizes) <= whole:
        return 1
    parts, room = 1, part
    for size in sizes:
        if size > room:
            parts, room = parts + 1, part
        room -= size
    return parts


def segments(text: str) -> int:
    """The segments of a text message, told by the standard's own tables."""
    if all(c in GSM or c in EXTENSION for c in text):
        return parts_of((2 if c in EXTENSION else 1 for c in text), 160, 153)
    return parts_of((2 if ord(c) > 0xFFFF else 1 for c in text), 70, 67)


def whole_prefix(kept: str, text: str) -> bool:
    """Whether ``kept`` is the beginning of ``text`` and ends between two graphemes."""
    ends = {0}
    place = 0
    while place < len(text):
        place += max(
            (len(g) for g in (*GRAPHEMES.values(), " ") if text.startswith(g, place)), default=1
        )
        ends.add(place)
    return text.startswith(kept) and len(kept) in ends


def test_alphabet_is_the_standards() -> None:
    assert len(GSM) == 127
    assert all(map(is_gsm, GSM | set(EXTENSION)))
    assert {septets(c) for c in GSM} == {1}
    assert {septets(c) for c in EXTENSION} == {2}
    others = [chr(n) for n in range(0x20, 0x3000) if chr(n) not in GSM and chr(n) not in EXTENSION]
    assert not [c for c in others if is_gsm(c)]


@pytest.mark.parametrize(
    ("text", "gsm", "length"),
    [
        ("ΔΦΓΛΩΠΨΣΘΞ", True, 10),
        ("ΑΘΗΝΑ", False, 5),  # other capitals only look as if they were there
        ("façade", False, 6),
        ("{}[]~\\^|€", True, 18),
        ("à la carte: £5", True, 14),
        ("gas 😀", False, 6),
    ],
)
def test_length_of_a_text_message(text: str, gsm: bool, length: int) -> None:
    assert is_gsm(text) is gsm
    assert (septets if gsm else utf16_units)(text) == length


@given(st.text() | texts)
def test_telegrams_units_are_those_beyond_the_basic_plane_twice(text: str) -> None:
    text = clean_line(text)
    assert utf16_units(text) == sum(2 if ord(c) > 0xFFFF else 1 for c in text)


@settings(max_examples=300)
@given(
    headline=st.text(max_size=400)
    | texts
    | st.text("ab {}[]~\\^|€'ΔΩ", min_size=140, max_size=400)
    | st.text("ab 😀€", min_size=60, max_size=400),
    region=st.sampled_from(["Europe", "Δ€€", "أوروبا", "😀" * 30]) | st.text(max_size=40),
    link=st.booleans(),
)
@example(headline="€" * 300, region="Europe", link=False)
@example(headline="a" + "€" * 300, region="Europe", link=False)
@example(headline="😀" * 100, region="Europe", link=False)
@example(headline="é" + "😀" * 100, region="Europ", link=False)
def test_text_message_takes_two_segments_at_most(headline: str, region: str, link: bool) -> None:
    alert = replace(ALERT, headline=headline, region=region)
    assert segments(render_alert("sms", alert, STYLE if link else NO_LINK).text) <= 2


@pytest.mark.parametrize(("one", "two", "pairs"), [("a", "€", 70), ("ç", "😀", 20)])
def test_character_of_two_units_may_stand_over_the_end_of_a_segment(
    one: str, two: str, pairs: int
) -> None:
    """It then opens the second segment and leaves a unit of the first empty."""
    for before in range(2):  # an even and an odd number of units to the end of the first
        for after in range(320):
            alert = replace(ALERT, headline=one * before + two * pairs + one * after)
            assert segments(render_alert("sms", alert, NO_LINK).text) <= 2


@pytest.mark.parametrize(("letter", "least"), [("a", 305), ("€", 304), ("ç", 133), ("😀", 132)])
def test_text_message_uses_its_two_segments(letter: str, least: int) -> None:
    text = render_alert("sms", replace(ALERT, headline=letter * 300), NO_LINK).text
    assert (septets if is_gsm(text) else utf16_units)(text) >= least


@pytest.mark.parametrize("mark", [*"‘’‚‛′´ʼʻ＇`", *"“”„«»″", *"–—‑−", "…", "•", "\u00a0"])
def test_marks_of_news_feeds_cost_no_segment(mark: str) -> None:
    alert = replace(ALERT, headline=f"Germany{mark}s gas")
    text = render_alert("sms", alert, NO_LINK).text
    assert is_gsm(text)
    assert segments(text) == 1


@pytest.mark.parametrize("measure", [len, utf16_units, septets])
@given(text=texts, limit=st.integers(0, 200))
def test_cut_ends_between_graphemes(measure: Callable[[str], int], text: str, limit: int) -> None:
    text = clean_line(text)
    short = cut(text, limit, measure)
    assert measure(short) <= limit
    assert short == text or whole_prefix(short.removesuffix("…"), text)


@given(text=texts, limit=st.integers(20, 300))
def test_what_is_looked_at_ends_between_graphemes(text: str, limit: int) -> None:
    kept = head(text, limit)
    assert len(kept) <= limit
    assert whole_prefix(kept, text)
    assert len(kept) > limit - 20 or kept == text


def test_line_end_of_two_characters_is_not_parted() -> None:
    assert head("a\r\nb", 2) == "a"
    assert head("a\r\nb", 3) == "a\r\n"


def test_single_grapheme_that_is_too_long_is_looked_at_in_part() -> None:
    assert head("Z" + "\u0301" * 500, 100) == "Z" + "\u0301" * 99


@pytest.mark.parametrize("name", GRAPHEMES)
def test_no_message_is_cut_inside_a_grapheme(name: str) -> None:
    grapheme = GRAPHEMES[name]
    word = re.compile(f"(?:{re.escape(clean_line(grapheme))})+(…|[.][.][.]|$)", re.M)
    for shift in range(len(grapheme)):
        # A plain beginning moves the limit over every character of a grapheme.
        long = "-" * shift + grapheme * 9000
        alert = replace(ALERT, headline=long, body=long, region=long, assets=(long,))
        shown = [render_alert("sms", alert, NO_LINK).text]
        for render in (render_alert, lambda c, a, s: render_digest(c, [a], "daily", *WINDOW, s)):
            mail, chat = (render(channel, alert, NO_LINK) for channel in ("email", "telegram"))
            shown += [mail.subject, mail.text, telegram_text(chat.text)]
        for text in shown:
            for found in re.finditer(r"\S*…|\S*[.][.][.]", text):
                rest = found.group().lstrip("-")
                assert word.fullmatch(rest) or rest in ("…", "..."), ascii(rest[-40:])


@pytest.mark.parametrize("grapheme", GRAPHEMES.values())
def test_stored_titles_end_between_graphemes(grapheme: str) -> None:
    for shift in range(len(grapheme)):
        title = "-" * shift + grapheme * 400
        body = regional_spike(
            region="Europe", score=Decimal(70), trend=None, earlier_score=None, earlier_day=None,
            drivers=[title],
        ).body  # fmt: skip
        stored = body.rpartition("\n- ")[2]
        assert len(stored) <= TITLE_MAX
        assert stored == "-" * shift + grapheme * ((TITLE_MAX - shift) // len(grapheme))
