"""An alert to render, and strict parsers for the rendered output."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from html import unescape
from html.parser import HTMLParser
from zoneinfo import ZoneInfo

from alerts.messages import Alert, Style

CHANNELS = ("email", "telegram", "sms")
STYLE = Style("https://app.example.com", ZoneInfo("Europe/Amsterdam"))
NO_LINK = replace(STYLE, app_base_url=None)
ALERT = Alert(
    event_id=17,
    alert_type="HIGH_IMPACT_EVENT",
    severity=5,
    region="Europe",
    assets=("oil", "gas", "fx"),
    headline="Pipeline stops: gas flows to Germany halted",
    body="Flows stopped at 06:00.\n\nDrivers:\n- a leak\n- maintenance & repair",
    created_at=datetime(2022, 3, 8, 18, tzinfo=UTC),
)
WINDOW = (datetime(2022, 3, 7, 23, tzinfo=UTC), datetime(2022, 3, 8, 23, tzinfo=UTC))
VOID_TAGS = {"meta", "br"}


class Page(HTMLParser):
    """Parses HTML strictly (every tag closed in order) and collects text, links and tags."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def links(self) -> set[str | None]:
        return {attrs["href"] for _, attrs in self.tags if "href" in attrs}


def telegram_text(markup: str) -> str:
    """Return the text Telegram shows; fails on anything but the plainest tags, not nested."""
    shown, open_tag = "", ""
    for piece in re.findall(r"<[^>]*>|&[^;]{1,8};|[^<&]+|.", markup, re.S):
        if piece.startswith("<"):
            start = re.fullmatch(r'<(?:(b)|(i)|(a) href="[^"<>]*")>', piece)
            if start:
                assert not open_tag
                open_tag = start[1] or start[2] or start[3]
            else:
                assert piece == f"</{open_tag}>"
                open_tag = ""
        elif piece.startswith("&"):
            assert piece in ("&lt;", "&gt;", "&amp;", "&quot;", "&#x27;")
            shown += unescape(piece)
        else:
            assert ">" not in piece
            shown += piece
    assert not open_tag
    return shown
