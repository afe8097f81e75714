"""Whatever comes in, messages stay within limits and do no harm."""

import re
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alerts.cleaning import clean_line, cut, utf16_units
from alerts.messages import Alert, Rendered, Style, render_alert, render_digest
from alerts.messages.sms import is_gsm, septets
from tests.support.messages import ALERT, CHANNELS, NO_LINK, STYLE, WINDOW, Page, telegram_text

HOSTILE = [
    "<script>alert(1)</script><img src=x onerror=y>",
    "**bold** [link](https://evil.example/x) _a_ `code`",
    "Gas up\r\nBcc: victim@example.com\r\n\r\n<b>body",
    "nul\x00 bell\x07 esc\x1b[31m c1\x85\x9b del\x7f line\u2028 par\u2029",
    "x" * 10_000,
    "word " * 2_000,
    "\u202egnp.exe\u202c \u2066isolate\u2069 \u2067rtl",
    "ارتفاع أسعار الغاز في أوروبا",
    "lone \ud83d surrogate \udc00",
    "👨‍👩‍👧‍👦🏴‍☠️👍🏽🇳🇱🇩🇪" * 400,
    "zero\u200bwidth\ufeff\u2060soft\u00adhyphen",
    "Z" + "\u0301" * 5_000,
    "&amp; &lt;b&gt; &#x3c; \"quotes\" 'single'",
    "{title} {0} %s %(x)s ${y}",
    "\u200b\u200d\x00",
    "",
]
anything = st.text(st.characters(), max_size=400) | st.sampled_from(HOSTILE)
alerts = st.builds(
    Alert,
    event_id=st.integers(1, 2**62),
    alert_type=st.sampled_from(["HIGH_IMPACT_EVENT", "ASSET_RISK_SPIKE"]) | anything,
    severity=st.integers(-1, 7),
    region=st.none() | anything,
    assets=st.lists(anything, max_size=12).map(tuple),
    headline=anything,
    body=anything | st.lists(anything, max_size=20).map("\n\n".join),
    created_at=st.integers(0, 2**32).map(lambda s: datetime.fromtimestamp(s, UTC)),
)
styles = st.sampled_from([STYLE, NO_LINK, Style("https://a.example/?\"'<&", ZoneInfo("UTC"))])


def assert_no_harm(text: str) -> None:
    assert not [c for c in text if unicodedata.category(c) in ("Cc", "Cs") and c != "\n"]
    assert not re.search("[\u2028\u2029\u202a-\u202e\u2066-\u2069\u200b\ufeff]", text)


def assert_fits(channel: str, message: Rendered) -> None:
    for text in (message.subject, message.text, message.html):
        assert_no_harm(text)
    if channel == "email":
        assert message.subject
        assert len(message.subject) <= 120
        assert "\n" not in message.subject
        page = Page(message.html)
        assert {tag for tag, _ in page.tags} <= {
            *("html", "head", "meta", "title", "body", "div", "h1", "h2", "p", "strong", "br", "a")
        }
    elif channel == "telegram":
        shown = telegram_text(message.text)
        assert utf16_units(shown) <= 4096
        assert not message.subject + message.html
    else:
        size, limit = (
            (septets(message.text), 305)
            if is_gsm(message.text)
            else (utf16_units(message.text), 133)
        )
        assert size <= limit


@pytest.mark.parametrize("channel", CHANNELS)
@settings(max_examples=150, deadline=None)
@given(alert=alerts, style=styles)
@example(
    alert=replace(
        ALERT,
        alert_type="😀" * 100,
        region="😀" * 100,
        assets=("😀" * 50,) * 20,
        headline="😀" * 900,
        body="😀" * 20_000,
    ),
    style=STYLE,
)
@example(alert=replace(ALERT, region="™" * 90 + "😀", headline="^" * 500), style=STYLE)
def test_any_alert_renders_within_limits_and_without_harm(
    channel: str, alert: Alert, style: Style
) -> None:
    message = render_alert(channel, alert, style)
    assert_fits(channel, message)
    assert render_alert(channel, alert, style) == message


@pytest.mark.parametrize("channel", ["email", "telegram"])
@settings(max_examples=60, deadline=None)
@given(rows=st.lists(alerts, max_size=70), style=styles)
def test_any_digest_renders_within_limits_and_without_harm(
    channel: str, rows: list[Alert], style: Style
) -> None:
    message = render_digest(channel, rows, "daily", *WINDOW, style)
    assert_fits(channel, message)
    assert render_digest(channel, rows[::-1], "daily", *WINDOW, style).subject == message.subject


@pytest.mark.parametrize("headline", HOSTILE)
def test_hostile_headline_arrives_as_mere_text(headline: str) -> None:
    alert = replace(ALERT, headline=headline, body=headline)
    for channel in CHANNELS:
        assert_fits(channel, render_alert(channel, alert, STYLE))
    page = Page(render_alert("email", alert, STYLE).html)
    assert page.links() == {"https://app.example.com"}


@given(anything)
def test_cleaning_twice_changes_nothing(text: str) -> None:
    once = clean_line(text)
    assert clean_line(once) == once


@given(anything.map(clean_line), st.integers(0, 120), st.sampled_from([len, utf16_units]))
def test_cut_keeps_the_limit_and_whole_letters(text: str, limit: int, measure) -> None:
    short = cut(text, limit, measure)
    assert measure(short) <= limit
    if short != text and short:
        kept = short.removesuffix("…")
        assert text.startswith(kept)
        following = text[len(kept) : len(kept) + 1]
        assert not unicodedata.category(following or " ").startswith("M")


def test_cut_never_parts_an_emoji() -> None:
    family, flag, thumb = "👨‍👩‍👧", "🇳🇱", "👍🏽"
    for whole in (family, flag, thumb):
        for limit in range(1, 30):
            kept = cut(whole * 10, limit, utf16_units).removesuffix("…")
            assert kept == whole * (len(kept) // len(whole))
