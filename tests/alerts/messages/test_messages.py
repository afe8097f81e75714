"""What messages say."""

import re
from dataclasses import replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from alerts.cleaning import utf16_units
from alerts.messages import render_alert, render_digest
from alerts.messages.sms import is_gsm, septets
from tests.support.messages import ALERT, NO_LINK, STYLE, WINDOW, Page, telegram_text


def test_email_says_everything_in_text_and_html() -> None:
    message = render_alert("email", ALERT, STYLE)
    assert message.subject == "Critical (5/5), Europe: Pipeline stops: gas flows to Germany halted"
    for text in (message.text, Page(message.html).text):
        for part in (
            ALERT.headline,
            "Severity 5 of 5, critical",
            "High-impact event",
            "Region: Europe",
            "oil, gas, FX",
            "8 March 2022, 19:00 CET (Europe/Amsterdam)",
            "Flows stopped at 06:00.",
            "- maintenance & repair",
            "alert preferences",
        ):
            assert part in text
    assert "https://app.example.com" in message.text


def test_email_page_is_made_for_phones_and_loads_nothing() -> None:
    page = Page(render_alert("email", ALERT, STYLE).html)
    tags = dict(page.tags)
    assert tags["html"] == {"lang": "en"}
    assert ("meta", {"name": "color-scheme", "content": "light dark"}) in page.tags
    assert any(attrs.get("name") == "viewport" for _, attrs in page.tags)
    assert tags["h1"]["dir"] == "auto"
    assert not [attrs for _, attrs in page.tags if "src" in attrs or "srcset" in attrs]
    assert "url(" not in render_alert("email", ALERT, STYLE).html


def test_without_base_url_texts_name_the_app_and_link_nothing() -> None:
    email = render_alert("email", ALERT, NO_LINK)
    assert Page(email.html).links() == set()
    assert "alert preferences in the EnergyRiskIQ app" in email.text
    assert "http" not in email.text
    assert "href" not in render_alert("telegram", ALERT, NO_LINK).text
    assert "http" not in render_alert("sms", ALERT, NO_LINK).text


def test_alert_without_region_assets_and_body_reads_well() -> None:
    bare = replace(ALERT, region=None, assets=(), headline=" \x00 ", body="")
    email = render_alert("email", bare, STYLE)
    assert email.subject == "Critical (5/5), Global: High-impact event"
    assert "Assets" not in email.text
    assert "What happened" not in email.html
    assert "Assets" not in render_alert("telegram", bare, STYLE).text


def test_unknown_type_and_severity_are_shown_as_they_are() -> None:
    old = replace(ALERT, alert_type="DAILY_DIGEST", severity=0)
    text = render_alert("email", old, STYLE).text
    assert "Type: Daily digest" in text
    assert "Severity 0 of 5, unrated" in text


def test_long_subject_is_cut_on_a_word() -> None:
    subject = render_alert("email", replace(ALERT, headline="pipeline " * 40), STYLE).subject
    assert subject.endswith("pipeline…")
    assert 100 < len(subject) <= 120


def test_right_to_left_headline_keeps_its_letters_and_joiners() -> None:
    headline = "می‌خواهیم قیمت گاز"
    message = render_alert("email", replace(ALERT, headline=headline), STYLE)
    assert headline in message.html
    assert message.subject.endswith(headline)


def test_telegram_message_reads_as_written() -> None:
    alert = replace(ALERT, headline="A < B & C > D", body="Para one.\nLine two.\n\nPara two.")
    assert render_alert("telegram", alert, STYLE).text == (
        "<b>A &lt; B &amp; C &gt; D</b>\n\n"
        "<i>High-impact event</i>\nSeverity 5 of 5, critical\nRegion: Europe\n"
        "Assets: oil, gas, FX\n8 March 2022, 19:00 CET\n\n"
        "Para one.\nLine two.\n\nPara two.\n\n"
        '<a href="https://app.example.com">Open EnergyRiskIQ</a>'
    )


def test_telegram_body_is_cut_on_a_word_and_says_so() -> None:
    shown = telegram_text(render_alert("telegram", replace(ALERT, body="a&b " * 3000), STYLE).text)
    assert "a&b…" in shown
    assert shown.endswith("Open EnergyRiskIQ")


def test_telegram_link_survives_quotes_in_its_address() -> None:
    style = replace(STYLE, app_base_url='https://a.example/"><b>&')
    text = render_alert("telegram", ALERT, style).text
    assert '<a href="https://a.example/&quot;&gt;&lt;b&gt;&amp;">' in text


def test_sms_says_severity_region_headline_and_link() -> None:
    assert render_alert("sms", ALERT, STYLE).text == (
        "EnergyRiskIQ 5/5 critical, Europe: Pipeline stops: gas flows to Germany halted\n"
        "https://app.example.com"
    )


def test_typographic_characters_do_not_cost_the_cheap_alphabet() -> None:
    alert = replace(ALERT, headline="“Gas” – it’s up…\u00a0again — «now» `x`")
    text = render_alert("sms", alert, STYLE).text
    assert is_gsm(text)
    assert '"Gas" - it\'s up... again - "now" \'x\'' in text


def test_sms_uses_the_wide_alphabet_only_when_what_is_sent_needs_it() -> None:
    late = replace(ALERT, headline="gas " * 70 + "❄")
    assert is_gsm(render_alert("sms", late, STYLE).text)
    early = render_alert("sms", replace(ALERT, headline="❄ " + "gas " * 70), STYLE).text
    assert "❄ gas" in early
    assert utf16_units(early) <= 133


def test_sms_extension_characters_count_two() -> None:
    text = render_alert("sms", replace(ALERT, headline="€" * 300), NO_LINK).text
    assert septets(text) <= 305
    assert septets("€[]") == 6


def test_sms_leaves_out_a_link_that_leaves_no_room_for_the_headline() -> None:
    style = replace(STYLE, app_base_url="https://example.com/" + "x" * 260)
    text = render_alert("sms", ALERT, style).text
    assert ALERT.headline in text
    assert "https" not in text


def test_digest_orders_by_severity_then_time() -> None:
    hour = timedelta(hours=1)
    rows = [
        replace(ALERT, event_id=1, severity=3, headline="third", created_at=ALERT.created_at),
        replace(ALERT, event_id=2, severity=5, headline="second", created_at=ALERT.created_at),
        replace(ALERT, event_id=3, headline="first", created_at=ALERT.created_at - hour),
    ]
    email = render_digest("email", rows, "daily", *WINDOW, STYLE)
    telegram = render_digest("telegram", rows, "daily", *WINDOW, STYLE)
    assert email.subject == "EnergyRiskIQ daily digest: 3 alerts, 8 March 2022"
    for text in (email.text, Page(email.html).text, telegram_text(telegram.text)):
        assert text.index("first") < text.index("second") < text.index("third")
        assert "Severity 3 of 5, moderate" in text
        assert "Europe" in text


def test_digest_of_hundreds_stays_bounded_and_counts_the_rest() -> None:
    rows = [replace(ALERT, event_id=n, headline=f"Headline {n:03}") for n in range(387)]
    email = render_digest("email", rows, "daily", *WINDOW, STYLE)
    assert "387 alerts" in email.subject
    assert "Headline 049" in email.text
    assert "Headline 050" not in email.text
    assert "and 337 more in the app" in email.text
    assert "and 337 more in the app" in email.html
    assert len(email.html) < 100_000
    shown = telegram_text(render_digest("telegram", rows, "daily", *WINDOW, STYLE).text)
    count = len(re.findall(r"Headline \d", shown))
    assert count >= 10
    assert f"and {387 - count} more in the app" in shown


@pytest.mark.parametrize(
    ("start", "hours", "expected"),
    [
        ("2022-03-08T13:00+00:00", 1, "1 alert, 8 March 2022, 14:00 to 15:00 CET"),
        ("2022-10-30T00:00+00:00", 1, "1 alert, 30 October 2022, 02:00 CEST to 02:00 CET"),
        ("2022-10-30T01:00+00:00", 1, "1 alert, 30 October 2022, 02:00 to 03:00 CET"),
        ("2022-03-26T23:00+00:00", 23, "1 alert, 27 March 2022"),
        ("2022-10-29T22:00+00:00", 25, "1 alert, 30 October 2022"),
        ("2022-03-08T22:00+00:00", 1, "1 alert, 8 March 2022, 23:00 to 9 March 2022, 00:00 CET"),
    ],
)
def test_digest_window_is_named_in_product_time(start: str, hours: int, expected: str) -> None:
    begin = datetime.fromisoformat(start)
    end = begin + timedelta(hours=hours)
    subject = render_digest("email", [ALERT], "hourly", begin, end, STYLE).subject
    assert subject == f"EnergyRiskIQ hourly digest: {expected}"


@pytest.mark.parametrize(
    ("zone", "start", "hours", "expected"),
    [
        ("Asia/Beirut", "2026-03-28T22:00+00:00", 23, "29 March 2026"),  # begins at 01:00
        ("Atlantic/Azores", "2026-10-25T00:00+00:00", 25, "25 October 2026"),
        ("America/St_Johns", "2010-11-07T02:30+00:00", 25, "7 November 2010"),
        ("Pacific/Apia", "2011-12-30T10:00+00:00", 24, "31 December 2011"),
        ("Australia/Lord_Howe", "2026-04-04T15:00+00:00", 0.5, "5 April 2026, 01:30 to 02:00"),
    ],
)
def test_window_of_a_night_on_which_the_clock_is_set_is_named_as_its_day(
    zone: str, start: str, hours: float, expected: str
) -> None:
    begin = datetime.fromisoformat(start)
    style = replace(STYLE, timezone=ZoneInfo(zone))
    subject = render_digest(
        "email", [ALERT], "daily", begin, begin + timedelta(hours=hours), style
    ).subject
    assert subject.removeprefix("EnergyRiskIQ daily digest: 1 alert, ").startswith(expected)


def test_zone_without_letters_is_named_by_its_offset() -> None:
    style = replace(STYLE, timezone=ZoneInfo("America/Sao_Paulo"))
    assert "15:00 UTC-03 (America/Sao_Paulo)" in render_alert("email", ALERT, style).text


def test_unknown_channel_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no alerts on channel 'fax'"):
        render_alert("fax", ALERT, STYLE)
    with pytest.raises(ValueError, match="no digests on channel 'sms'"):
        render_digest("sms", [ALERT], "daily", *WINDOW, STYLE)
