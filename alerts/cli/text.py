"""Text for a terminal: sanitized, of known width, and laid out in columns."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

NARROWEST = 40  # columns; too narrow for a layout below that
_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}
_COLOURS = {
    "success": "green", "ok": "green", "failed": "red", "failing": "red", "error": "red",
    "skipped": "yellow", "running": "yellow", "stale": "yellow", "degraded": "yellow",
    "warning": "yellow",
}  # fmt: skip


@dataclass(frozen=True)
class Style:
    """The output's width in columns, and whether it supports colour."""

    width: int = 80
    colour: bool = False

    def paint(self, text: str, name: str) -> str:
        """Return ``text`` in a colour or weight, or unchanged without colour support."""
        return f"\x1b[{_CODES[name]}m{text}\x1b[0m" if self.colour and text else text

    def status(self, text: str) -> str:
        """Return ``text`` in the colour of the status it names, ignoring surrounding spaces."""
        return self.like(text, text.strip())

    def like(self, text: str, status: str) -> str:
        """Return ``text`` in the colour of ``status``."""
        name = _COLOURS.get(status)
        return self.paint(text, name) if name else text

    def lines(self, lines: Sequence[str], status: str) -> list[str]:
        """Colour each line separately, so that a subset of the lines also looks right."""
        return [self.like(line, status) for line in lines]


@dataclass(frozen=True)
class Column:
    """A table column; with ``status``, each cell gets the colour of the status it names."""

    heading: str
    right: bool = False
    status: bool = False


def clean(value: object) -> str:
    """Return one safe line: control and format characters (escape codes, line breaks, text
    direction) become spaces, and runs of spaces collapse."""
    text = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in str(value))
    return " ".join(text.split())


def width_of(text: str) -> int:
    """Return how many columns a clean text takes."""
    return sum(map(_width, text))


def clip(text: str, width: int) -> str:
    """Shorten a clean text to at most ``width`` columns, ending in dots if it was cut."""
    return text if width_of(text) <= width else _head(text, max(width - 3, 0)) + "..."[:width]


def moment(text: str, *, short: bool = False) -> str:
    """Format an ISO time to the minute; ``short`` omits the year."""
    return datetime.fromisoformat(text).strftime("%m-%d %H:%M" if short else "%Y-%m-%d %H:%M")


def duration(milliseconds: int | None) -> str:
    """Format as seconds, or as minutes or hours if long."""
    if milliseconds is None:
        return "-"
    seconds = milliseconds / 1000
    if seconds < 60:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m"


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Pad the text with spaces."""
    fill = " " * (width - width_of(text))
    return fill + text if right else text + fill


def wrap(value: object, width: int, indent: int = 0) -> list[str]:
    """Wrap to indented lines of at most ``width`` columns; long words are broken."""
    room = max(width - indent, 1)
    lines: list[str] = []
    line = ""
    for word in clean(value).split(" "):
        rest = word
        if line and width_of(line) + 1 + width_of(rest) <= room:
            line = f"{line} {rest}"
            continue
        if line:
            lines.append(line)
        while width_of(rest) > room:
            head = _head(rest, room) or rest[0]  # progress even if a wide character does not fit
            lines.append(head)
            rest = rest[len(head) :]
        line = rest
    return [" " * indent + part for part in (*lines, line) if part]


def facts(style: Style, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Name-value pairs, one below the other; coloured if the value begins with a status."""
    indent = max(width_of(name) for name, _ in pairs) + 2
    lines: list[str] = []
    for name, value in pairs:
        first, *more = wrap(value, style.width, indent) or [""]
        parts = style.lines([first[indent:], *more], value.partition(",")[0])
        lines += [pad(name, indent) + parts[0], *parts[1:]]
    return lines


def table(
    style: Style,
    columns: Sequence[Column],
    rows: Sequence[Sequence[object]],
    below: Sequence[Sequence[str]] = (),
    indent: int = 0,
) -> list[str]:
    """Return a table's lines, including headings; ``below`` holds extra lines for each row.

    If the table is too wide, the gaps shrink first, then the widest columns are cut.
    """
    cells = [[clean(cell) for cell in row] for row in rows]
    widths = [
        max(width_of(column.heading), *(width_of(row[n]) for row in cells), 0)
        for n, column in enumerate(columns)
    ]
    room = style.width - indent
    gap = 2 if sum(widths) + 2 * (len(widths) - 1) <= room else 1
    _narrow(widths, room - gap * (len(widths) - 1))
    heading = _row(Style(), columns, [c.heading for c in columns], widths, gap)
    lines = [" " * indent + style.paint(heading.rstrip(), "bold")]
    for n, row in enumerate(cells):
        lines.append(" " * indent + _row(style, columns, row, widths, gap).rstrip())
        lines += below[n] if below else ()
    return lines


def _row(
    style: Style, columns: Sequence[Column], row: Sequence[str], widths: Sequence[int], gap: int
) -> str:
    found = []
    for column, cell, width in zip(columns, row, widths, strict=True):
        text = pad(clip(cell, width), width, right=column.right)
        found.append(style.status(text) if column.status else text)
    return (" " * gap).join(found)


def _narrow(widths: list[int], room: int) -> None:
    """Shrink the widest columns until all fit."""
    while sum(widths) > room and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1


def _head(text: str, width: int) -> str:
    used = 0
    for n, char in enumerate(text):
        used += _width(char)
        if used > width:
            return text[:n]
    return text


def _width(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
