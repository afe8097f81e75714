"""Text messages: at most two segments, in the cheap alphabet where possible.

A segment of a message in parts holds 153 septets of the GSM 03.38 alphabet, or 67 UTF-16 units
when any character is outside of it. A character of two units is not split over two segments,
which can waste one unit at the end of the first: the budgets are one short of two segments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from alerts.cleaning import cut, utf16_units
from alerts.messages.model import Alert, Rendered, Style
from alerts.messages.wording import APP, headline_of, region_name, severity_word

GSM_BUDGET = 2 * 153 - 1
UCS2_BUDGET = 2 * 67 - 1
HEADLINE_ROOM_MIN = 40  # units; a link that leaves the headline less is left out
REGION_MAX = 30

_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION = frozenset("^{}\\[~]|€")  # behind an escape: two septets each
_GSM = _BASIC | _EXTENSION
# What typesetters put in and the alphabet has under another name.
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
    """The length of ``text`` in the GSM alphabet, counting foreign characters as one."""
    return len(text) + sum(map(text.count, _EXTENSION))


def is_gsm(text: str) -> bool:
    """Whether every character of ``text`` is in the GSM alphabet."""
    return _GSM.issuperset(text)


_CHEAP = _Alphabet(septets, GSM_BUDGET, "...")
_WIDE = _Alphabet(utf16_units, UCS2_BUDGET, "…")


def render_alert(alert: Alert, style: Style) -> Rendered:
    """Severity, region, as much of the headline as fits, and the link if it fits too."""
    region = cut(region_name(alert).translate(_PLAIN), REGION_MAX, utf16_units, "...")
    lead = f"{APP} {alert.severity}/5 {severity_word(alert)}, {region}: "
    headline = headline_of(alert).translate(_PLAIN)
    link = f"\n{style.app_base_url}" if style.app_base_url else ""
    # Cut to the cheap alphabet's room first: what remains may no longer need the other one.
    text = _compose(lead, headline, link, _CHEAP)
    return Rendered(text=text if is_gsm(text) else _compose(lead, headline, link, _WIDE))


def _compose(lead: str, headline: str, link: str, alphabet: _Alphabet) -> str:
    measure = alphabet.measure
    room = alphabet.budget - measure(lead)
    with_link = room - measure(link)
    if with_link < min(HEADLINE_ROOM_MIN, measure(headline)):
        link, with_link = "", room
    return lead + cut(headline, with_link, measure, alphabet.ellipsis) + link
