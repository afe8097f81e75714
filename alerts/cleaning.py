"""Making foreign text harmless, and cutting it where a reader would.

Headlines and bodies come from news feeds. What leaves this module holds no control character,
no lone surrogate and nothing that reorders the text around it, whatever came in.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator

from wcwidth import iter_graphemes

ELLIPSIS = "…"
MARKS_MAX = 10  # per letter; no script needs more, and piled-up marks cover other lines

_REPLACEMENT = "\ufffd"
# Invisible, and never needed to read a text: soft hyphen, zero-width space and joiner-less
# marks, deprecated format characters, annotations, tags. The joiners U+200C and U+200D and the
# directional marks stay: Persian, Hindi, Arabic and emoji are spelled with them.
_INVISIBLE = (
    "\u00ad\u180e\u200b\ufeff"
    + "".join(map(chr, range(0x2060, 0x2066)))
    + "".join(map(chr, range(0x206A, 0x2070)))
    + "\ufff9\ufffa\ufffb"
    + "".join(map(chr, range(0xE0000, 0xE0080)))
)
# Embeddings, overrides and isolates: they reach past the end of the text that holds them.
_BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_CONTROLS = "".join(map(chr, (*range(0x20), *range(0x7F, 0xA0)))) + "\u2028\u2029"
_HARMLESS: dict[int, str] = {
    **{ord(c): " " for c in _CONTROLS},
    **{ord(c): "" for c in _INVISIBLE + _BIDI},
    **dict.fromkeys(range(0xD800, 0xE000), _REPLACEMENT),
    **dict.fromkeys((0xFFFE, 0xFFFF), _REPLACEMENT),
}
# Where no combining mark lives; text made of this alone needs no look at each character.
_MAY_HOLD_MARKS = re.compile("[^\u0000-\u02ff\u2000-\u20cf\u2100-\u2bff]")
_UNSEEN_ALONE = " \u200c\u200d\u200e\u200f\u061c"


def clean_line(text: str) -> str:
    """``text`` as one line of visible characters and single spaces, stripped."""
    if not (text.isascii() and text.isprintable()):
        text = unicodedata.normalize("NFC", text.translate(_HARMLESS))
        if _MAY_HOLD_MARKS.search(text):
            text = "".join(_without_piled_marks(text))
        if not text.strip(_UNSEEN_ALONE):
            return ""
    return " ".join(text.split())


def clean_paragraphs(text: str) -> list[list[str]]:
    """The paragraphs of ``text``, each a list of clean lines; blank lines part paragraphs."""
    paragraphs: list[list[str]] = [[]]
    for raw in text.splitlines():
        line = clean_line(raw)
        if line:
            paragraphs[-1].append(line)
        elif paragraphs[-1]:
            paragraphs.append([])
    return [lines for lines in paragraphs if lines]


def utf16_units(text: str) -> int:
    """The length of ``text`` as Telegram and UCS-2 messages count it."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2


def cut(
    text: str, limit: int, measure: Callable[[str], int] = len, ellipsis: str = ELLIPSIS
) -> str:
    """``text`` if it measures at most ``limit``, else its beginning and ``ellipsis``.

    Cuts between words, or where a single word fills more than half of the limit between
    characters as a reader sees them: never inside a grapheme (a letter with its marks, an emoji).
    ``measure`` gives one or two units to every character. A limit too small for the ellipsis
    gives the empty string.
    """
    if measure(text) <= limit:
        return text
    room = limit - measure(ellipsis)
    if room < 0:
        return ""
    end = _fitting(text, room, measure)
    space = text.rfind(" ", 0, end + 1)
    end = _boundary(text, space if space * 2 > end else end)
    return text[: _boundary(text, len(text[:end].rstrip(" ,;:…")))] + ellipsis


def head(text: str, limit: int) -> str:
    """The first characters of ``text``, at most ``limit``: what of a foreign text is looked at.

    Ends between graphemes, unless a single one is longer than that.
    """
    return text if len(text) <= limit else text[: _boundary(text, limit) or limit]


def cut_paragraphs(
    paragraphs: list[list[str]], limit: int, measure: Callable[[str], int] = len
) -> list[list[str]]:
    """The first lines whose measures sum to at most ``limit``, line breaks counted as two.

    The line that does not fit is cut; what comes after it is dropped.
    """
    limit -= measure(ELLIPSIS) + 2  # so that a cut between two lines can be shown as well
    kept: list[list[str]] = []
    for lines in paragraphs:
        kept.append([])
        for line in lines:
            size = measure(line)
            if size > limit:
                kept[-1].append(cut(line, limit, measure) or ELLIPSIS)
                return kept
            kept[-1].append(line)
            limit = max(limit - size - 2, 0)
    return kept


def _fitting(text: str, limit: int, measure: Callable[[str], int]) -> int:
    end = min(len(text), limit)
    while (excess := measure(text[:end]) - limit) > 0:
        end -= (excess + 1) // 2  # no character measures more than two
    return end


def _boundary(text: str, index: int) -> int:
    """The last place at or before ``index`` where one grapheme ends and another begins."""
    if index >= len(text):
        return len(text)
    *_, last = iter_graphemes(text[: index + 1])
    return index + 1 - len(last)


def _without_piled_marks(text: str) -> Iterator[str]:
    marks = 0
    for char in text:
        marks = marks + 1 if unicodedata.category(char).startswith("M") else 0
        if marks <= MARKS_MAX:
            yield char
