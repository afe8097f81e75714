"""Cutting a SQL file into its statements, so that an error can be given a line of the file.

The cuts are those psql makes: quotes, dollar quotes, comments (nested ones too), parentheses
and ``BEGIN ATOMIC`` bodies are understood. Where a file is malformed the pieces are wrong as
well, and the server then refuses one of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

# Possessive quantifiers: an unterminated quote must fail at once, not match a shorter string.
_TOKEN = re.compile(
    r"""
      (?P<line_comment>--[^\n]*+)
    | (?P<block_comment>/\*)
    | (?P<dollar>\$(?:[^\W\d]\w*+)?\$)
    | (?P<escape_string>[eE]'(?:[^'\\]|\\.|'')*+')
    | (?P<string>'(?:[^']|'')*+')
    | (?P<identifier>"(?:[^"]|"")*+")
    | (?P<word>[^\W\d][\w$]*+)
    | (?P<number>\d[\w.]*+)
    | (?P<space>\s++)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_COMMENTS = ("line_comment", "block_comment")
_STRINGS = ("dollar", "escape_string", "string")
# Words that decide what a statement is: CREATE OR REPLACE FUNCTION is the longest of interest.
_LEADING_WORDS = 4


@dataclass(frozen=True)
class Token:
    """A piece of SQL: what it is, and where it begins and ends in the text."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True)
class Statement:
    """One statement without its semicolon.

    ``line`` is the line of the file (from 1) on which the statement's first word stands,
    ``words`` its first words in upper case, ``body`` the offset in ``text`` at which its first
    string constant begins (of a DO statement: the code block), None without one.
    """

    text: str
    line: int
    words: tuple[str, ...]
    body: int | None = None

    def line_at(self, offset: int) -> int:
        """The line of the file on which the character at ``offset`` of ``text`` stands."""
        return self.line + self.text.count("\n", 0, offset)


@dataclass
class _Scan:
    """What is known of the statement being read."""

    start: int
    words: list[str] = field(default_factory=list)
    body: int | None = None
    parentheses: int = 0
    blocks: int = 0  # open BEGIN ATOMIC and CASE

    @property
    def nested(self) -> bool:
        return self.parentheses > 0 or self.blocks > 0

    def add(self, token: Token, text: str) -> None:
        piece = text[token.start : token.end]
        if token.kind == "word":
            self._add_word(piece.upper())
        elif token.kind in _STRINGS and self.body is None:
            self.body = self._inside(token, piece)
        elif piece == "(":
            self.parentheses += 1
        elif piece == ")":
            self.parentheses = max(0, self.parentheses - 1)

    def _inside(self, token: Token, piece: str) -> int:
        opening = piece.index("$", 1) if token.kind == "dollar" else piece.index("'")
        return token.start + opening + 1 - self.start

    def _add_word(self, word: str) -> None:
        if len(self.words) < _LEADING_WORDS:
            self.words.append(word)
        if self.words[0] == "CREATE" and {"FUNCTION", "PROCEDURE"} & set(self.words):
            self._follow_blocks(word)

    def _follow_blocks(self, word: str) -> None:
        if word == "BEGIN" or (word == "CASE" and self.blocks):
            self.blocks += 1
        elif word == "END" and self.blocks:
            self.blocks -= 1


def split_statements(text: str) -> list[Statement]:
    """The statements of ``text`` in order; comments between them are left out."""
    statements: list[Statement] = []
    scan: _Scan | None = None
    end = 0
    for token in _tokens(text):
        if token.kind == "space" or token.kind in _COMMENTS:
            continue
        if text[token.start] == ";" and not (scan and scan.nested):
            if scan:
                statements.append(_statement(text, scan, end))
            scan = None
            continue
        scan = scan or _Scan(token.start)
        scan.add(token, text)
        end = token.end
    if scan:
        statements.append(_statement(text, scan, end))
    return statements


def _statement(text: str, scan: _Scan, end: int) -> Statement:
    return Statement(
        text=text[scan.start : end],
        line=text.count("\n", 0, scan.start) + 1,
        words=tuple(scan.words),
        body=scan.body,
    )


def _tokens(text: str) -> Iterator[Token]:
    position = 0
    while match := _TOKEN.match(text, position):
        kind = match.lastgroup or "other"
        position = match.end()
        if kind == "block_comment":
            position = _end_of_comment(text, position)
        elif kind == "dollar":
            closing = text.find(match.group(), position)
            position = len(text) if closing < 0 else closing + len(match.group())
        yield Token(kind, match.start(), position)


def _end_of_comment(text: str, position: int) -> int:
    """The offset behind the comment whose ``/*`` ends at ``position``; comments nest."""
    depth = 1
    for edge in _COMMENT_EDGE.finditer(text, position):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(text)
