"""Sanitize untrusted text and truncate it at natural boundaries.

Headlines and bodies come from news feeds. Whatever comes in, the text that leaves this module
has no control characters, no lone surrogates and nothing that reorders surrounding text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator

from wcwidth import iter_graphemes

ELLIPSIS = "…"
MARKS_MAX = 10  # per letter; no script needs more, and piled-up marks cover other lines

_REPLACEMENT = "\ufffd"
# Invisible and never needed for reading: soft hyphen, zero-width space, word joiner, deprecated
# format characters, annotations, tags. The joiners U+200C and U+200D and the directional marks
# stay: Persian, Hindi, Arabic and emoji need them.
_INVISIBLE = (
    "\u00ad\u180e\u200b\ufeff"
    + "".join(map(chr, range(0x2060, 0x2066)))
    + "".join(map(chr, range(0x206A, 0x2070)))
    + "\ufff9\ufffa\ufffb"
    + "".join(map(chr, range(0xE0000, 0xE0080)))
)
# Embeddings, overrides and isolates: their effect extends beyond the text that contains them.
_BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_CONTROLS = "".join(map(chr, (*range(0x20), *range(0x7F, 0xA0)))) + "\u2028\u2029"
_HARMLESS: dict[int, str] = {
    **{ord(c): " " for c in _CONTROLS},
    **{ord(c): "" for c in _INVISIBLE + _BIDI},
    **dict.fromkeys(range(0xD800, 0xE000), _REPLACEMENT),
    **dict.fromkeys((0xFFFE, 0xFFFF), _REPLACEMENT),
}
# Text without a match has no combining marks and needs no per-character check.
_MAY_HOLD_MARKS = re.compile("[^\u0000-\u02ff\u2000-\u20cf\u2100-\u2bff]")
_UNSEEN_ALONE = " \u200c\u200d\u200e\u200f\u061c"


def clean_line(text: str) -> str:
    """Return ``text`` as one stripped line of visible characters and single spaces."""
    if not (text.isascii() and text.isprintable()):
        text = unicodedata.normalize("NFC", text.translate(_HARMLESS))
        if _MAY_HOLD_MARKS.search(text):
            text = "".join(_without_piled_marks(text))
        if not text.strip(_UNSEEN_ALONE):
            return ""
    return " ".join(text.split())


def clean_paragraphs(text: str) -> list[list[str]]:
    """Split ``text`` at blank lines into paragraphs, each a list of clean lines."""
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
    """Return ``text`` if it measures at most ``limit``, else its beginning plus ``ellipsis``.

    Cuts between words, or between graphemes if a single word fills more than half of the limit;
    a grapheme (a letter with its marks, an emoji) is never split. ``measure`` must count one or
    two units per character. Returns an empty string if the limit is too small for the ellipsis.
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
    """Return at most the first ``limit`` characters, to bound the work on untrusted text.

    Ends between graphemes, unless a single grapheme is longer than the limit.
    """
    return text if len(text) <= limit else text[: _boundary(text, limit) or limit]


def cut_paragraphs(
    paragraphs: list[list[str]], limit: int, measure: Callable[[str], int] = len
) -> list[list[str]]:
    """Return the first lines whose measures total at most ``limit``, two units per line break.

    The first line that does not fit is cut; the rest is dropped.
    """
    limit -= measure(ELLIPSIS) + 2  # room for an ellipsis when the cut falls between two lines
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
    """Return the last grapheme boundary at or before ``index``."""
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
