"""Header lines of emails, in any script (RFC 2047, RFC 5322)."""

from __future__ import annotations

import unicodedata
from base64 import b64encode

LINE_MAX = 76  # characters in a header line that contains encoded words
_WORD_MAX = 75
_OPEN, _CLOSE = "=?utf-8?b?", "?="
_CHARACTER_MAX = 36  # bytes of one character with its marks; fits an encoded word on any line
_JOINER = "\u200d"
_REGIONAL_INDICATORS = range(0x1F1E6, 0x1F200)
_EMOJI_MODIFIERS = range(0x1F3FB, 0x1F400)


def header(name: str, text: str, written: str | None = None, end: str = "") -> str:
    """Return the lines of a header, including CRLF: ``text`` followed by ``end`` unchanged.

    ASCII that fits on the line stays readable, as ``written`` (default: the text itself). Text that
    looks like an encoded word is encoded, because mail programs would decode it.
    """
    written = text if written is None else written
    room = LINE_MAX - len(name) - len(": ")
    if not (written.isascii() and len(written) <= room and "=?" not in written):
        written = "\r\n ".join(_encoded_words(text, room))
    last = written.rpartition("\r\n")[2]
    used = len(last) + (len(name) + len(": ") if last == written else 0)
    fits = used + len(" ") + len(end) <= LINE_MAX
    gap = (" " if fits else "\r\n ") if end else ""
    return f"{name}: {written}{gap}{end}\r\n"


def _encoded_words(text: str, room: int) -> list[str]:
    """Encode ``text``: the first word fits ``room`` characters, each later word its own line."""
    words = []
    part = b""
    for character in _characters(text):
        encoded = character.encode("utf-8", "replace")
        if part and _length(part + encoded) > min(room, _WORD_MAX):
            words.append(part)
            part, room = b"", LINE_MAX - len(" ")
        part += encoded
    words.append(part)
    return [f"{_OPEN}{b64encode(word).decode()}{_CLOSE}" for word in words]


def _length(part: bytes) -> int:
    return len(_OPEN) + (len(part) + 2) // 3 * 4 + len(_CLOSE)


def _characters(text: str) -> list[str]:
    """Split ``text`` into user-visible characters: marks, joiners and flags stay together.

    A pile of marks too long for one encoded word is split between the marks.
    """
    found: list[str] = []
    for character in text:
        if found and _belongs(found[-1], character):
            found[-1] += character
        else:
            found.append(character)
    return found


def _belongs(before: str, character: str) -> bool:
    if len((before + character).encode("utf-8", "replace")) > _CHARACTER_MAX:
        return False
    if ord(character) in _REGIONAL_INDICATORS:
        return len(before) == 1 and ord(before) in _REGIONAL_INDICATORS
    return (
        before.endswith(_JOINER)
        or character == _JOINER
        or ord(character) in _EMOJI_MODIFIERS
        or unicodedata.category(character).startswith("M")
    )
