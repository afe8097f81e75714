"""Text messages: at most two segments, in the cheaper GSM alphabet if possible.

A segment of a multipart message holds 153 septets of the GSM 03.38 alphabet, or 67 UTF-16 units
if any character is outside it. A two-unit character is never split across segments, which can
waste one unit at the end of the first, so each budget is one unit less than two segments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from alerts.cleaning import cut, utf16_units
from alerts.messages.model import Alert, Rendered, Style
from alerts.messages.wording import APP, headline_of, region_name, severity_word

GSM_BUDGET = 2 * 153 - 1
UCS2_BUDGET = 2 * 67 - 1
HEADLINE_ROOM_MIN = 40  # units; the link is dropped if it leaves the headline less
REGION_MAX = 30

_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION = frozenset("^{}\\[~]|€")  # sent with an escape, so two septets each
_GSM = _BASIC | _EXTENSION
# Typographic characters and their equivalents in the GSM alphabet.
_PLAIN = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛‹›′‵`´ʹʻʼʽˈꞌ＇", "'"),
        **dict.fromkeys("“”„‟″‶«»〃＂", '"'),
        **dict.fromkeys("‐‑‒–—―−⁃﹘﹣－•·", "-"),
        "…": "...",
        "×": "x",
        "→": "->",
        "™": "(TM)",
        "\u200e": "",
        "\u200f": "",
    }
)


@dataclass(frozen=True, slots=True)
class _Alphabet:
    measure: Callable[[str], int]
    budget: int
    ellipsis: str


def septets(text: str) -> int:
    """Return the length in the GSM alphabet; characters outside it count as one."""
    return len(text) + sum(map(text.count, _EXTENSION))


def is_gsm(text: str) -> bool:
    """Whether every character of ``text`` is in the GSM alphabet."""
    return _GSM.issuperset(text)


_CHEAP = _Alphabet(septets, GSM_BUDGET, "...")
_WIDE = _Alphabet(utf16_units, UCS2_BUDGET, "…")


def render_alert(alert: Alert, style: Style) -> Rendered:
    """Severity, region, as much of the headline as fits, and the link if there is room."""
    region = cut(region_name(alert).translate(_PLAIN), REGION_MAX, utf16_units, "...")
    lead = f"{APP} {alert.severity}/5 {severity_word(alert)}, {region}: "
    headline = headline_of(alert).translate(_PLAIN)
    link = f"\n{style.app_base_url}" if style.app_base_url else ""
    # Cut for the GSM alphabet first: the rest may no longer need the more expensive one.
    text = _compose(lead, headline, link, _CHEAP)
    return Rendered(text=text if is_gsm(text) else _compose(lead, headline, link, _WIDE))


def _compose(lead: str, headline: str, link: str, alphabet: _Alphabet) -> str:
    measure = alphabet.measure
    room = alphabet.budget - measure(lead)
    with_link = room - measure(link)
    if with_link < min(HEADLINE_ROOM_MIN, measure(headline)):
        link, with_link = "", room
    return lead + cut(headline, with_link, measure, alphabet.ellipsis) + link
